//! Orders: taken against the copy of the inventory, confirmed or refused by the owner of the stock.
//!
//! An order is written together with its `stockloop.order.placed` event; what becomes of that event, and of the
//! `stockloop.order.cancelled` that may follow, moves the order on in the same transaction ([`OrdersListener`]).
//! `reservation` keeps what is promised and not yet deducted apart from the copy.

mod cancel;
mod fields;
mod listener;
mod lost;
mod model;
mod place;
pub(crate) mod reservation;
mod state;
#[cfg(test)]
pub(crate) mod tests;

use common::clock::Timestamp;
use common::db::Db;
use common::env::Env;
use common::http::KeysInProgress;
use common::signals::Signals;
use engine::outbox::Outbox;
use tokio_util::sync::CancellationToken;

pub use cancel::{CancelError, cancel};
pub use fields::{CancelOrder, Customer, PlaceOrder, Quantity, Reason, WantedLine, WantedLines};
pub use listener::OrdersListener;
pub use lost::OrdersCommander;
pub use model::{Order, OrderFilter, OrderLineRow, OrderRow, OrderStepRow, find, page, revision};
pub use place::{LineRefusal, PlaceOutcome, PlaceRefusal, place_group};
pub use state::{Cancellation, OrderStatus, Placement};

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
