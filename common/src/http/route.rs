//! Routes by method, and what is answered where nothing is: unknown addresses, and methods that an address
//! does not know.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, ResponseError, Route, guard, web};

use super::Problem;

/// 404 for an address that is none: the default service of the app and of every scope.
pub async fn unknown_route(request: HttpRequest) -> Result<&'static str, Problem> {
    Err(Problem::not_found(format!("there is nothing at {}; check the address", request.path())))
}

/// 405 with the methods that there are: the default service of every resource.
pub fn wrong_method(allow: &'static str) -> Route {
    web::to(move || async move {
        let mut response = Problem::method_not_allowed().error_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        response
    })
}

/// A route for GET and HEAD (RFC 9110, 9.1: a server has both).
pub fn reading() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}
