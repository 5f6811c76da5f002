//! The trace that a request belongs to, as the W3C `traceparent` header names it.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};

use crate::trace_context::TraceContext;

/// The `traceparent` of what a request causes: the request's own step in its trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceParent(pub Option<String>);

impl TraceParent {
    /// A valid `traceparent`, if the headers have exactly one; anything else counts as none, as W3C asks.
    pub(crate) fn of_header(headers: &HeaderMap) -> Option<&str> {
        let mut headers = headers.get_all("traceparent");
        let only = match (headers.next(), headers.next()) {
            (Some(header), None) => header.to_str().ok(),
            _ => None,
        };
        only.filter(|text| text.parse::<TraceContext>().is_ok())
    }
}

impl FromRequest for TraceParent {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let own = request.extensions().get::<TraceContext>().map(ToString::to_string);
        let named = || Self::of_header(request.headers()).map(str::to_owned);
        ready(Ok(Self(own.or_else(named))))
    }
}
