//! The loop that brings the relay the log of its database, where it is to send from there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::config::RelayKind;
use common::db::{DatabaseSettings, Location, Url};
use tokio_util::sync::CancellationToken;

use super::sending::lock;
use crate::Engine;
use crate::alerts::{AlertKind, Condition, NewAlert};
use crate::outbox::{LeaseSet, LogError, Relay, Unused, drop_unused_slot};
use crate::worker::Retry;

/// How often an instance that stands by looks whether it is its turn to read.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How often a slot that is still read is looked for again, to drop it.
const DROP_AGAIN: Duration = Duration::from_secs(10);

impl Engine {
    /// Reads the log while this instance holds the first shard. Without one, a slot that an earlier setting left is
    /// dropped: it would keep the log for ever.
    pub(super) async fn log_loop(
        self,
        relay: Arc<Relay>,
        held: Arc<Mutex<LeaseSet>>,
        stop: CancellationToken,
    ) {
        match self.settings.outbox.relay {
            RelayKind::Log => self.read_log(&relay, &held, &stop).await,
            RelayKind::Table => self.drop_slot("events go by the table, as it is set", &stop).await,
            RelayKind::External => {
                self.drop_slot("another program reads the log, as it is set", &stop).await;
            }
        }
    }

    async fn read_log(&self, relay: &Relay, held: &Mutex<LeaseSet>, stop: &CancellationToken) {
        let outbox = &self.settings.outbox;
        let url = log_url(outbox.log_url.clone(), &self.settings.database);
        let reader = relay.log_reader(url, outbox.log_kept_bytes);
        let condition = self.condition(AlertKind::LogNotRead);
        let mut retry = Retry::new("reading the log", &self.env, stop);
        let mut anew = false;
        while !stop.is_cancelled() {
            if !lock(held).is_first() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOOK_AGAIN) => continue,
                }
            }
            let followed = async |slot: &str| {
                retry.succeeded(());
                tracing::info!(slot, "events come by the log");
                condition.ended("the log is read again").await;
            };
            let read = reader.read_while(|| lock(held).is_first(), stop, anew, followed).await;
            let Err(error) = read else { continue };
            anew = error.needs_another_slot();
            self.tell_unread(&condition, &error).await;
            if retry.pause(&error).await.is_none() {
                return;
            }
        }
    }

    async fn tell_unread(&self, condition: &Condition, error: &LogError) {
        let service = &self.settings.service.name;
        let alert = NewAlert::log_not_read(service, &error.to_string());
        condition.met(|_, _| Ok(true), alert).await;
    }

    /// Drops the slot of an earlier setting, and closes its alert `because` of the present one.
    async fn drop_slot(&self, because: &'static str, stop: &CancellationToken) {
        let service = &self.settings.service.name;
        self.condition(AlertKind::LogNotRead).ended(because).await;
        let mut retry = Retry::new("dropping the slot of an earlier setting", &self.env, stop);
        while !stop.is_cancelled() {
            match drop_unused_slot(&self.db, service).await {
                Ok(Unused::None) => return,
                Ok(Unused::Dropped) => {
                    return tracing::info!("the slot of an earlier setting is dropped");
                }
                // An instance with the earlier setting still runs.
                Ok(Unused::InUse) => {
                    stop.run_until_cancelled(tokio::time::sleep(DROP_AGAIN)).await;
                }
                Err(error) => {
                    if retry.pause(&error).await.is_none() {
                        return;
                    }
                }
            }
        }
    }
}

/// Where the log is read: as the database is, with a server that vanished noticed.
fn log_url(own: Url, database: &DatabaseSettings) -> Url {
    let url = if own.expose().is_empty() { database.url.clone() } else { own };
    match Location::parse(&url).map(|place| place.patient_for(database.connect_timeout)) {
        Ok(Location::Postgres { url, .. }) => url,
        _ => url,
    }
}
