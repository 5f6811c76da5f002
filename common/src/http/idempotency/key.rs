//! What a key is bound to, and which of them this process is busy with.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::{IF_MATCH, IF_NONE_MATCH};
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use sha2::{Digest, Sha256};

use crate::http::path::plain_path;
use crate::http::{Principal, Problem, ProblemResult};

/// The longest key that is taken, in characters.
const MAX_KEY: usize = 255;

/// The key of a write, with all that it is bound to; absent when the client sent none.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(Option<KeyedRequest>);

#[derive(Debug, Clone)]
struct KeyedRequest {
    bound: Bound,
    /// As one text; empty without any.
    preconditions: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    pub(super) principal: String,
    pub(super) route: String,
    pub(super) key: String,
}

impl Bound {
    /// What other instances lock it by.
    pub(super) fn number(&self) -> i64 {
        let text = format!("{}\n{}\n{}", self.principal, self.route, self.key);
        let hash: [u8; 32] = Sha256::digest(text).into();
        hash.iter().take(8).fold(0_i64, |n, byte| (n << 8) | i64::from(*byte))
    }
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        std::future::ready(Self::of(request, payload))
    }
}

/// A request with a key, and what tells it apart from others with that key.
#[derive(Debug, Clone)]
pub(crate) struct HashedRequest {
    pub(super) bound: Bound,
    pub(super) request_hash: String,
}

impl IdempotencyKey {
    /// The request that it came with, of this body; none without a key.
    pub(crate) fn with_body(self, body: &[u8]) -> Option<HashedRequest> {
        let KeyedRequest { bound, preconditions } = self.0?;
        Some(HashedRequest { bound, request_hash: request_hash(body, &preconditions) })
    }

    fn of(request: &HttpRequest, payload: &mut Payload) -> ProblemResult<Self> {
        let Some(header) = request.headers().get("idempotency-key") else {
            return Ok(Self(None));
        };
        let key = header.to_str().unwrap_or_default().trim();
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Problem::invalid(
                "Idempotency-Key",
                format!("the key must be 1 to {MAX_KEY} visible ASCII characters"),
            ));
        }
        let principal = Principal::from_request(request, payload).into_inner()?;
        let route = format!("{} {}", request.method(), plain_path(request));
        let bound = Bound { principal: principal.0, route, key: key.to_owned() };
        Ok(Self(Some(KeyedRequest { bound, preconditions: preconditions(request) })))
    }
}

/// What a request says in `If-Match` and `If-None-Match`, however it is spread over headers.
fn preconditions(request: &HttpRequest) -> String {
    let mut text = String::new();
    for name in [IF_MATCH, IF_NONE_MATCH] {
        let headers = request.headers().get_all(&name);
        let tags: Vec<&str> = headers
            .flat_map(|header| header.to_str().unwrap_or_default().split(','))
            .map(str::trim)
            .collect();
        if !tags.is_empty() {
            text.push_str(&format!("{name}: {}\n", tags.join(", ")));
        }
    }
    text
}

/// The keyed writes that this process is busy with; one per service.
#[derive(Debug, Clone, Default)]
pub struct KeysInProgress(Arc<Mutex<HashSet<Bound>>>);

impl KeysInProgress {
    /// Begins a write.
    ///
    /// # Errors
    /// 409 while another one with its key goes on here.
    pub(crate) fn begin(&self, request: HashedRequest) -> ProblemResult<KeyedWrite> {
        let HashedRequest { bound, request_hash } = request;
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match running.insert(bound.clone()) {
            true => Ok(KeyedWrite { bound, request_hash, running: self.clone() }),
            false => Err(still_running()),
        }
    }
}

/// A keyed write that goes on in this process, until it is dropped.
pub(crate) struct KeyedWrite {
    pub(super) bound: Bound,
    pub(super) request_hash: String,
    running: KeysInProgress,
}

impl Drop for KeyedWrite {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.bound);
    }
}

pub(super) fn still_running() -> Problem {
    Problem::conflict(
        "idempotency-running",
        "a request with this Idempotency-Key is still running; repeat it when that has ended",
    )
}

/// What tells the requests with one key apart: body and preconditions.
fn request_hash(body: &[u8], preconditions: &str) -> String {
    let body = Sha256::digest(body);
    if preconditions.is_empty() {
        // As the last release writes it: during an upgrade, each finds the answers that the other kept.
        return hex::encode(body);
    }
    hex::encode(Sha256::new().chain_update(body).chain_update(preconditions).finalize())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn keyed(request: TestRequest) -> KeyedRequest {
        let request = request.insert_header(("idempotency-key", "k")).to_http_request();
        IdempotencyKey::of(&request, &mut Payload::None).unwrap().0.unwrap()
    }

    fn bound(request: TestRequest) -> Bound {
        keyed(request).bound
    }

    fn stated(headers: &[(&str, &str)]) -> String {
        let request = TestRequest::default();
        let request =
            headers.iter().fold(request, |request, header| request.append_header(*header));
        keyed(request).preconditions
    }

    #[test]
    fn a_key_belongs_to_a_method_and_an_address_however_it_is_spelled() {
        let put = |path: &str| bound(TestRequest::put().uri(path));
        assert_eq!(put("/inventory/I%2FA").route, "PUT /inventory/I%2FA");
        assert_eq!(put("/inventory/I%2FA"), put("/inventory/%49%2f%41"));
        assert_ne!(put("/inventory/I%2FA"), put("/inventory/I/A"));
        assert_ne!(put("/inventory/I%2FA"), put("/inventory/I%252FA"));
        assert_ne!(put("/inventory/A"), bound(TestRequest::delete().uri("/inventory/A")));
    }

    #[test]
    fn preconditions_are_the_same_however_they_are_written() {
        assert_eq!(stated(&[]), "");
        let both = stated(&[("if-match", "\"1\",  \"2\"")]);
        assert_eq!(both, stated(&[("if-match", "\"1\""), ("if-match", "\"2\"")]));
        assert_ne!(both, stated(&[("if-match", "\"1\"")]));
        assert_ne!(stated(&[("if-match", "*")]), stated(&[("if-none-match", "*")]));
    }

    #[test]
    fn requests_differ_by_body_and_preconditions() {
        let hashes = [
            request_hash(b"a", ""),
            request_hash(b"b", ""),
            request_hash(b"a", "if-match: *\n"),
            request_hash(b"b", "if-match: *\n"),
            request_hash(b"a", "if-none-match: *\n"),
        ];
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        assert_eq!(request_hash(b"a", ""), hex::encode(Sha256::digest(b"a")));
    }
}
