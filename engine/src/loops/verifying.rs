//! Comparing the copies with what this service owns, and sending states again.

use std::sync::Arc;
use std::time::Duration;

use common::db::DbError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::bootstrap::is_open;
use crate::verify::{Owner, Verifier};
use crate::worker::{Next, Retry, Tasks, run_when_notified};

/// How long a job that sends states again waits before it looks whether those before are sent.
const UNTIL_SENT: Duration = Duration::from_millis(20);

impl Loops {
    pub(super) fn start_verifying(&self, stop: &CancellationToken, tasks: &Tasks) {
        let engine = &self.engine;
        let (Some(verifier), Some(collection)) = (&engine.verifier, &engine.collection) else {
            return;
        };
        let Some(owner) = collection.owner() else { return };
        tasks.spawn_loop("verifying", engine.clone().verify_loop(verifier.clone(), stop.clone()));
        let due = Arc::clone(&self.verify_wakeup);
        tasks.spawn_loop(
            "verifying by schedule",
            engine.clone().schedule_loop(verifier.clone(), due, stop.clone()),
        );
        tasks.spawn_loop("sending states again", engine.clone().resync_loop(owner, stop.clone()));
    }
}

impl Engine {
    async fn verify_loop(self, verifier: Verifier, stop: CancellationToken) {
        let consumer = self.consumer();
        let mut retry = Retry::new("verifying a copy", &self.env, &stop);
        while !stop.is_cancelled() {
            let step = match verifier.run_once(&consumer).await {
                Ok(step) => retry.succeeded(step),
                Err(error) => match retry.pause(&error).await {
                    Some(()) => continue,
                    None => return,
                },
            };
            if step.ended {
                self.alerts.wake();
            }
            // Without work it waits to be woken; a verification that somebody asks for ends a rest.
            let rest = async {
                match step.worked {
                    true => tokio::time::sleep(step.rest).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = verifier.hurry().notified(), if step.worked => {}
                () = verifier.notify().notified(), if !step.worked => {}
                () = rest => {}
            }
        }
    }

    async fn schedule_loop(self, verifier: Verifier, due: Arc<Notify>, stop: CancellationToken) {
        let consumer = &self.settings.kafka.outbound_consumer;
        let share = self.settings.verify.thousandths();
        let what = "scheduling a verification";
        run_when_notified(what, &self.env, &due, &stop, || async {
            // A copy that is being filled is verified at the end of that.
            let name = consumer.clone();
            let read = verifier.db.read(move |conn| Ok::<_, DbError>(is_open(conn, &name)?));
            if read.await? {
                return Ok(Next::Wait);
            }
            verifier.schedule(consumer, share).await?;
            verifier.wake();
            Ok::<_, DbError>(Next::Wait)
        })
        .await;
    }

    async fn resync_loop(self, owner: Arc<dyn Owner>, stop: CancellationToken) {
        let consumer = &self.settings.kafka.outbound_consumer;
        let what = "sending states again";
        run_when_notified(what, &self.env, self.resync.notify(), &stop, || async {
            let (db, owner) = (&self.db, Arc::clone(&owner));
            let outcome =
                self.resync.run_once(db, &self.env, &self.outbox, owner, consumer).await?;
            if outcome.appended > 0 {
                self.outbox.wake();
            }
            if let (true, Some(verifier)) = (outcome.verifies, &self.verifier) {
                verifier.wake();
            }
            if outcome.waits {
                tokio::time::sleep(UNTIL_SENT).await;
            }
            Ok::<_, DbError>(if outcome.worked { Next::Again } else { Next::Wait })
        })
        .await;
    }
}
