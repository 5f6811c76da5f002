//! The inventory: products, their stock, and every change of them with its event.

mod batch;
mod change;
mod details;
mod events;
mod fields;
mod model;
mod refusal;
#[cfg(test)]
pub(crate) mod tests;

use actix_web::HttpResponse;
use common::db::{Conn, Db, EmbeddedMigrations, MigrationSet, embed_migrations};
use common::env::Env;
use common::http::{IdempotencyKey, ProblemResult, Reply, Running, TraceParent, idempotent};
use common::outbox::Outbox;

pub use batch::{LineAnswer, adjust_batch};
pub(crate) use change::present;
pub use change::{Changed, Changing, adjust, put, remove};
pub use details::{DetailsContent, LongDescription, details, put_details};
pub(crate) use events::{event, of_order};
pub use fields::{Adjustment, Batch, Content, Description, Line, Lines, Price, Reason, Reference};
pub use model::{NewAdjustment, Product, find, page};
pub(crate) use model::{lock_all, update_stock};
pub use refusal::{ChangeError, Refusal};

static POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/product/postgres");
static SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/product/sqlite");

/// This service's own tables; run after [`common::db::ENGINE_MIGRATIONS`].
pub const MIGRATIONS: MigrationSet = MigrationSet { postgres: &POSTGRES, sqlite: &SQLITE };

/// What the inventory's routes work with; cheap to clone.
#[derive(Clone)]
pub struct Inventory {
    /// The service's database.
    pub db: Db,
    /// Time and ids.
    pub env: Env,
    /// Where each change puts its event.
    pub outbox: Outbox,
    /// The keyed writes that are going on.
    pub running: Running,
}

impl Inventory {
    /// Runs one change with its event and its kept answer in one transaction, then wakes the relay.
    ///
    /// # Errors
    /// 409 or 422 for a misused `Idempotency-Key`, 5xx when the database fails; refusals are `Ok`.
    pub async fn change(
        &self,
        key: IdempotencyKey,
        body: &[u8],
        trace: TraceParent,
        work: impl FnOnce(&mut Conn, &Changing) -> ProblemResult<Reply> + Send + 'static,
    ) -> ProblemResult<HttpResponse> {
        let now = self.env.now();
        let changing = Changing { outbox: self.outbox.clone(), now, traceparent: trace.0 };
        let reply =
            idempotent(&self.db, &self.running, key, body, now, move |conn| work(conn, &changing))
                .await?;
        if reply.is_success() {
            self.outbox.wake();
        }
        Ok(reply.into_response())
    }
}
