//! What another program sends for this service, where there is one.

use std::time::Duration;

use common::telemetry::ForeignMessage;
use rdkafka::consumer::CommitMode;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Loops, count};
use crate::Engine;
use crate::kafka::{BatchLimits, Consumer, Record};
use crate::outbox::{Look, Observed, Observer, UNTIL_SEEN, seen_within};
use crate::worker::{Retry, Tasks};

/// What one step takes: what is noted soon is seldom overtaken by its answer.
const BATCH: BatchLimits = BatchLimits::new(1_000, Duration::from_millis(2)).hurried();

impl Loops {
    pub(super) fn start_observing(
        &self,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let (engine, kafka) = (&self.engine, &self.engine.settings.kafka);
        let group = format!("{}.observed", engine.settings.service.name);
        let broker = engine.broker.clone();
        let consumer = Consumer::subscribe(kafka, &group, &kafka.outbound_topic, broker)?;
        tasks.spawn_loop("observer", engine.clone().observe_loop(consumer, stop.clone()));
        Ok(())
    }
}

impl Engine {
    async fn observe_loop(self, consumer: Consumer, stop: CancellationToken) {
        let observer = self.observer();
        loop {
            let records = tokio::select! {
                () = stop.cancelled() => return,
                records = consumer.next_batch(BATCH) => records,
            };
            // Whoever had a partition before wrote down nothing that is not true.
            drop(consumer.assigned());
            if records.is_empty() {
                continue;
            }
            let observed = self.observe(&observer, &consumer, &records, &stop).await;
            let Some(observed) = observed else { return };
            consumer.commit(&records, CommitMode::Async);
            self.count_observed(&observed);
        }
    }

    /// What is written down of `records`, once all of their events are seen, or ten seconds have passed.
    async fn observe(
        &self,
        observer: &Observer,
        consumer: &Consumer,
        records: &[Record],
        stop: &CancellationToken,
    ) -> Option<Observed> {
        let mut total = self.until_noted(observer, consumer, records, Look::First, stop).await?;
        let until = Instant::now() + seen_within(&total.unseen, self.env.now());
        while !total.unseen.is_empty() && Instant::now() < until {
            stop.run_until_cancelled(sleep(UNTIL_SEEN)).await?;
            let unseen = std::mem::take(&mut total.unseen);
            let again = self.until_noted(observer, consumer, &unseen, Look::Again, stop).await?;
            total = total.then(again);
        }
        total.unknown += total.unseen.len();
        Some(total)
    }

    async fn until_noted(
        &self,
        observer: &Observer,
        consumer: &Consumer,
        records: &[Record],
        look: Look,
        stop: &CancellationToken,
    ) -> Option<Observed> {
        let mut retry = Retry::new("noting what the external relay sent", &self.env, stop);
        loop {
            match observer.run_once(records, look).await {
                Ok(observed) => return Some(retry.succeeded(observed)),
                Err(error) => {
                    retry.pause(&error).await?;
                    consumer.keep_alive().await;
                }
            }
        }
    }

    fn count_observed(&self, observed: &Observed) {
        self.metrics.relay_sent(count(observed.sent + observed.placed), 0);
        observed.first_sent.iter().for_each(|waited| self.metrics.commit_to_sent(*waited));
        self.metrics.observed_foreign(ForeignMessage::UnknownEvent, count(observed.unknown));
        self.metrics.observed_foreign(ForeignMessage::NotOurs, count(observed.foreign));
        if observed.unknown + observed.foreign > 0 {
            tracing::debug!(
                unknown = observed.unknown,
                foreign = observed.foreign,
                "some messages of the topic are no events that this database knows"
            );
        }
    }
}
