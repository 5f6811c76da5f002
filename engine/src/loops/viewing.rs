//! The copy of a view, where a service keeps one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Loops;
use crate::Engine;
use crate::kafka::{Consumer, Record};
use crate::views::{Taken, ViewCopy};
use crate::worker::{Retry, Tasks};

/// Messages that one transaction takes at the most.
const MESSAGES: usize = 500;

/// How long a batch waits for more: nobody waits for a view.
const LINGER: Duration = Duration::from_millis(50);

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
        let Some(copy) = engine.view.clone() else { return Ok(()) };
        let (kafka, broker) = (&engine.settings.kafka, engine.broker.clone());
        let group = format!("{}.views", engine.settings.service.name);
        let consumer = Consumer::subscribe_as("view", kafka, &group, &copy.topic, broker)?;
        let consumer = Arc::new(consumer);
        let measuring = measure_loop(copy.clone(), Arc::clone(&consumer), stop.clone());
        tasks.spawn_loop("view lag", measuring);
        tasks.spawn_loop("view", engine.clone().view_loop(copy, consumer, stop.clone()));
        Ok(())
    }
}

impl Engine {
    async fn view_loop(self, copy: ViewCopy, consumer: Arc<Consumer>, stop: CancellationToken) {
        loop {
            let mut records = tokio::select! {
                () = stop.cancelled() => return,
                records = consumer.next_batch(MESSAGES, LINGER) => records,
            };
            let assigned = consumer.assigned();
            if !assigned.is_empty() {
                let placed = self.until_placed(&copy, &consumer, assigned, &stop).await;
                let Some(moved) = placed else { return };
                records.retain(|record| !moved.contains(&record.partition));
            }
            if records.is_empty() {
                continue;
            }
            let records = Arc::new(records);
            let taken = self.until_taken(&copy, &consumer, &records, &stop).await;
            let Some(taken) = taken else { return };
            consumer.commit(&records, CommitMode::Async);
            tell_refused(&copy.topic, taken.refused);
            // A topic that was made anew under a consumer gives what looks like repetitions.
            let repeating = taken.repeating;
            if !repeating.is_empty()
                && self.until_placed(&copy, &consumer, repeating, &stop).await.is_none()
            {
                return;
            }
        }
    }

    /// The partitions of which what came before is not to be taken: they begin elsewhere, or are another instance's.
    async fn until_placed(
        &self,
        copy: &ViewCopy,
        consumer: &Consumer,
        mut partitions: BTreeSet<i32>,
        stop: &CancellationToken,
    ) -> Option<BTreeSet<i32>> {
        let mut retry = Retry::new("looking where the copy of the view is", &self.env, stop);
        let mut gone: BTreeSet<i32> = BTreeSet::new();
        loop {
            let held = consumer.held().unwrap_or_else(|_| partitions.clone());
            gone.extend(partitions.difference(&held));
            partitions.retain(|partition| held.contains(partition));
            match copy.place(consumer, &partitions).await {
                Ok(mut moved) => {
                    moved.append(&mut gone);
                    return Some(retry.succeeded(moved));
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
