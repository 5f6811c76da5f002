//! `GET /stream`: the overview as server-sent events, one for each new sample.
//!
//! A state of the overview makes all earlier ones superfluous, so a client that comes back gets only the newest
//! one, and only if it is newer than its `Last-Event-ID`. A stream ends after [`LIFETIME`], and the client opens
//! another: so whoever signed out, or may no longer look, sees nothing after that.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use common::http::{Params, Problem, ProblemResult, event, event_stream, wrong_method};
use engine::stats::Sample;
use futures::stream::unfold;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Admin;
use super::overview::Overview;
use crate::access::{Area, Role, Rule};

/// Streams that may be open at once, in all workers.
const MAX_STREAMS: usize = 64;
/// How long a stream lasts: the guard is asked again within a minute.
const LIFETIME: Duration = Duration::from_secs(50);
/// When clients come back, in milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/stream", Role::Viewer, Area::Overview)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    scope.service(web::resource("/stream").get(open).default_service(wrong_method("GET")));
}

struct Stream {
    admin: Admin,
    samples: watch::Receiver<Option<Arc<Sample>>>,
    /// The `as_of` of what the client has.
    told: i64,
    ends_at: Instant,
    greeted: bool,
}

/// The overview as server-sent events named `overview`, one for each new sample.
///
/// The data is what `GET /overview` answers, the id is its `as_of` in microseconds. A client that comes back with
/// `Last-Event-ID` gets the newest state at once if it is newer; states in between are not sent. The stream ends
/// within a minute, and browsers then come back by themselves.
#[utoipa::path(
    get,
    path = "/api/admin/v1/stream",
    tag = "overview",
    params(("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that came")),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn open(
    admin: Data<Admin>,
    request: HttpRequest,
    params: Params,
) -> ProblemResult<HttpResponse> {
    params.finish()?;
    let samples = admin.sampler.follow(MAX_STREAMS).ok_or_else(|| {
        Problem::unavailable(format!("{MAX_STREAMS} streams are open already; read /overview"))
    })?;
    let stopping = admin.stopping.clone();
    let ends_at = Instant::now() + LIFETIME;
    let stream = Stream {
        admin: admin.get_ref().clone(),
        samples,
        told: last_id(&request),
        ends_at,
        greeted: false,
    };
    let events = unfold(stream, |mut stream| async move {
        let next = stream.next().await?;
        Some((next, stream))
    });
    Ok(event_stream(events, stopping))
}

/// What the client has already; an id that is none of ours counts as nothing.
fn last_id(request: &HttpRequest) -> i64 {
    let header = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    header.and_then(|id| id.trim().parse().ok()).unwrap_or(0)
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(Bytes::from_static(RETRY));
        }
        loop {
            let newest = self.samples.borrow_and_update().clone();
            if let Some(sample) = newest.filter(|sample| sample.as_of.micros() > self.told) {
                self.told = sample.as_of.micros();
                return event("overview", self.told, &Overview::of(&self.admin, &sample)).ok();
            }
            timeout_at(self.ends_at, self.samples.changed()).await.ok()?.ok()?;
        }
    }
}
