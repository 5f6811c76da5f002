//! Filling the copies that are not complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::db::DbError;
use futures::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::bootstrap::{Bootstrap, Outcome};
use crate::verify::Remote;
use crate::worker::{Next, Tasks, run_when_notified};

/// How long a filling waits before it looks again how far its job or its verification is.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// So often a consumer is asked at that pace after a start, until it has answered once.
const EARLY: u32 = 60;

impl Loops {
    pub(super) fn start_filling(&self, stop: &CancellationToken, tasks: &Tasks) {
        let engine = self.engine.clone();
        let Some(bootstrap) = engine.bootstrap.clone() else { return };
        // What was left open is gone on with, whatever the clock says.
        bootstrap.wake();
        tasks.spawn_loop("filling copies", engine.fill_loop(bootstrap, stop.clone()));
    }
}

impl Engine {
    /// Fills the copies of all consumers at once: one that does not answer holds up no other.
    async fn fill_loop(self, bootstrap: Bootstrap, stop: CancellationToken) {
        let remotes = Arc::clone(&self.remotes);
        let copies: Vec<(&Remote, Notify)> =
            remotes.values().map(|consumer| (consumer, Notify::new())).collect();
        let each = copies
            .iter()
            .map(|(consumer, woken)| self.fill_copy(&bootstrap, consumer, woken, &stop));
        let wake_all = async {
            loop {
                bootstrap.notify().notified().await;
                copies.iter().for_each(|(_, woken)| woken.notify_one());
            }
        };
        tokio::select! {
            _ = join_all(each) => {}
            () = wake_all => {}
        }
    }

    async fn fill_copy(
        &self,
        bootstrap: &Bootstrap,
        consumer: &Remote,
        woken: &Notify,
        stop: &CancellationToken,
    ) {
        // A service that starts beside this one is asked soon, and not only when the clock says so.
        let early = AtomicU32::new(EARLY);
        run_when_notified("filling a copy", &self.env, woken, stop, || async {
            if !self.asked().await?.contains(&consumer.consumer) {
                return Ok::<_, DbError>(Next::Wait);
            }
            let Outcome { open, again, away, resyncs, verifies } =
                bootstrap.run_once(consumer).await?;
            if resyncs {
                self.resync.wake();
            }
            if let (true, Some(verifier)) = (verifies, &self.verifier) {
                verifier.wake();
            }
            let left = if away { early.load(Ordering::Relaxed).saturating_sub(1) } else { 0 };
            early.store(left, Ordering::Relaxed);
            // One whose consumer gives no answer is not looked at in a hurry.
            if !again && ((open && !away) || left > 0) {
                stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await;
                return Ok(Next::Again);
            }
            Ok(if again { Next::Again } else { Next::Wait })
        })
        .await;
    }
}
