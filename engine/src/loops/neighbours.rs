//! What instances of a service tell each other: NOTIFY after commits, LISTEN while others live.
//!
//! It only saves waiting. What is not told or not heard is found by the sweep.

use std::convert::Infallible;
use std::time::Duration;

use common::db::DbError;
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::outbox::{is_from_another, message};
use crate::worker::{Retry, Tasks};

#[cfg(test)]
mod tests;

/// The channel, which is the database's own; its name must not change while instances of two releases run.
const CHANNEL: &str = "stockloop_outbox";

/// How long an instance that has told something waits before it tells more: under load, one message tells it all.
const REST: Duration = Duration::from_millis(50);

impl Engine {
    /// Whether instances can hear each other and may.
    pub(super) fn can_listen(&self) -> bool {
        self.settings.outbox.notify && self.db.can_listen()
    }

    /// Starts both directions for the instance `own`, if instances can hear each other.
    pub(super) fn start_neighbours(&self, own: &str, stop: &CancellationToken, tasks: &Tasks) {
        if !self.can_listen() {
            return;
        }
        tasks.spawn(self.clone().tell_loop(own.to_owned(), stop.clone()));
        let (in_flight, outbox) = (self.in_flight.clone(), self.outbox.clone());
        let hear = self.clone().hear_loop(own.to_owned(), stop.clone(), move || {
            in_flight.settled_elsewhere();
            // Only here: a word that others pass on would never end.
            outbox.notify().notify_one();
        });
        tasks.spawn(hear);
    }

    async fn tell_loop(self, own: String, stop: CancellationToken) {
        stop.run_until_cancelled(self.tell_others(&own)).await;
    }

    /// Tells the others what there is to tell.
    async fn tell_others(&self, own: &str) -> Infallible {
        loop {
            self.outbox.neighbours().untold().await;
            match message(own) {
                Ok(message) => self.tell(message).await,
                Err(error) => tracing::warn!(%error, "a word to other instances is lost"),
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn tell(&self, message: String) {
        if let Err(error) = self.db.notify(CHANNEL, message).await {
            tracing::debug!(%error, "other instances were not told, and find it by their sweep");
        }
    }

    /// Passes on what others tell, as long as there are others.
    async fn hear_loop(self, own: String, stop: CancellationToken, told: impl Fn() + Send + Sync) {
        let mut others = self.outbox.neighbours().others();
        let mut retry = Retry::new("listening to other instances", &self.env, &stop);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(_) = others.wait_for(|others| *others) => {}
                else => return,
            }
            let broken = tokio::select! {
                () = stop.cancelled() => return,
                Ok(_) = others.wait_for(|others| !*others) => continue,
                Err(error) = self.hear(&own, &mut retry, &told) => error,
                else => return,
            };
            if retry.pause(&broken).await.is_none() {
                return;
            }
        }
    }

    async fn hear(
        &self,
        own: &str,
        retry: &mut Retry<'_>,
        told: &(impl Fn() + Sync),
    ) -> Result<Infallible, DbError> {
        let mut subscription = self.db.listen(CHANNEL).await?;
        retry.succeeded(());
        // Something may have been told before.
        told();
        loop {
            for message in subscription.next().await? {
                if is_from_another(own, &message) {
                    told();
                }
            }
        }
    }
}
