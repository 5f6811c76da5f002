//! Server-sent events: how they are written, and the heartbeat that keeps their connection alive.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Bytes;
use futures::stream::{Stream, StreamExt, unfold};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Problem, ProblemResult};

/// How often something is sent, so that nobody in between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a heartbeat is: a comment, which clients skip.
const BEAT: &[u8] = b": still here\n\n";

/// One event: its name, its id (which a client that comes back sends as `Last-Event-ID`), and its data as JSON.
///
/// # Errors
/// When the data can't be written, which would be a flaw of this program.
pub fn event(name: &str, id: impl Display, data: &impl Serialize) -> ProblemResult<Bytes> {
    let data = serde_json::to_string(data).map_err(|error| Problem::internal(&error))?;
    Ok(Bytes::from(format!("event: {name}\nid: {id}\ndata: {data}\n\n")))
}

struct Sending {
    events: Pin<Box<dyn Stream<Item = Bytes>>>,
    stopping: CancellationToken,
    beat_at: Instant,
}

/// Answers with `events` as they come; ends with them, or when `stopping` is cancelled.
pub fn event_stream(
    events: impl Stream<Item = Bytes> + 'static,
    stopping: CancellationToken,
) -> HttpResponse {
    let sending =
        Sending { events: Box::pin(events), stopping, beat_at: Instant::now() + HEARTBEAT };
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(unfold(sending, |mut sending| async move {
            let next = sending.next().await?;
            Some((Ok::<_, Infallible>(next), sending))
        }))
}

impl Sending {
    async fn next(&mut self) -> Option<Bytes> {
        let next = tokio::select! {
            biased;
            next = self.events.next() => next,
            () = self.stopping.cancelled() => None,
            () = sleep_until(self.beat_at) => Some(Bytes::from_static(BEAT)),
        };
        self.beat_at = Instant::now() + HEARTBEAT;
        next
    }
}
