//! Headers that tell browsers to be strict.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;

/// Nothing but what this service itself serves: no inline script, no inline style, no frame around it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

/// An answer of the API is not a page: it may load nothing, and nobody may frame it.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Adds the headers of pages; for `wrap(from_fn(page_headers))`.
///
/// # Errors
/// As what it wraps.
pub async fn page_headers<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let mut response = next.call(request).await?;
    add(response.headers_mut(), PAGE_POLICY);
    Ok(response)
}

/// Adds the headers of the API; for `wrap(from_fn(api_headers))`.
///
/// # Errors
/// As what it wraps.
pub async fn api_headers<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let mut response = next.call(request).await?;
    add(response.headers_mut(), API_POLICY);
    Ok(response)
}

/// Adds what is not there: whoever answers may know better, as the documentation's own pages do.
fn add(headers: &mut HeaderMap, policy: &'static str) {
    let mut set = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    set(CONTENT_SECURITY_POLICY, policy);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "same-origin");
    set(CACHE_CONTROL, "no-store");
}
