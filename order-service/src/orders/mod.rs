//! Orders: taken against the copy of the inventory, confirmed or refused by the owner of the stock.
//!
//! An order is written together with its `order.placed` event; what becomes of that event, and of the
//! `order.cancelled` that may follow, moves the order on in the same transaction ([`OrdersListener`]).
//! `reservation` keeps what is promised and not yet deducted apart from the copy.

mod cancel;
mod fields;
mod listener;
mod model;
mod place;
pub(crate) mod reservation;
mod state;
#[cfg(test)]
mod tests;

use actix_web::HttpResponse;
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::env::Env;
use common::http::{IdempotencyKey, KeysInProgress, ProblemResult, Reply, TraceParent, idempotent};
use common::signals::Signals;
use engine::outbox::Outbox;
use tokio_util::sync::CancellationToken;

pub use cancel::{CancelError, cancel};
pub use fields::{CancelOrder, Customer, PlaceOrder, Quantity, Reason, WantedLine, WantedLines};
pub use listener::OrdersListener;
pub use model::{Order, OrderFilter, OrderLineRow, OrderRow, OrderStepRow, find, page, revision};
pub use place::{LineRefusal, PlaceError, place};
pub use state::{Cancellation, Placement, Status};

/// What the orders' routes work with; cheap to clone.
#[derive(Clone)]
pub struct Orders {
    /// The service's database.
    pub db: Db,
    /// Time and ids.
    pub env: Env,
    /// Where orders put their commands.
    pub outbox: Outbox,
    /// The writes with an `Idempotency-Key` that are going on.
    pub keys: KeysInProgress,
    /// Who waits for an order to change.
    pub signals: Signals,
    /// Cancelled when the service stops.
    pub stopping: CancellationToken,
}

/// What every write needs besides its content.
#[derive(Clone)]
pub struct WriteContext {
    /// Time and ids.
    pub env: Env,
    /// Where its command goes.
    pub outbox: Outbox,
    /// Who waits for an order to change.
    pub signals: Signals,
    /// Now.
    pub now: Timestamp,
    /// The trace of the request.
    pub traceparent: Option<String>,
}

impl Orders {
    /// Runs one write with its command and its kept reply in one transaction, then wakes the relay and whoever
    /// waits for an order to change.
    ///
    /// # Errors
    /// 409 or 422 for a misused `Idempotency-Key`, 5xx when the database fails; refusals are `Ok`.
    pub async fn write(
        &self,
        key: IdempotencyKey,
        body: &[u8],
        trace: TraceParent,
        work: impl FnOnce(&mut Conn, &WriteContext) -> ProblemResult<Reply> + Send + 'static,
    ) -> ProblemResult<HttpResponse> {
        let now = self.env.now();
        let context = WriteContext {
            env: self.env.clone(),
            outbox: self.outbox.clone(),
            signals: self.signals.clone(),
            now,
            traceparent: trace.0,
        };
        let reply =
            idempotent(&self.db, &self.keys, key, body, now, move |conn| work(conn, &context))
                .await?;
        if reply.is_success() {
            self.outbox.wake();
            self.signals.publish();
        }
        Ok(reply.into_response())
    }
}
