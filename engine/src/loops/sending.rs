//! The half that sends: leases, the relay, and the overdue monitor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::config::RelayKind;
use common::db::DbError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Loops, count};
use crate::Engine;
use crate::alerts::{AlertKind, Condition, NewAlert};
use crate::kafka::Consumer;
use crate::outbox::{LeaseSet, LetOff, Relay, RelayOutcome, Share, release, renew_share};
use crate::worker::{Next, Retry, Tasks, run_when_notified};

/// As it is called in the readiness.
const RELAY: &str = "relay";

/// How long one step of the relay may take: several times what it takes on a slow day, with a slow broker.
const RELAY_STUCK: Duration = Duration::from_secs(60);

/// How long the last sends may take when the service stops.
const RELAY_ENDS_IN: Duration = Duration::from_secs(2);

/// Steps in which a consumer is let off between two looks for what is overdue.
const LET_OFF_STEPS: usize = 20;

const SENT_AGAIN: &str = "events are sent again";

/// Why events stay PENDING: told once, whoever meets it.
struct Hindrance {
    condition: Condition,
    /// Whether it is one that this instance's relay met in its last step.
    of_relay: AtomicBool,
}

impl Hindrance {
    fn of(engine: &Engine) -> Self {
        Self { condition: engine.condition(AlertKind::NotSent), of_relay: AtomicBool::default() }
    }
}

impl Loops {
    pub(super) fn start_sending(
        &self,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let engine = &self.engine;
        let relay = Arc::new(engine.relay());
        let owner = engine.env.event_id().to_string();
        let held = Arc::new(Mutex::new(LeaseSet::nothing(owner.clone())));
        engine.start_neighbours(&owner, stop, tasks);
        let relay_ended = CancellationToken::new();
        let leases = engine.clone().keep_leases(owner, Arc::clone(&held), relay_ended.clone());
        tasks.spawn_loop("leases", leases);
        let hindrance = Arc::new(Hindrance::of(engine));
        let relaying = engine.clone().relay_loop(
            Arc::clone(&relay),
            Arc::clone(&held),
            Arc::clone(&hindrance),
            stop.clone(),
        );
        let ended = relay_ended.drop_guard();
        tasks.spawn_loop(RELAY, async move {
            relaying.await;
            drop(ended);
        });
        let log = engine.clone().log_loop(Arc::clone(&relay), Arc::clone(&held), stop.clone());
        tasks.spawn(log);
        let due = Arc::clone(&self.overdue_wakeup);
        let monitoring = engine.clone().overdue_loop(relay, held, hindrance, due, stop.clone());
        tasks.spawn_loop("overdue monitor", monitoring);
        let kafka = &engine.settings.kafka;
        let group = format!("{}.acks", engine.settings.service.name);
        let broker = engine.broker.clone();
        let consumer = Consumer::subscribe(kafka, &group, &kafka.outbound_ack_topic, broker)?;
        tasks.spawn_loop("settler", engine.clone().settle_loop(consumer, stop.clone()));
        if engine.is_relayed_by_another() {
            self.start_observing(stop, tasks)?;
        }
        Ok(())
    }
}

impl Engine {
    /// Holds shards until the relay has ended, then gives them back: nobody else does, so none is taken again.
    async fn keep_leases(
        self,
        owner: String,
        held: Arc<Mutex<LeaseSet>>,
        relay_ended: CancellationToken,
    ) {
        let lease = self.settings.outbox.lease;
        let share = match self.settings.outbox.relay {
            RelayKind::Table | RelayKind::External => Share::Fair,
            RelayKind::Log => Share::One,
        };
        let mut retry = Retry::new("renewing the relay's leases", &self.env, &relay_ended);
        while !relay_ended.is_cancelled() {
            if self.loops.busy_for(RELAY) > RELAY_STUCK {
                // What hangs here must not keep another instance from sending.
                tracing::warn!(
                    "the relay has got nowhere for {RELAY_STUCK:?}: its leases are left to end"
                );
            } else {
                match renew_share(&self.db, &owner, lease, share).await {
                    Ok(renewed) => {
                        retry.succeeded(());
                        self.outbox.neighbours().set_others(renewed.others && self.can_listen());
                        let grew = renewed.tokens.len() > lock(&held).tokens.len();
                        *lock(&held) = renewed;
                        if grew {
                            self.outbox.wake_here();
                        }
                    }
                    Err(error) => {
                        if retry.pause(&error).await.is_none() {
                            break;
                        }
                        continue;
                    }
                }
            }
            tokio::select! {
                () = relay_ended.cancelled() => break,
                () = tokio::time::sleep(lease / 4) => {}
            }
        }
        if let Err(error) = release(&self.db, &owner).await {
            tracing::debug!(%error, "the leases end by themselves");
        }
    }

    async fn relay_loop(
        self,
        relay: Arc<Relay>,
        held: Arc<Mutex<LeaseSet>>,
        hindrance: Arc<Hindrance>,
        stop: CancellationToken,
    ) {
        run_when_notified("relaying events", &self.env, self.outbox.notify(), &stop, || async {
            let held = lock(&held).clone();
            let outcome = self.loops.step(RELAY, relay.run_once(&held)).await?;
            self.metrics.relay_sent(count(outcome.sent), count(outcome.by_log));
            outcome.first_sent.iter().for_each(|waited| self.metrics.commit_to_sent(*waited));
            if outcome.refused > 0 {
                self.alerts.wake();
            }
            self.tell_hindrance(&hindrance, &outcome).await;
            Ok::<_, DbError>(if outcome.drained { Next::Wait } else { Next::Again })
        })
        .await;
        let held = lock(&held).clone();
        if let Err(error) = relay.finish(&held, RELAY_ENDS_IN).await {
            tracing::debug!(%error, "what was sent last is sent again after the next start");
        }
    }

    async fn tell_hindrance(&self, hindrance: &Hindrance, outcome: &RelayOutcome) {
        let Hindrance { condition, of_relay } = hindrance;
        of_relay.store(outcome.hindered.is_some(), Ordering::Relaxed);
        let Some(cause) = &outcome.hindered else {
            // Nothing to send proves nothing, and what is sent again says nothing of another program's first attempts.
            if outcome.sent > 0 && !self.is_relayed_by_another() {
                condition.ended(SENT_AGAIN).await;
            }
            return;
        };
        let (service, topic) = (&self.settings.service.name, &self.settings.kafka.outbound_topic);
        condition.met(Relay::any_pending, NewAlert::not_sent(service, topic, cause)).await;
    }

    /// Tells what the external relay leaves unsent, unless this service's own relay meets a hindrance and tells that.
    async fn tell_unsent(&self, hindrance: &Hindrance) -> Result<(), DbError> {
        let Hindrance { condition, of_relay } = hindrance;
        if !self.is_relayed_by_another() || of_relay.load(Ordering::Relaxed) {
            return Ok(());
        }
        let late = self.env.now().before(self.settings.outbox.ack_timeout);
        let oldest = self.db.read(|conn| Ok::<_, DbError>(Relay::unsent_since(conn)?)).await?;
        let (service, topic) = (&self.settings.service.name, &self.settings.kafka.outbound_topic);
        match oldest.filter(|since| *since <= late) {
            Some(since) => {
                let alert = NewAlert::not_sent_by_external(service, topic, since);
                condition.met_since(since, Relay::any_pending, alert).await;
            }
            // What waits to be sent again is no fault of the other program; an instance that is hindered tells it anew.
            None => condition.ended(SENT_AGAIN).await,
        }
        Ok(())
    }

    /// Whether another program sends events for the first time.
    fn is_relayed_by_another(&self) -> bool {
        self.settings.outbox.relay.is_external()
    }

    async fn overdue_loop(
        self,
        relay: Arc<Relay>,
        held: Arc<Mutex<LeaseSet>>,
        hindrance: Arc<Hindrance>,
        due: Arc<Notify>,
        stop: CancellationToken,
    ) {
        let (monitor, let_off) = (self.overdue_monitor(), self.let_off());
        let appends = self.outbox.watch_appends();
        run_when_notified("the overdue monitor", &self.env, &due, &stop, || async {
            relay.forget_topology();
            // One instance watches: whoever holds the first shard.
            let is_watching = lock(&held).is_first();
            if is_watching {
                let outcome = monitor.run_once(&relay).await?;
                if outcome.overdue + outcome.silent > 0 {
                    tracing::info!(?outcome, "events are overdue or partitions silent");
                    self.alerts.wake();
                }
                self.tell_unsent(&hindrance).await?;
            }
            self.outbox.wake_after(&appends);
            let is_more = is_watching && self.let_off_some(&let_off).await;
            Ok::<_, DbError>(if is_more { Next::Again } else { Next::Wait })
        })
        .await;
    }
}

impl Engine {
    /// Settles some of what waits for a consumer alone that is asked no more; returns whether there may be more.
    ///
    /// Neither its failure nor its length keeps anybody from being told what is overdue.
    async fn let_off_some(&self, let_off: &LetOff) -> bool {
        for _ in 0..LET_OFF_STEPS {
            let generation = self.in_flight.generation();
            match let_off.run_once().await {
                Ok(Some(done)) => {
                    self.in_flight.settled(generation, &done.released);
                    if !done.settled.is_empty() {
                        tracing::info!(
                            events = done.settled.len(),
                            "settled without a consumer that is asked no more"
                        );
                        self.outbox.wake_here();
                    }
                }
                Ok(None) => return false,
                Err(error) => {
                    tracing::warn!(%error, "a consumer that is asked no more is let off later");
                    return false;
                }
            }
        }
        true
    }
}

pub(super) fn lock(held: &Mutex<LeaseSet>) -> std::sync::MutexGuard<'_, LeaseSet> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
