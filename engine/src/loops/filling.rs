//! Filling the copies that are not complete.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::db::DbError;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::bootstrap::{Bootstrap, Outcome};
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
    async fn fill_loop(self, bootstrap: Bootstrap, stop: CancellationToken) {
        // A service that starts beside this one is asked soon, and not only when the clock says so.
        let early = AtomicU32::new(EARLY);
        run_when_notified("filling a copy", &self.env, bootstrap.notify(), &stop, || async {
            let mut all = Outcome::default();
            for name in self.asked().await? {
                let Some(consumer) = self.remotes.get(&name) else { continue };
                let outcome = bootstrap.run_once(consumer).await?;
                all = all.and(outcome);
            }
            if all.resyncs {
                self.resync.wake();
            }
            if let (true, Some(verifier)) = (all.verifies, &self.verifier) {
                verifier.wake();
            }
            let left = if all.away { early.load(Ordering::Relaxed).saturating_sub(1) } else { 0 };
            early.store(left, Ordering::Relaxed);
            Ok::<_, DbError>(match all {
                Outcome { again: true, .. } => Next::Again,
                Outcome { open, .. } if open || left > 0 => {
                    stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await;
                    Next::Again
                }
                _ => Next::Wait,
            })
        })
        .await;
    }
}
