//! `If-Match` and `If-None-Match` on versions (RFC 9110, 13): a client says which state it knows.

use std::future::{Ready, ready};

use actix_web::http::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload};
use serde::Serialize;
use thiserror::Error;

use super::{Problem, ProblemResult};

/// What a request says that it knows of the thing's version; says nothing if it has neither header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precondition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// Why a request does not go together with the present version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PreconditionFailed {
    /// `If-Match` on something that is not there.
    #[error("If-Match names a version, but there is none now")]
    Missing,
    /// `If-Match` names other versions.
    #[error(
        "its version is \"{0}\" now, which If-Match does not name; read it again before you retry"
    )]
    Different(i64),
    /// `If-None-Match` on a version that is there.
    #[error("it already exists, at version \"{0}\", which If-None-Match rules out")]
    Present(i64),
}

impl From<PreconditionFailed> for Problem {
    fn from(failed: PreconditionFailed) -> Self {
        Self::precondition_failed(failed.to_string())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    opaque: String,
    weak: bool,
}

impl Precondition {
    /// The response to a GET of something at `version`: 304 when the reader has that already, else `body` as JSON;
    /// both with the version as `ETag`.
    ///
    /// # Errors
    /// 412 when `If-Match` names other versions.
    pub fn respond(&self, version: i64, body: &impl Serialize) -> ProblemResult<HttpResponse> {
        let etag = (ETAG, format!("\"{version}\""));
        if self.knows(version) {
            return Ok(HttpResponse::NotModified().insert_header(etag).finish());
        }
        self.check(Some(version))?;
        Ok(HttpResponse::Ok().insert_header(etag).json(body))
    }

    /// Checks a write against the `current` version; `None` when the thing is not there.
    ///
    /// # Errors
    /// Which condition does not hold.
    pub fn check(&self, current: Option<i64>) -> Result<(), PreconditionFailed> {
        match (&self.if_match, current) {
            (Some(_), None) => return Err(PreconditionFailed::Missing),
            // Weak tags never match here: a write needs to know the exact state.
            (Some(tags), Some(version)) if !tags.name(version, |tag| !tag.weak) => {
                return Err(PreconditionFailed::Different(version));
            }
            _ => {}
        }
        match (&self.if_none_match, current) {
            (Some(tags), Some(version)) if tags.name(version, |_| true) => {
                Err(PreconditionFailed::Present(version))
            }
            _ => Ok(()),
        }
    }

    /// Whether a reader has `version` already, so that 304 is the answer.
    pub fn knows(&self, version: i64) -> bool {
        let tags = self.if_none_match.as_ref();
        tags.is_some_and(|tags| tags.name(version, |_| true))
    }
}

impl Tags {
    fn name(&self, version: i64, admits: impl Fn(&Tag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => {
                let version = version.to_string();
                tags.iter().any(|tag| tag.opaque == version && admits(tag))
            }
        }
    }

    fn of(request: &HttpRequest, name: &HeaderName) -> ProblemResult<Option<Self>> {
        let unreadable = || {
            Problem::malformed(format!("{name} must be * or versions in quotes, such as \"3\""))
                .at(name.as_str())
        };
        let mut tags = Vec::new();
        let mut headers = request.headers().get_all(name).peekable();
        if headers.peek().is_none() {
            return Ok(None);
        }
        for header in headers {
            let text = header.to_str().map_err(|_| unreadable())?.trim();
            if text == "*" {
                return Ok(Some(Self::Any));
            }
            for tag in text.split(',') {
                tags.push(Tag::parse(tag.trim()).ok_or_else(unreadable)?);
            }
        }
        Ok(Some(Self::Listed(tags)))
    }
}

impl Tag {
    fn parse(text: &str) -> Option<Self> {
        let (text, weak) = match text.strip_prefix("W/") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let opaque = text.strip_prefix('"')?.strip_suffix('"')?.to_owned();
        Some(Self { opaque, weak })
    }
}

impl FromRequest for Precondition {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Tags::of(request, &IF_MATCH).and_then(|if_match| {
            Ok(Self { if_match, if_none_match: Tags::of(request, &IF_NONE_MATCH)? })
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn given(name: HeaderName, value: &str) -> ProblemResult<Precondition> {
        let request = TestRequest::default().insert_header((name, value)).to_http_request();
        Precondition::from_request(&request, &mut Payload::None).into_inner()
    }

    #[test]
    fn if_match_wants_the_exact_version() {
        let check = |value, current| given(IF_MATCH, value).unwrap().check(current);
        assert_eq!(check("\"3\"", Some(3)), Ok(()));
        assert_eq!(check("\"2\", \"3\"", Some(3)), Ok(()));
        assert_eq!(check("*", Some(3)), Ok(()));
        assert_eq!(check("*", None), Err(PreconditionFailed::Missing));
        assert_eq!(check("\"2\"", Some(3)), Err(PreconditionFailed::Different(3)));
        assert_eq!(check("W/\"3\"", Some(3)), Err(PreconditionFailed::Different(3)));
    }

    #[test]
    fn if_none_match_wants_another_version_or_none() {
        let check = |value, current| given(IF_NONE_MATCH, value).unwrap().check(current);
        assert_eq!(check("*", None), Ok(()));
        assert_eq!(check("*", Some(1)), Err(PreconditionFailed::Present(1)));
        assert_eq!(check("W/\"1\"", Some(1)), Err(PreconditionFailed::Present(1)));
        assert_eq!(check("\"1\"", Some(2)), Ok(()));
        assert!(given(IF_NONE_MATCH, "W/\"4\"").unwrap().knows(4));
    }

    #[test]
    fn what_is_no_tag_is_refused_instead_of_ignored() {
        for bad in ["3", "\"3", "", "\"3\" \"4"] {
            assert_eq!(given(IF_MATCH, bad).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(Precondition::default().check(None), Ok(()));
    }
}
