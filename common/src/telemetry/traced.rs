//! A request as a step of a trace, and as the place where log lines come from.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest};
use tracing::Instrument;

use super::spans::{Span, Spans};
use crate::http::TraceParent;
use crate::trace_context::TraceContext;

/// Handles `request` as a step of the trace that it names, or of a new one; for `from_fn`.
///
/// Probes and scrapes are left out: they come every few seconds and belong to nothing.
///
/// # Errors
/// Those of the handler.
pub async fn traced<B: MessageBody>(
    spans: Spans,
    service: tracing::Span,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if is_probe(request.path()) {
        return next.call(request).instrument(service).await;
    }
    let named = TraceParent::of_header(request.headers()).and_then(|text| text.parse().ok());
    let begun = spans.begin_request(named);
    let context = begun.as_ref().map_or_else(|around| *around, Span::context);
    request.extensions_mut().insert(context);
    let begun = begun.ok().map(|span| describe(span, &request));
    let method = request.method().clone();
    let answered = next.call(request).instrument(within(&service, context)).await;
    if let Some(span) = begun {
        let (status, route) = match &answered {
            Ok(response) => (response.status(), route_name(response.request())),
            Err(error) => (error.as_response_error().status_code(), None),
        };
        end(&spans, span, &method, status, route);
    }
    answered
}

fn is_probe(path: &str) -> bool {
    path == "/metrics" || path.starts_with("/health/")
}

/// Where a request's log lines come from.
fn within(service: &tracing::Span, context: TraceContext) -> tracing::Span {
    let trace_id = format_args!("{:032x}", context.trace);
    tracing::error_span!(parent: service, "request", %trace_id)
}

fn describe(span: Span, request: &ServiceRequest) -> Span {
    // The query is left out: it may say what a log should not.
    span.with("http.request.method", method_name(request.method()))
        .with("url.path", request.path().to_owned())
        .with("url.scheme", "http")
}

fn end(spans: &Spans, span: Span, method: &Method, status: StatusCode, route: Option<String>) {
    let mut span = span.with("http.response.status_code", i64::from(status.as_u16()));
    let method = match method_name(method) {
        "_OTHER" => "HTTP",
        name => name,
    };
    span = match route {
        Some(route) => span.named(format!("{method} {route}")).with("http.route", route),
        None => span.named(method.to_owned()),
    };
    if status.is_server_error() {
        span = span.with("error.type", status.as_u16().to_string());
    }
    spans.end(span, status.is_server_error().then_some(""));
}

/// The route that a request came to, such as `/api/v1/inventory/{sku}`; `None`: there is none.
pub fn route_name(request: &HttpRequest) -> Option<String> {
    request.match_pattern().map(|pattern| without_rules(&pattern))
}

/// A pattern without what its parameters may look like: `{sku:[^/]*}` is `{sku}`.
fn without_rules(pattern: &str) -> String {
    let mut name = String::with_capacity(pattern.len());
    let (mut depth, mut in_rule) = (0_usize, false);
    for letter in pattern.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 1 => in_rule = true,
            _ => {}
        }
        in_rule &= depth > 0;
        if !in_rule {
            name.push(letter);
        }
    }
    name
}

/// A method that is known; whatever else a client makes up must not become a name.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::without_rules;

    #[test]
    fn a_route_is_named_without_its_rules() {
        for (pattern, name) in [
            ("/api/v1/inventory/{sku:[^/]*}", "/api/v1/inventory/{sku}"),
            ("/a/{id:[0-9]{3}}/b/{c}", "/a/{id}/b/{c}"),
            ("/api/v1:x", "/api/v1:x"),
            ("", ""),
        ] {
            assert_eq!(without_rules(pattern), name);
        }
    }
}
