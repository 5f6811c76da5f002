//! Errors as RFC 9457 problem details.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::db::DbError;
use crate::duration::written;

/// What a handler returns.
pub type ProblemResult<T> = Result<T, Problem>;

/// One `application/problem+json` answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Which kind of problem, as a stable name: `urn:stockloop:problem:<name>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, to what, and what to do.
    pub detail: String,
    /// The part of the request that it is about, such as `lines[3].delta`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong with each part, where several are.
    #[serde(default, skip_serializing_if = "<[PartProblem]>::is_empty")]
    pub errors: Box<[PartProblem]>,
    /// After how many seconds to ask again; goes into the header `Retry-After`.
    #[serde(skip)]
    #[schema(ignore)]
    pub retry_after: Option<NonZeroU32>,
}

/// What is wrong with one part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartProblem {
    /// Which part, such as `lines[3]`.
    pub field: String,
    /// A stable name for programs, such as `insufficient_stock`.
    pub reason: String,
    /// The same in words.
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, name: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:stockloop:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            errors: Box::default(),
            retry_after: None,
        }
    }

    /// 400: the request can't be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request can't be read", detail)
    }

    /// 422: it can be read, but a value is not allowed.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "A value is not allowed", detail)
            .at(field)
    }

    /// 401: a token is asked for.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not authenticated", detail)
    }

    /// 403: who asks is known, but may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "That is not allowed", detail)
    }

    /// 429: too often; `wait` says how long to let it be.
    pub fn too_many_requests(detail: impl fmt::Display, wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            format!("{detail}; try again in {seconds} s"),
        );
        problem.retry_after = NonZeroU32::new(seconds);
        problem
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 409: it doesn't go together with the present state.
    pub fn conflict(name: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, name, "It conflicts with the current state", detail)
    }

    /// 410: it was there and is not kept any more.
    pub fn gone(name: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, name, "It is not kept any more", detail)
    }

    /// 412: the version is another one by now.
    pub fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition-failed",
            "It was changed in the meantime",
            detail,
        )
    }

    /// 413: the body is too large.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            format!("the body is larger than {limit} bytes; send it in parts"),
        )
    }

    /// 408: the body did not come in time.
    pub fn body_late(within: Duration) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-late",
            "The body did not come in time",
            format!("the body was not there within {}; send it again", written(within)),
        )
    }

    /// 415: the body is of another type.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body has an unsupported type",
            "send JSON with the header content-type: application/json",
        )
    }

    /// 405: this method does not exist here.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not allowed",
            "this address does not support that method; /api/openapi.json or the documentation lists those it supports",
        )
    }

    /// 503: the database or the service is not there for now; after a second it may be.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::not_yet("unavailable", "Not available now", detail, Duration::from_secs(1))
    }

    /// 503: not yet, for a reason of its own name; `wait` says after how long to ask again.
    pub fn not_yet(name: &str, title: &str, detail: impl Into<String>, wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, name, title, detail);
        problem.retry_after = NonZeroU32::new(seconds);
        problem
    }

    /// 503: it was to be written, and nobody said whether it was. It has no `Retry-After`: without a key, it might be done twice.
    pub fn not_known() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "outcome-not-known",
            "It is not known whether this was done",
            "the answer to the commit was lost, so whether this was done is not known: repeat the same request with the same \
             Idempotency-Key, which finds out; if it had none, read first what it was to change",
        )
    }

    /// 500: a flaw of this program; its cause is in the log, not in the answer.
    pub fn internal(error: &dyn fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::unexplained()
    }

    /// 500 as it is answered.
    pub fn unexplained() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the service failed; its log says why",
        )
    }

    /// Names the part of the request that it is about; empty for the whole of it.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into()).filter(|field| !field.is_empty());
        self
    }

    /// Adds what is wrong with each part.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<PartProblem>) -> Self {
        self.errors = errors.into();
        self
    }

    /// The status as a number that HTTP libraries take.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.title, self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if self.status == 401 {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        response.body(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        Self::from(&error)
    }
}

impl From<&DbError> for Problem {
    fn from(error: &DbError) -> Self {
        match error {
            DbError::Query(error) => error.into(),
            DbError::Panicked => Self::internal(error),
            DbError::NotKnown { .. } => {
                tracing::warn!(%error, "whether a request was done is not known");
                Self::not_known()
            }
            DbError::Busy => Self::unavailable("too many requests wait already; try again shortly"),
            DbError::Unreachable { .. }
            | DbError::Unusable { .. }
            | DbError::Pooler(_)
            | DbError::Closed => {
                tracing::warn!(%error, "a request found no database");
                Self::unavailable("the database can't be used now; try again shortly")
            }
        }
    }
}

impl From<diesel::result::Error> for Problem {
    fn from(error: diesel::result::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&diesel::result::Error> for Problem {
    fn from(error: &diesel::result::Error) -> Self {
        use crate::db::Fault;
        match Fault::of_query(error) {
            Fault::World | Fault::Locked => {
                tracing::warn!(%error, "the database can't do what a request asks for");
                Self::unavailable(
                    "the database can't do this now; try again shortly, and see the service's log if it lasts",
                )
            }
            Fault::Data | Fault::Constraint | Fault::Setup | Fault::Unknown => {
                Self::internal(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Fault;

    #[test]
    fn only_what_may_be_done_is_not_to_be_tried_again_blindly() {
        let (location, reason) = ("postgres://db".to_owned(), "gone".to_owned());
        let nothing_done = [
            DbError::Busy,
            DbError::Closed,
            DbError::Unreachable { location: location.clone(), reason: reason.clone() },
            DbError::Unusable { location, reason: reason.clone() },
            DbError::Query(diesel::result::Error::BrokenTransactionManager),
        ];
        for error in nothing_done {
            let problem = Problem::from(&error);
            assert_eq!(problem.kind, "urn:stockloop:problem:unavailable", "{error}");
            assert!(problem.detail.contains("try again"), "{problem}");
            assert!(problem.error_response().headers().contains_key(RETRY_AFTER), "{error}");
        }
        let problem = Problem::from(DbError::NotKnown { fault: Fault::World, reason });
        assert_eq!(
            (problem.status, &*problem.kind),
            (503, "urn:stockloop:problem:outcome-not-known")
        );
        assert!(problem.detail.contains("is not known"), "{problem}");
        assert!(problem.detail.contains("same Idempotency-Key, which finds out"), "{problem}");
        assert!(!problem.error_response().headers().contains_key(RETRY_AFTER));
    }
}
