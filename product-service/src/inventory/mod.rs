//! The inventory: products, their stock, and every change of them with its event.

mod batch;
mod change;
mod details;
mod events;
mod fields;
mod model;
mod read;
mod refusal;
#[cfg(test)]
pub(crate) mod tests;

use actix_web::HttpResponse;
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::env::Env;
use common::http::{IdempotencyKey, KeysInProgress, ProblemResult, Reply, TraceParent, idempotent};
use engine::outbox::Outbox;

pub use batch::{LineAnswer, adjust_batch};
pub use change::{PutOutcome, adjust, put, remove};
pub use details::{DetailsContent, LongDescription, details, put_details};
pub(crate) use events::{cause_of_order, event};
pub use fields::{
    Adjustment, AdjustmentBatch, AdjustmentLine, AdjustmentLines, Description, Price,
    ProductContent, Reason, Reference,
};
pub use model::{NewAdjustment, Product, page};
pub(crate) use model::{lock_all, update_stock};
pub(crate) use read::existing;
pub use read::get;
pub use refusal::{ChangeError, ChangeRefusal};

/// What the inventory's routes work with; cheap to clone.
#[derive(Clone)]
pub struct Inventory {
    /// The service's database.
    pub db: Db,
    /// Time and ids.
    pub env: Env,
    /// Where each change puts its event.
    pub outbox: Outbox,
    /// The writes with an `Idempotency-Key` that are going on.
    pub keys: KeysInProgress,
}

/// What every write needs besides its content.
#[derive(Clone)]
pub struct WriteContext {
    /// Where its event goes.
    pub outbox: Outbox,
    /// Now.
    pub now: Timestamp,
    /// The trace of the request.
    pub traceparent: Option<String>,
}

impl Inventory {
    /// Runs one write with its event and its kept reply in one transaction, then wakes the relay.
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
        let context = WriteContext { outbox: self.outbox.clone(), now, traceparent: trace.0 };
        let reply =
            idempotent(&self.db, &self.keys, key, body, now, move |conn| work(conn, &context))
                .await?;
        if reply.is_success() {
            self.outbox.wake();
        }
        Ok(reply.into_response())
    }
}
