//! The defence against other sites' pages acting with a browser's session (CSRF), and against names that were made
//! to point at this machine (DNS rebinding).
//!
//! Browsers say where a request comes from: in `Sec-Fetch-Site`, older ones in `Origin`. A request that changes
//! something and comes from elsewhere is refused, whatever it carries; no form needs a token that could be
//! forgotten. (The idea: F. Valsorda, "Cross-Site Request Forgery", 2025, and Go's `http.CrossOriginProtection`.)

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HOST, ORIGIN};
use common::http::{Problem, ProblemResult};

/// Refuses what a page of another site sends.
///
/// # Errors
/// 403 that says so.
pub(super) fn check_origin(request: &ServiceRequest) -> ProblemResult<()> {
    if request.method().is_safe() {
        return Ok(());
    }
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let same = match header("sec-fetch-site") {
        Some(site) => matches!(site, "same-origin" | "none"),
        // Neither: no browser, so nobody's session is misused.
        None => match header(ORIGIN.as_str()) {
            None => true,
            Some(origin) => host_of(origin).is_some_and(|host| Some(host) == header(HOST.as_str())),
        },
    };
    match same {
        true => Ok(()),
        false => Err(Problem::forbidden("this request comes from a page of another site")),
    }
}

/// Where nothing else is asked for: that the request is meant for this machine by a name that can't be forged.
///
/// # Errors
/// 403 that says so.
pub(super) fn check_loopback(request: &ServiceRequest) -> ProblemResult<()> {
    let host =
        request.headers().get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let local = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    // A request that no server took from the network, in a test, has no peer.
    let near = request.peer_addr().is_none_or(|peer| peer.ip().is_loopback());
    match local && near {
        true => Ok(()),
        false => Err(Problem::forbidden(
            "access.open admits only requests for 127.0.0.1 or localhost, from this machine",
        )),
    }
}

fn host_of(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, host)| host)
}
