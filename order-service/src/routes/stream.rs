//! One order as a stream of server-sent events: its state now, then each change, until it is settled.
//!
//! Each event is named `order`, its id is the order's revision and its data the order as GET shows it. What this
//! process settles is told at once; what another instance settles is found by looking now and then.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use common::http::{self, Problem, ProblemResult, event_stream};
use common::orders::OrderId;
use common::signals::Waiter;
use futures::stream::unfold;
use tokio::time::timeout;

use super::orders::{OrderView, find};
use crate::orders::{self, OrderStatus, Orders};

/// Streams that may be open at once.
const MAX_STREAMS: usize = 256;
/// How often the database is asked, whatever was signalled.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

struct OrderStream {
    orders: Orders,
    id: OrderId,
    waiter: Waiter,
    /// What was sent last.
    revision: i64,
    /// Whether nothing more is to come.
    ended: bool,
    /// The first event, until it is sent.
    first: Option<Bytes>,
}

/// Answers with the stream of the order `id`.
///
/// # Errors
/// 404 when there is no such order, 503 when too many streams are open.
pub(super) async fn open(orders: &Orders, id: OrderId) -> ProblemResult<HttpResponse> {
    // First to wait, then to look: nothing falls between.
    let waiter = orders.signals.wait_for(&id.to_string(), MAX_STREAMS).ok_or_else(|| {
        Problem::unavailable(format!(
            "{MAX_STREAMS} streams are open already; read the order without accept: text/event-stream"
        ))
    })?;
    let (view, status) = find(orders, id).await?;
    let stream = OrderStream {
        orders: orders.clone(),
        id,
        waiter,
        revision: view.revision(),
        ended: status.is_settled(),
        first: Some(event(&view)?),
    };
    let events = unfold(stream, |mut stream| async move {
        let next = stream.next().await?;
        Some((next, stream))
    });
    Ok(event_stream(events, orders.stopping.clone()))
}

fn event(view: &OrderView) -> ProblemResult<Bytes> {
    http::event("order", view.revision(), view)
}

impl OrderStream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while !self.ended {
            // A timeout is as good a reason to look as a signal.
            let _signalled = timeout(POLL_INTERVAL, self.waiter.changed()).await;
            if let Some(change) = self.poll().await {
                return Some(change);
            }
        }
        None
    }

    /// The order, if it is another than the one sent last; a database that is away is asked again later.
    async fn poll(&mut self) -> Option<Bytes> {
        let id = self.id;
        let read =
            self.orders.db.read(move |conn| orders::revision(conn, id).map_err(Problem::from));
        let revision = read.await.ok().flatten()?;
        if revision == self.revision {
            return None;
        }
        let (view, status) = find(&self.orders, id).await.ok()?;
        self.sent(&view, status);
        event(&view).ok()
    }

    fn sent(&mut self, view: &OrderView, status: OrderStatus) {
        self.revision = view.revision();
        self.ended = status.is_settled();
    }
}
