//! The answer to a write, as it is sent and kept.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use serde::Serialize;

use crate::http::{Problem, ProblemResult};

/// The header that tells an answer that was kept from one that was just made.
const REPLAYED: &str = "idempotent-replayed";

/// The answer to a write, whether it was done or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub(super) status: i32,
    pub(super) etag: Option<String>,
    pub(super) location: Option<String>,
    pub(super) body: String,
    /// Whether it was given before, and kept.
    pub(super) replayed: bool,
}

impl Reply {
    /// An answer of JSON.
    pub fn json(status: StatusCode, body: &impl Serialize) -> ProblemResult<Self> {
        let body = serde_json::to_string(body).map_err(|error| Problem::internal(&error))?;
        let status = i32::from(status.as_u16());
        Ok(Self { status, etag: None, location: None, body, replayed: false })
    }

    /// An answer without a body: 204.
    pub fn no_content() -> Self {
        let body = String::new();
        Self { status: 204, etag: None, location: None, body, replayed: false }
    }

    /// With the version as its `ETag`.
    #[must_use]
    pub fn with_version(mut self, version: i64) -> Self {
        self.etag = Some(format!("\"{version}\""));
        self
    }

    /// With a `Location`.
    #[must_use]
    pub fn with_location(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    /// Whether the write was done, rather than refused.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// As an HTTP response.
    pub fn into_response(self) -> HttpResponse {
        let status = u16::try_from(self.status).ok().and_then(|s| StatusCode::from_u16(s).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if let Some(etag) = self.etag {
            response.insert_header((ETAG, etag));
        }
        if let Some(location) = self.location {
            response.insert_header((LOCATION, location));
        }
        if self.replayed {
            response.insert_header((REPLAYED, "true"));
        }
        if self.body.is_empty() {
            return response.finish();
        }
        let problem = status.is_client_error() || status.is_server_error();
        let kind = if problem { "application/problem+json" } else { "application/json" };
        response.insert_header((CONTENT_TYPE, kind)).body(self.body)
    }
}

impl From<&Problem> for Reply {
    fn from(problem: &Problem) -> Self {
        let body = serde_json::to_string(problem).unwrap_or_default();
        let status = i32::from(problem.status);
        Self { status, etag: None, location: None, body, replayed: false }
    }
}
