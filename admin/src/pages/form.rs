//! What an HTML form sends.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use common::clock::Timestamp;
use common::http::{Problem, ProblemResult, read_body};
use futures::future::LocalBoxFuture;
use secrecy::SecretString;

/// The fields of a form, in the order of the page; an empty one is the same as none.
#[derive(Default)]
pub(super) struct Form(Vec<(String, String)>);

impl FromRequest for Form {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, ProblemResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_form = request.headers().contains_key(CONTENT_TYPE)
            && request.content_type().eq_ignore_ascii_case("application/x-www-form-urlencoded");
        let body = read_body(request, payload);
        Box::pin(async move {
            if !is_form {
                return Err(Problem::malformed("send the form that is on the page"));
            }
            Self::parse(&body.await?)
        })
    }
}

impl Form {
    fn parse(bytes: &[u8]) -> ProblemResult<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Problem::malformed(format!("the form is not text: {error}")))?;
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text)
            .map_err(|error| Problem::malformed(format!("the form can't be read: {error}")))?;
        let pairs = pairs.into_inner();
        if let Some((name, _)) = pairs.iter().find(|(_, value)| value.contains('\0')) {
            return Err(Problem::invalid(name, "it holds U+0000; leave that out"));
        }
        Ok(Self(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }

    /// The text of a field, if it was filled in; browsers end lines with CR LF.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.replace("\r\n", "\n"))
    }

    /// The text of a field that has to be filled in.
    ///
    /// # Errors
    /// 422 at the field when it is empty.
    pub(super) fn needed(&self, name: &str) -> ProblemResult<String> {
        self.text(name).ok_or_else(|| Problem::invalid(name, "this is required; fill it in"))
    }

    /// A secret field; a missing one is the same as an empty one.
    pub(super) fn secret(&self, name: &str) -> SecretString {
        SecretString::from(self.text(name).unwrap_or_default())
    }

    /// All values of a field that may be there several times.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let fields = self.0.iter().filter(|(field, _)| field == name);
        fields.map(|(_, value)| value.clone()).collect()
    }

    /// The value of a field, if it was filled in; `wanted` says what it has to be.
    ///
    /// # Errors
    /// 422 at the field when it can't be read.
    pub(super) fn take<T>(&self, name: &str, wanted: &str) -> ProblemResult<Option<T>>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        let bad = |error| Problem::invalid(name, format!("{text:?} is not {wanted}: {error}"));
        text.trim().parse().map(Some).map_err(bad)
    }

    /// A moment in UTC, as a `datetime-local` field has it (without a zone), or in full.
    ///
    /// # Errors
    /// 422 at the field when it can't be read.
    pub(super) fn moment(&self, name: &str) -> ProblemResult<Option<Timestamp>> {
        self.text(name).map(|text| moment_at(name, &text)).transpose()
    }
}

/// The moment that the text of a field or parameter says.
///
/// # Errors
/// 422 at `name` when it can't be read.
pub(super) fn moment_at(name: &str, text: &str) -> ProblemResult<Timestamp> {
    moment(text).ok_or_else(|| {
        Problem::invalid(name, format!("{text:?} is not a time such as 2026-01-31T12:00"))
    })
}

/// Reads `2026-01-31T12:00`, with or without seconds and zone; without one it is UTC.
fn moment(text: &str) -> Option<Timestamp> {
    let zoned = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z")];
    zoned.iter().find_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_browsers_send_them() {
        let noon = "2026-01-31T12:00:00Z".parse::<Timestamp>().ok();
        for text in ["2026-01-31T12:00", "2026-01-31T12:00:00", "2026-01-31T13:00:00+01:00"] {
            assert_eq!(moment(text), noon, "{text}");
        }
        assert_eq!(moment("tomorrow"), None);
    }

    #[test]
    fn empty_fields_are_none_and_many_are_kept() {
        let form = Form::parse(b"id=1&id=2&reason=&text=a%0D%0Ab").unwrap_or_default();
        assert_eq!(form.all("id"), ["1", "2"]);
        assert_eq!(form.text("reason"), None);
        assert_eq!(form.text("text").as_deref(), Some("a\nb"));
        assert_eq!(form.needed("reason").map_err(|problem| problem.status), Err(422));
        let nul = Form::parse(b"id=1&text=a%00").map(drop).map_err(|problem| problem.field);
        assert_eq!(nul, Err(Some("text".to_owned())));
    }
}
