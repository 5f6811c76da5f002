//! The copy of a view, where a service keeps one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::telemetry::BrokerState;
use rdkafka::consumer::CommitMode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::alerts::AlertKind;
use crate::inbox::AckRoutes;
use crate::kafka::{Ack, BatchLimits, Consumer, Producer, Record};
use crate::views::{Answerer, Taken, ViewCopy};
use crate::worker::{Retry, Tasks};

#[cfg(test)]
mod tests;

/// What its consumer is called where consumers are reported.
pub(super) const VIEW: &str = "view";

/// What one transaction takes: nobody waits for a view.
const BATCH: BatchLimits = BatchLimits::new(500, Duration::from_millis(50));

/// How often it is looked where the topic ends.
const MEASURE: Duration = Duration::from_secs(5);

impl Loops {
    /// A topic that does not exist yet shows like any that is not received from, and is read once it is there.
    pub(super) fn start_viewing(
        &self,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let engine = &self.engine;
        let answerer = engine.answerer()?;
        if answerer.is_none() {
            tasks.spawn(engine.clone().answer_nobody());
        }
        let Some(copy) = engine.view.clone() else { return Ok(()) };
        let (kafka, broker) = (&engine.settings.kafka, engine.broker.clone());
        let group = engine.view_group();
        let consumer = Consumer::subscribe_as(VIEW, kafka, &group, &copy.topic, broker)?;
        let consumer = Arc::new(consumer);
        let measuring = measure_loop(copy.clone(), Arc::clone(&consumer), stop.clone());
        tasks.spawn_loop("view lag", measuring);
        let viewing = Viewing { copy, consumer, answerer };
        tasks.spawn_loop("view", engine.clone().view_loop(viewing, stop.clone()));
        Ok(())
    }
}

/// What a copy is kept with.
struct Viewing {
    copy: ViewCopy,
    consumer: Arc<Consumer>,
    /// What answers its messages; none: nobody is answered.
    answerer: Option<Answerer>,
}

impl Engine {
    /// What answers a view's messages, if somebody waits for that.
    fn answerer(&self) -> anyhow::Result<Option<Answerer>> {
        let (settings, service) = (&self.settings, &self.settings.service.name);
        let topic = &settings.views.purchases_ack_topic;
        let Some(copy) = self.view.as_ref().filter(|_| !topic.is_empty()) else { return Ok(None) };
        // What goes wrong there says nothing of whether the broker is there for the loop.
        let producer = Producer::new(&settings.kafka, service, BrokerState::default())?;
        let producer = producer.signed_by(self.producer.signing().clone());
        Ok(Some(Answerer {
            env: self.env.clone(),
            service: service.clone(),
            view: copy.topic.clone(),
            routes: AckRoutes::new(producer, topic),
            hindered: self.condition(AlertKind::NotAnswered),
        }))
    }

    /// Closes an alert that an earlier setting left.
    async fn answer_nobody(self) {
        let condition = self.condition(AlertKind::NotAnswered);
        condition.ended("no view's messages are answered, as it is set").await;
    }

    /// The group that reads a view.
    pub(super) fn view_group(&self) -> String {
        format!("{}.views", self.settings.service.name)
    }

    async fn view_loop(self, viewing: Viewing, stop: CancellationToken) {
        // Partitions that are read from where the database is.
        let mut placed = BTreeSet::new();
        loop {
            let records = tokio::select! {
                () = stop.cancelled() => return,
                records = viewing.consumer.next_batch(BATCH) => records,
            };
            let done = self.view_batch(&viewing, &mut placed, records, &stop).await;
            if done.is_none() {
                return;
            }
        }
    }

    /// Takes a batch; none, if the service stops.
    async fn view_batch(
        &self,
        viewing: &Viewing,
        placed: &mut BTreeSet<i32>,
        mut records: Vec<Record>,
        stop: &CancellationToken,
    ) -> Option<()> {
        let Viewing { copy, consumer, .. } = viewing;
        leave_others(copy, consumer, placed, &mut records);
        let mut unplaced = consumer.assigned();
        let of_records = records.iter().map(|record| record.partition);
        unplaced.extend(of_records.filter(|partition| !placed.contains(partition)));
        if !unplaced.is_empty() {
            let stale = self.until_placed(copy, consumer, unplaced, stop).await?.note_in(placed);
            records.retain(|record| !stale.contains(&record.partition));
        }
        if records.is_empty() {
            return Some(());
        }
        self.take_batch(viewing, placed, &Arc::new(records), stop).await
    }

    /// Stores a batch, answers it, and says then that it is done; none, if the service stops.
    async fn take_batch(
        &self,
        viewing: &Viewing,
        placed: &mut BTreeSet<i32>,
        records: &Arc<Vec<Record>>,
        stop: &CancellationToken,
    ) -> Option<()> {
        let Viewing { copy, consumer, .. } = viewing;
        let taken = self.until_taken(copy, consumer, records, stop).await?;
        let Taken { refused, repeating, lost, answers, doubted, .. } = taken;
        tell_refused(&copy.topic, refused);
        let doubtful = doubtful(copy, repeating, lost);
        self.until_answered(viewing, answers, stop).await?;
        let is_sound = |partition: i32| !doubtful.contains(&partition);
        consumer.commit_of(records, is_sound, CommitMode::Async);
        if doubtful.is_empty() {
            return Some(());
        }
        let looked = self.until_placed(copy, consumer, doubtful.clone(), stop).await?;
        let stale = looked.note_in(placed);
        let is_done = |partition: i32| doubtful.contains(&partition) && !stale.contains(&partition);
        let answers = doubted.into_iter().filter(|(partition, _)| is_done(*partition)).collect();
        self.until_answered(viewing, answers, stop).await?;
        consumer.commit_of(records, is_done, CommitMode::Async);
        Some(())
    }

    /// Has `partitions` read on from where the database is, those that are held.
    async fn until_placed(
        &self,
        copy: &ViewCopy,
        consumer: &Consumer,
        mut partitions: BTreeSet<i32>,
        stop: &CancellationToken,
    ) -> Option<Placed> {
        let mut retry = Retry::new("looking where the copy of the view is", &self.env, stop);
        let mut stale: BTreeSet<i32> = BTreeSet::new();
        loop {
            let held = consumer.held().unwrap_or_else(|_| partitions.clone());
            for partition in partitions.difference(&held) {
                leave(copy, consumer, *partition);
                stale.insert(*partition);
            }
            partitions.retain(|partition| held.contains(partition));
            match copy.place(consumer, &partitions).await {
                Ok(moved) => {
                    stale.extend(moved);
                    return Some(retry.succeeded(Placed { partitions, stale }));
                }
                Err(error) => {
                    retry.pause(&error).await?;
                    consumer.keep_alive().await;
                    partitions.extend(consumer.assigned());
                }
            }
        }
    }

    async fn until_taken(
        &self,
        copy: &ViewCopy,
        consumer: &Consumer,
        records: &Arc<Vec<Record>>,
        stop: &CancellationToken,
    ) -> Option<Taken> {
        let mut retry = Retry::new("copying a view", &self.env, stop);
        loop {
            match copy.run_once(Arc::clone(records)).await {
                Ok(taken) => return Some(retry.succeeded(taken)),
                Err(error) => {
                    retry.pause(&error).await?;
                    consumer.keep_alive().await;
                }
            }
        }
    }

    /// Sends answers until the broker has them; none, if the service stops: their messages come again then.
    async fn until_answered(
        &self,
        Viewing { consumer, answerer, .. }: &Viewing,
        answers: Vec<(i32, Ack)>,
        stop: &CancellationToken,
    ) -> Option<()> {
        let Some(answerer) = answerer else { return Some(()) };
        let mut unsent = answerer.begin(answers);
        let mut retry = Retry::new("answering a view's messages", &self.env, stop);
        while let Some(trouble) = answerer.run_once(&mut unsent, stop).await {
            retry.pause(&trouble).await?;
            consumer.keep_alive().await;
        }
        retry.succeeded(());
        Some(())
    }
}

/// What was looked at.
struct Placed {
    /// They are read from where the database is.
    partitions: BTreeSet<i32>,
    /// Partitions of which what came before is not to be taken: they are read from another place, or by another instance.
    stale: BTreeSet<i32>,
}

impl Placed {
    /// Keeps in `placed` those that are; returns the stale ones.
    fn note_in(self, placed: &mut BTreeSet<i32>) -> BTreeSet<i32> {
        placed.retain(|partition| !self.stale.contains(partition));
        placed.extend(self.partitions);
        self.stale
    }
}

/// Drops those of `records` whose partitions are another instance's by now.
fn leave_others(
    copy: &ViewCopy,
    consumer: &Consumer,
    placed: &mut BTreeSet<i32>,
    records: &mut Vec<Record>,
) {
    let Ok(held) = consumer.held() else { return };
    let is_others = |partition: &i32| !held.contains(partition);
    let others: BTreeSet<i32> =
        records.iter().map(|record| record.partition).filter(is_others).collect();
    for partition in &others {
        leave(copy, consumer, *partition);
        placed.remove(partition);
    }
    records.retain(|record| !others.contains(&record.partition));
}

/// The partition is another instance's by now.
fn leave(copy: &ViewCopy, consumer: &Consumer, partition: i32) {
    consumer.drop_aside(partition);
    copy.forget(partition);
}

/// Partitions that are looked at before their messages are answered and committed. A topic that was made anew under a consumer
/// gives what looks like repetitions; it is known by the group's offsets, which went with it.
fn doubtful(copy: &ViewCopy, repeating: BTreeSet<i32>, lost: BTreeSet<i32>) -> BTreeSet<i32> {
    let mut doubtful = repeating;
    for partition in lost {
        tracing::info!(topic = copy.topic, partition, "the database went back; it is read again");
        // What is not known is read from where the database is, wherever that is by then.
        copy.forget(partition);
        doubtful.insert(partition);
    }
    doubtful
}

fn tell_refused(topic: &str, refused: usize) {
    if refused > 0 {
        tracing::warn!(topic, refused, "messages of a view make no sense; they are dead letters");
    }
}

/// What can't be measured shows by the age of the last look.
async fn measure_loop(copy: ViewCopy, consumer: Arc<Consumer>, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(MEASURE)).await.is_some() {
        let Some(measured) = stop.run_until_cancelled(copy.measure(&consumer)).await else {
            return;
        };
        if let Err(error) = measured {
            tracing::debug!(%error, topic = copy.topic, "where the view ends is not known");
        }
    }
}
