//! Routes by method: reading includes HEAD, and a method that is not there gets 405 with what is.

use actix_web::http::header::ALLOW;
use actix_web::{HttpResponse, ResponseError, Route, guard, web};

use super::Problem;

/// A route for GET and HEAD (RFC 9110, 9.1: a server has both).
pub fn reading() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The default of a resource that knows only the `methods`, such as `"GET, HEAD, PUT"`.
pub fn only(methods: &'static str) -> Route {
    web::to(move || async move {
        let problem = Problem::method_not_allowed();
        let mut response: HttpResponse = problem.error_response();
        response.headers_mut().insert(
            ALLOW,
            actix_web::http::header::HeaderValue::from_static(methods),
        );
        response
    })
}
