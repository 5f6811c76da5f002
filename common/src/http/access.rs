//! Who may ask: a bearer token per scope, and the principal that a request acts for.

use std::net::SocketAddr;
use std::pin::Pin;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError, dev::Payload};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Problem;

/// Whom a request acts for: part of what an `Idempotency-Key` is bound to, and of what history remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(pub String);

impl FromRequest for Principal {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Self>().cloned();
        std::future::ready(Ok(known.unwrap_or_else(|| Self("anonymous".to_owned()))))
    }
}

/// A scope of routes and the token that it asks for; an empty token asks for none.
#[derive(Clone)]
pub struct Access {
    digest: Option<[u8; 32]>,
    principal: &'static str,
}

impl Access {
    /// Requests with `token` act for `principal`.
    pub fn new(token: &SecretString, principal: &'static str) -> Self {
        let token = token.expose_secret();
        let digest = (!token.is_empty()).then(|| Sha256::digest(token.as_bytes()).into());
        Self { digest, principal }
    }

    /// Whether a token is asked for.
    pub fn is_guarded(&self) -> bool {
        self.digest.is_some()
    }

    fn admits(&self, header: Option<&str>) -> Result<(), Problem> {
        let Some(digest) = &self.digest else {
            return Ok(());
        };
        let Some(token) = header.and_then(|header| header.strip_prefix("Bearer ")) else {
            return Err(Problem::unauthorized("send the header authorization: Bearer <token>"));
        };
        // Digests of equal length in constant time: the answer's timing tells nothing of the token.
        let given: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if bool::from(given.ct_eq(digest)) {
            Ok(())
        } else {
            Err(Problem::unauthorized("this token is not the configured one"))
        }
    }
}

type Answer<B> = Result<ServiceResponse<EitherBody<B>>, actix_web::Error>;

impl Access {
    /// Lets a request through, or answers 401; for `wrap(from_fn(move |r, n| access.clone().guard(r, n)))`.
    pub fn guard<B: MessageBody + 'static>(
        self,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Pin<Box<dyn Future<Output = Answer<B>>>> {
        Box::pin(async move {
            let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            if let Err(problem) = self.admits(header) {
                let response = problem.error_response().map_into_right_body();
                return Ok(request.into_response(response));
            }
            request.extensions_mut().insert(Principal(self.principal.to_owned()));
            Ok(next.call(request).await?.map_into_left_body())
        })
    }
}

/// Refuses to listen where others could reach an unguarded service.
///
/// # Errors
/// When `bind` is not loopback and no admin token is set.
pub fn check_exposure(bind: &[SocketAddr], admin: &Access) -> Result<(), String> {
    let open = bind.iter().find(|address| !address.ip().is_loopback());
    match open {
        Some(address) if !admin.is_guarded() => Err(format!(
            "refusing to listen on {address}: others could reach it and no admin token is set; set STOCKLOOP__HTTP__ADMIN_TOKEN, or bind to 127.0.0.1"
        )),
        _ => Ok(()),
    }
}
