//! How a route writes: one transaction with the event and the kept reply.

use actix_web::HttpResponse;
use common::db::Conn;
use common::http::{IdempotencyKey, ProblemResult, Reply, TraceParent, idempotent};

use crate::inventory::{Inventory, WriteContext};

impl Inventory {
    /// Runs one write with its event and its kept reply in one transaction, then wakes the relay.
    ///
    /// # Errors
    /// 409 or 422 for a misused `Idempotency-Key`, 5xx when the database fails; refusals are `Ok`.
    pub(super) async fn write(
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
