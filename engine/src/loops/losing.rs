//! Looking for commands whose effect was lost with their receiver's database.

use std::time::Duration;

use common::db::DbError;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::lost::Lost;
use crate::worker::{Next, Tasks, run_when_notified};

/// How long it waits before it looks again at what is under way.
const UNTIL_LOOKED: Duration = Duration::from_millis(500);

impl Loops {
    pub(super) fn start_losing(&self, stop: &CancellationToken, tasks: &Tasks) {
        let engine = &self.engine;
        let Some(lost) = &engine.lost else { return };
        tasks.spawn_loop("lost commands", engine.clone().lost_loop(lost.clone(), stop.clone()));
    }
}

impl Engine {
    async fn lost_loop(self, lost: Lost, stop: CancellationToken) {
        let what = "looking for lost commands";
        run_when_notified(what, &self.env, &lost.woken, &stop, || async {
            let outcome = lost.run_once().await?;
            if outcome.told {
                self.alerts.wake();
            }
            // Also while a check waits for its receiver.
            let mut after = if outcome.worked { None } else { lost.tidy(None).await? };
            while after.is_some() {
                after = lost.tidy(after).await?;
            }
            if outcome.open {
                stop.run_until_cancelled(tokio::time::sleep(UNTIL_LOOKED)).await;
                return Ok::<_, DbError>(Next::Again);
            }
            Ok(if outcome.worked { Next::Again } else { Next::Wait })
        })
        .await;
    }
}
