//! What looks after the broker's side: whether the consumers can receive, and whether the topics fit.

use std::time::Duration;

use common::telemetry::{ConsumerReport, ConsumerStatus, TopicReport};
use tokio_util::sync::CancellationToken;

use super::viewing::VIEW;
use crate::Engine;
use crate::alerts::{AlertKind, Condition, NewAlert};
use crate::kafka::{TopicUse, TopicWatch, cut_error};
use crate::worker::Tasks;

/// How often the consumers are looked at, which costs nothing.
const CONSUMERS: Duration = Duration::from_secs(2);

/// How often topics are looked at that fit.
const TOPICS: Duration = Duration::from_secs(30);

/// How often topics are looked at that do not, or that the broker can't tell of.
const TOPICS_AGAIN: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) fn start_watching(
        self,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let kafka = &self.settings.kafka;
        let mut topics = Vec::new();
        // Each topic is one service's to look after: that which writes to it, and knows how much.
        if self.sends {
            topics.push((kafka.outbound_topic.clone(), TopicUse::Events));
        }
        if self.handler.is_some() {
            topics.push((kafka.inbound_ack_topic.clone(), TopicUse::Answers));
        }
        let watch = TopicWatch::new(kafka, topics, self.settings.outbox.ack_timeout)?;
        tasks.spawn_loop("topics", self.clone().watch_topics(watch, stop.clone()));
        tasks.spawn_loop("consumers", self.watch_consumers(stop.clone()));
        Ok(())
    }

    async fn watch_consumers(self, stop: CancellationToken) {
        let of_loop = self.condition(AlertKind::NotReceived);
        // Also where no view is copied any more: an alert of before is closed.
        let of_view = self.condition(AlertKind::NotReceived).about_key(&self.view_group());
        loop {
            let (view, others): (Vec<ConsumerReport>, Vec<ConsumerReport>) =
                self.broker.consumers().into_iter().partition(|one| one.consumer == VIEW);
            self.judge_consumers(&others, &of_loop).await;
            self.judge_consumers(&view, &of_view).await;
            if rest(CONSUMERS, &stop).await.is_none() {
                return;
            }
        }
    }

    /// Tells which of them are down, or that all are up.
    async fn judge_consumers(&self, consumers: &[ConsumerReport], condition: &Condition) {
        let down: Vec<&ConsumerReport> =
            consumers.iter().filter(|one| one.fault().is_some()).collect();
        if !down.is_empty() {
            condition.met(|_, _| Ok(true), self.not_received(&down)).await;
        } else if consumers.iter().all(|one| one.status == ConsumerStatus::Up) {
            condition.ended("messages are received again").await;
        }
    }

    fn not_received(&self, down: &[&ConsumerReport]) -> NewAlert {
        let topics: Vec<&str> = down.iter().map(|one| one.topic.as_str()).collect();
        let cause = |one: &&ConsumerReport| {
            Some(format!("{} in the group {}: {}", one.topic, one.group, one.fault()?))
        };
        let causes: Vec<String> = down.iter().filter_map(cause).collect();
        let (topics, cause) = (list("the topic", &topics), cut_error(&causes.join(". ")));
        NewAlert::not_received(&self.settings.service.name, &topics, &cause)
    }

    async fn watch_topics(self, watch: TopicWatch, stop: CancellationToken) {
        let condition = self.condition(AlertKind::TopicShape);
        // At the first start they are missing for a moment.
        stop.run_until_cancelled(self.broker.until_topics_made()).await;
        loop {
            let Some(looked) = stop.run_until_cancelled(watch.look()).await else { return };
            let again = match looked {
                Ok(found) => {
                    let found = found.into_iter().map(|look| look.report).collect();
                    self.judge_topics(found, &condition).await
                }
                Err(error) => {
                    tracing::debug!(%error, "the topics can't be looked at");
                    TOPICS_AGAIN
                }
            };
            if rest(again, &stop).await.is_none() {
                return;
            }
        }
    }

    /// Tells what does not fit; returns when to look again.
    async fn judge_topics(&self, found: Vec<TopicReport>, condition: &Condition) -> Duration {
        let unfit: Vec<TopicReport> =
            found.iter().filter(|one| !one.faults.is_empty()).cloned().collect();
        if self.broker.note_topics(found) {
            for one in &unfit {
                tracing::warn!(
                    topic = one.topic,
                    faults = one.faults.join("; "),
                    "a topic does not fit"
                );
            }
        }
        if unfit.is_empty() {
            condition.ended("the topics fit").await;
            return TOPICS;
        }
        let names: Vec<&str> = unfit.iter().map(|one| one.topic.as_str()).collect();
        let cause = |one: &TopicReport| format!("{}: {}", one.topic, one.faults.join("; "));
        let causes: Vec<String> = unfit.iter().map(cause).collect();
        let (service, cause) = (&self.settings.service.name, cut_error(&causes.join(". ")));
        condition
            .met(|_, _| Ok(true), NewAlert::topic_shape(service, &names.join(", "), &cause))
            .await;
        TOPICS_AGAIN
    }
}

/// `the topic a`, or `the topics a, b`.
fn list(what: &str, names: &[&str]) -> String {
    let plural = if names.len() > 1 { "s" } else { "" };
    format!("{what}{plural} {}", names.join(", "))
}

async fn rest(pause: Duration, stop: &CancellationToken) -> Option<()> {
    tokio::select! {
        () = stop.cancelled() => None,
        () = tokio::time::sleep(pause) => Some(()),
    }
}
