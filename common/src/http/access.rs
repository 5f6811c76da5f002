//! Who may ask: a bearer token per scope, and the principal that a request acts for.

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

/// Who a request acts for: part of what an `Idempotency-Key` is bound to, and of what history remembers.
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

/// A bearer token of the settings, of which only the digest is kept; an empty one is none.
#[derive(Clone, Copy)]
pub struct StaticToken(Option<[u8; 32]>);

impl StaticToken {
    /// The token as it was configured.
    pub fn new(token: &SecretString) -> Self {
        let token = token.expose_secret();
        Self((!token.is_empty()).then(|| Sha256::digest(token.as_bytes()).into()))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether `token` is it. Digests of equal length are compared in constant time: the timing tells nothing.
    pub fn is(&self, token: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.0.is_some_and(|digest| bool::from(given.ct_eq(&digest)))
    }
}

/// A scope of routes and the token that it asks for; without one it asks for none.
#[derive(Clone, Copy)]
pub struct Access {
    token: StaticToken,
    principal: &'static str,
}

impl Access {
    /// Requests with `token` act for `principal`.
    pub fn new(token: &SecretString, principal: &'static str) -> Self {
        Self { token: StaticToken::new(token), principal }
    }

    fn admits(&self, header: Option<&str>) -> Result<(), Problem> {
        if !self.token.is_set() {
            return Ok(());
        }
        let Some(token) = header.and_then(|header| header.strip_prefix("Bearer ")) else {
            return Err(Problem::unauthorized("send the header authorization: Bearer <token>"));
        };
        match self.token.is(token) {
            true => Ok(()),
            false => Err(Problem::unauthorized("this token is not the configured one")),
        }
    }
}

type GuardedResponse<B> = Result<ServiceResponse<EitherBody<B>>, actix_web::Error>;

impl Access {
    /// Lets a request through, or answers 401; for `wrap(from_fn(move |r, n| access.clone().guard(r, n)))`.
    pub fn guard<B: MessageBody + 'static>(
        self,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Pin<Box<dyn Future<Output = GuardedResponse<B>>>> {
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
