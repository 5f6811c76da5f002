//! How long requests take, by the pattern of their route: a middleware around everything.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;

use super::metrics::Request;
use super::{Metrics, route_name};

/// Measures from a request to the head of its answer; for `wrap(from_fn(…))` around the app.
///
/// # Errors
/// What the services inside returned.
pub async fn measure<B: MessageBody>(
    metrics: Metrics,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let begun = Instant::now();
    let response = next.call(request).await?;
    let request = response.request();
    let kind = Request {
        method: method(request.method()),
        // Addresses that are none share a name, so that nobody can make names without end.
        route: route_name(request).unwrap_or_else(|| "unmatched".to_owned()),
        status: class(response.status()),
    };
    metrics.answered(&kind, begun.elapsed());
    Ok(response)
}

fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
