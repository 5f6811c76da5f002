//! What a person sees when something is refused or fails: a page, or a redirect to sign in.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HOST, REFERER, RETRY_AFTER};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, ResponseError};
use askama::Template;
use common::http::Problem;

use super::context::{Frame, admin_of, encoded, page, see};
use super::show::filters;
use crate::access::Caller;

#[derive(Template)]
#[template(path = "admin/failure.html")]
struct FailurePage<'a> {
    frame: Frame,
    problem: &'a Problem,
    back: Option<String>,
}

/// How the guard's refusals look: who is not known is sent to sign in, and comes back from there.
pub(super) fn refuse(request: &ServiceRequest, problem: &Problem) -> HttpResponse {
    if problem.status != 401 {
        return failure(request.request(), problem);
    }
    let next = match request.method().is_safe() {
        true => request.uri().path_and_query().map(|whole| whole.as_str().to_owned()),
        // What a form sent is lost with the session; its page is where to begin again.
        false => referer(request.request()),
    };
    match next.as_deref().and_then(local) {
        Some(next) => see(&format!("/admin/login?next={}", encoded(next)), ""),
        None => see("/admin/login", ""),
    }
}

/// Makes a page of every problem that a handler answers with.
pub(super) async fn dress<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let response = next.call(request).await?;
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>());
    let Some(problem) = problem.cloned() else { return Ok(response.map_into_left_body()) };
    let page = failure(response.request(), &problem);
    Ok(response.into_response(page).map_into_right_body())
}

fn failure(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    let caller = request.extensions().get::<Caller>().cloned();
    let made = admin_of(request).and_then(|admin| {
        let frame = Frame::new(&admin, caller.as_ref(), request.path(), "");
        page(problem.status(), &FailurePage { frame, problem, back: referer(request) })
    });
    let mut response = made.unwrap_or_else(|problem| problem.error_response());
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.get().into());
    }
    response
}

/// The page of ours that a request came from.
fn referer(request: &HttpRequest) -> Option<String> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (_, rest) = header(REFERER)?.split_once("://")?;
    let path = rest.strip_prefix(header(HOST)?)?;
    local(path).map(str::to_owned)
}

/// `address`, if it is a page of ours: a link that was made elsewhere must not lead away after signing in.
pub(super) fn local(address: &str) -> Option<&str> {
    let rest = address.strip_prefix("/admin")?;
    let ours = rest.is_empty() || rest.starts_with(['/', '?']);
    let odd = |c: char| c.is_control() || c == '\\';
    let signing = ["/login", "/logout", "/setup"].iter().any(|page| rest.starts_with(page));
    (ours && !signing && !address.contains(odd)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn only_our_own_pages_are_led_to() {
        for ours in ["/admin", "/admin/events?key=a%20b&status=SENT", "/admin?done=x"] {
            assert_eq!(local(ours), Some(ours));
        }
        for other in [
            "",
            "https://evil.example/admin",
            "//evil.example/admin",
            "/\\evil.example",
            "/administrator",
            "/admin\\..\\x",
            "/admin/\r\nset-cookie: x=1",
            "/admin/login?next=/admin/login",
            "/api/admin/v1/overview",
        ] {
            assert_eq!(local(other), None, "{other:?}");
        }
    }
}
