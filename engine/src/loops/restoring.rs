//! Mending what a database misses that came back from a backup.

use std::time::Duration;

use common::db::DbError;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::restored::Restorer;
use crate::worker::{Next, Tasks, run_when_notified};

/// How long it waits before it looks again at what is under way.
const UNTIL_LOOKED: Duration = Duration::from_millis(500);

impl Loops {
    pub(super) fn start_restoring(&self, stop: &CancellationToken, tasks: &Tasks) {
        let engine = &self.engine;
        let Some(restorer) = &engine.restorer else { return };
        tasks.spawn_loop("restoring", engine.clone().restore_loop(restorer.clone(), stop.clone()));
    }
}

impl Engine {
    async fn restore_loop(self, restorer: Restorer, stop: CancellationToken) {
        let what = "mending a database that came back from a backup";
        run_when_notified(what, &self.env, &restorer.woken, &stop, || async {
            let outcome = restorer.run_once().await?;
            if outcome.resends {
                self.resync.wake();
            }
            if let (true, Some(verifier)) = (outcome.verifies, &self.verifier) {
                verifier.wake();
            }
            if outcome.ended {
                self.alerts.wake();
            }
            if !outcome.open {
                return Ok::<_, DbError>(Next::Wait);
            }
            stop.run_until_cancelled(tokio::time::sleep(UNTIL_LOOKED)).await;
            Ok(Next::Again)
        })
        .await;
    }
}
