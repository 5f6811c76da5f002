//! Comparing the copies with what this service owns, and sending states again.

use std::sync::Arc;
use std::time::Duration;

use common::db::{Conn, DbError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::bootstrap::is_open;
use crate::consumers::{self, ConsumerState};
use crate::verify::{Owner, Verifier};
use crate::worker::{Next, Retry, Tasks, run_when_notified};

/// How long a job that sends states again waits before it looks whether those before are sent.
const UNTIL_SENT: Duration = Duration::from_millis(20);

/// So long a page that is under way is waited for when the service stops: longer than a broker that is there takes.
const UNTIL_LEFT: Duration = Duration::from_secs(1);

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

/// Ends a moment after `stop`.
async fn left(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(UNTIL_LEFT).await;
}

impl Engine {
    async fn verify_loop(self, verifier: Verifier, stop: CancellationToken) {
        let remotes = Arc::clone(&self.remotes);
        let mut retry = Retry::new("verifying a copy", &self.env, &stop);
        while !stop.is_cancelled() {
            let step = match verifier.run_once(|name| remotes.get(name)).await {
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
        let share = self.settings.verify.thousandths();
        let what = "scheduling a verification";
        run_when_notified(what, &self.env, &due, &stop, || async {
            for consumer in self.asked().await? {
                // A copy that is being filled is verified at the end of that.
                let name = consumer.clone();
                let read = verifier.db.read(move |conn| Ok::<_, DbError>(is_open(conn, &name)?));
                if !read.await? {
                    verifier.schedule(&consumer, share).await?;
                }
            }
            verifier.wake_idle();
            Ok::<_, DbError>(Next::Wait)
        })
        .await;
    }

    /// The consumers whose copies are compared by schedule.
    pub(super) async fn asked(&self) -> Result<Vec<String>, DbError> {
        let first = self.settings.kafka.outbound_consumer.clone();
        let read = move |conn: &mut Conn| Ok::<_, DbError>(consumers::list(conn, &first)?);
        let all = self.db.read(read).await?.into_iter();
        let asked = all.filter(|one| one.state == ConsumerState::Active);
        Ok(asked.map(|one| one.name).filter(|name| self.remotes.contains_key(name)).collect())
    }

    async fn resync_loop(self, owner: Arc<dyn Owner>, stop: CancellationToken) {
        let consumer = &self.settings.kafka.outbound_consumer;
        let what = "sending states again";
        run_when_notified(what, &self.env, self.resync.notify(), &stop, || async {
            let (db, owner) = (&self.db, Arc::clone(&owner));
            let outcome =
                self.resync.run_once(db, &self.env, &self.outbox, owner, consumer).await?;
            if let Some(page) = outcome.page {
                let sent = page.send(&self.producer, &self.settings.service.name);
                let sent = tokio::select! {
                    sent = sent => sent,
                    // Whoever comes next sends it once more, after the hold.
                    () = left(&stop) => return Ok(Next::Wait),
                };
                self.resync.note(db, &self.env, page, sent).await?;
                return Ok(Next::Again);
            }
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
