//! How a route writes: one transaction with the event and the kept reply.

use actix_web::HttpResponse;
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{IdempotencyKey, ProblemResult, Reply, TraceParent, idempotent};

use crate::orders::{Orders, WriteContext};

impl Orders {
    /// Runs one write with its command and its kept reply in one transaction, then wakes the relay and whoever
    /// waits for an order to change.
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
        let context = self.context(now, trace.0);
        let reply =
            idempotent(&self.db, &self.keys, key, body, now, move |conn| work(conn, &context))
                .await?;
        if reply.is_success() {
            self.outbox.wake();
            self.signals.publish();
        }
        Ok(reply.into_response())
    }

    /// What a write of that moment needs.
    pub(super) fn context(&self, now: Timestamp, traceparent: Option<String>) -> WriteContext {
        WriteContext {
            env: self.env.clone(),
            outbox: self.outbox.clone(),
            signals: self.signals.clone(),
            now,
            traceparent,
        }
    }
}
