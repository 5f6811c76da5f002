//! The half that sends: leases, the relay, and the watch over what was sent.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::{Engine, count};
use crate::db::DbError;
use crate::jobs::{Next, Retry, Tasks, on_poke};
use crate::kafka::{Consumer, Producer};
use crate::outbox::{Held, Policy, Relay, Watch, release, renew};
use crate::retry::Backoff;

impl Engine {
    pub(super) fn start_outbox(
        &self,
        producer: &Producer,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let relay = Arc::new(self.relay(producer));
        let owner = self.env.event_id().to_string();
        let held = Arc::new(Mutex::new(Held::nothing(owner.clone())));
        tasks.spawn(self.clone().keep_leases(owner, Arc::clone(&held), stop.clone()));
        tasks.spawn(self.clone().relay_loop(Arc::clone(&relay), Arc::clone(&held), stop.clone()));
        tasks.spawn(self.clone().watch_loop(relay, held, stop.clone()));
        let kafka = &self.settings.kafka;
        let group = format!("{}.acks", self.settings.service.name);
        let consumer =
            Consumer::subscribe(kafka, &group, &kafka.outbound_ack_topic, self.broker.clone())?;
        tasks.spawn(self.clone().settle_loop(consumer, stop.clone()));
        Ok(())
    }

    pub(super) fn policy(&self) -> Policy {
        let outbox = &self.settings.outbox;
        Policy {
            backoff: Backoff { base: outbox.backoff_base, max: outbox.backoff_max },
            listener: self.outbox.listener().cloned(),
        }
    }

    /// The relay of this engine, sending with `producer`.
    pub fn relay(&self, producer: &Producer) -> Relay {
        let settings = &self.settings;
        Relay::new(
            self.db.clone(),
            self.env.clone(),
            producer.clone(),
            self.policy(),
            self.in_flight.clone(),
            &settings.service.name,
            &settings.kafka.outbound_topic,
            settings.outbox.batch,
        )
        .with_spans(self.spans.clone())
    }

    /// What looks after the events that were sent.
    pub fn watch(&self) -> Watch {
        let outbox = &self.settings.outbox;
        Watch {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: self.policy(),
            topic: self.settings.kafka.outbound_topic.clone(),
            consumer: self.settings.kafka.outbound_consumer.clone(),
            ack_timeout: outbox.ack_timeout,
            ack_grace: outbox.ack_grace,
            probes: Backoff { base: outbox.probe_after, max: outbox.backoff_max },
        }
    }

    async fn keep_leases(self, owner: String, held: Arc<Mutex<Held>>, stop: CancellationToken) {
        let lease = self.settings.outbox.lease;
        let mut retry = Retry::new("renewing the relay's leases", &self.env, &stop);
        while !stop.is_cancelled() {
            match renew(&self.db, &owner, lease).await {
                Ok(renewed) => {
                    retry.succeeded(());
                    let grew = renewed.tokens.len() > lock(&held).tokens.len();
                    *lock(&held) = renewed;
                    if grew {
                        self.outbox.wake();
                    }
                }
                Err(error) => {
                    if retry.pause(&error).await.is_none() {
                        break;
                    }
                    continue;
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(lease / 4) => {}
            }
        }
    }

    async fn relay_loop(self, relay: Arc<Relay>, held: Arc<Mutex<Held>>, stop: CancellationToken) {
        let mut retry = Retry::new("counting what is in flight", &self.env, &stop);
        while let Err(error) = self.in_flight.refresh(&self.db).await {
            if retry.pause(&error).await.is_none() {
                return;
            }
        }
        retry.succeeded(());
        on_poke("relaying events", &self.env, self.outbox.notify(), &stop, || async {
            let held = lock(&held).clone();
            let outcome = relay.run_once(&held).await?;
            self.metrics.relay_sent(count(outcome.sent));
            outcome.first_sent.iter().for_each(|waited| self.metrics.commit_to_sent(*waited));
            if outcome.refused > 0 {
                self.alerts.wake();
            }
            Ok::<_, DbError>(if outcome.drained { Next::Wait } else { Next::Again })
        })
        .await;
        let owner = lock(&held).owner.clone();
        if let Err(error) = release(&self.db, &owner).await {
            tracing::debug!(%error, "the leases end by themselves");
        }
    }

    async fn watch_loop(self, relay: Arc<Relay>, held: Arc<Mutex<Held>>, stop: CancellationToken) {
        let watch = self.watch();
        on_poke("watching events", &self.env, self.watch_timer(), &stop, || async {
            relay.forget_topology();
            self.in_flight.refresh(&self.db).await?;
            // One instance watches: whoever holds the first shard.
            if lock(&held).is_valid() && lock(&held).tokens.contains_key(&0) {
                let outcome = watch.run_once(&relay).await?;
                if outcome.overdue + outcome.silent > 0 {
                    tracing::info!(?outcome, "events are overdue or partitions silent");
                    self.alerts.wake();
                }
            }
            self.outbox.wake();
            Ok::<_, DbError>(Next::Wait)
        })
        .await;
    }
}

fn lock(held: &Mutex<Held>) -> std::sync::MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
