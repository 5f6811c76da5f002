//! What a service knows of its broker: whether it can be reached, who can receive from it, and its topics.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::consumers::{ConsumerReport, ConsumerState};
use crate::env::Env;

/// What is known of the broker; cheap to clone, all clones share it.
#[derive(Debug, Clone)]
pub struct BrokerState(Arc<Known>);

#[derive(Debug)]
struct Known {
    env: Env,
    report: RwLock<BrokerReport>,
    /// How a broker has refused its clients since one last answered.
    refusal: RwLock<Option<String>>,
    consumers: RwLock<Vec<ConsumerState>>,
    topics: RwLock<Vec<TopicReport>>,
    /// Whether the topics that this service makes are made.
    are_made: watch::Sender<bool>,
}

/// How long topics that are being made are waited for: a broker that is away must hold up nothing for longer.
const MAKING: Duration = Duration::from_secs(10);

/// The connection to the broker as it is reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum BrokerReport {
    /// Not known yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not; events wait in the outbox meanwhile.
    Down {
        /// How it refuses its clients, or else what the client said last.
        reason: String,
    },
}

/// A topic that this service writes to, held against its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopicReport {
    /// Its name.
    pub topic: String,
    /// How many partitions it has; 0: it does not exist, or can't be looked at.
    pub partitions: usize,
    /// What does not fit, each with what to do.
    pub faults: Vec<String>,
}

impl Default for BrokerState {
    fn default() -> Self {
        Self::new(Env::system())
    }
}

impl BrokerState {
    /// Nothing is known yet.
    pub fn new(env: Env) -> Self {
        let (report, refusal, consumers, topics) = Default::default();
        let are_made = watch::Sender::new(true);
        Self(Arc::new(Known { env, report, refusal, consumers, topics, are_made }))
    }

    /// Notes that the broker answers.
    pub fn up(&self) {
        *self.0.refusal.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.set(BrokerReport::Up);
    }

    /// Notes that it does not, and why; but if it refuses its clients, that is why.
    pub fn down(&self, reason: impl Into<String>) {
        let refusal = self.0.refusal.read().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = refusal.unwrap_or_else(|| reason.into());
        self.set(BrokerReport::Down { reason });
    }

    /// Notes how a broker refuses its clients, such as for a certificate. Others may let them in, so it is not down for that.
    pub fn refuses(&self, words: &str) {
        *self.0.refusal.write().unwrap_or_else(PoisonError::into_inner) = Some(words.to_owned());
        if matches!(self.describe(), BrokerReport::Down { .. }) {
            self.down(words);
        }
    }

    /// What was noted last.
    pub fn describe(&self) -> BrokerReport {
        self.0.report.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state of a consumer that begins; it takes the place of an earlier one of that name.
    pub fn consumer(&self, consumer: &'static str, topic: &str, group: &str) -> ConsumerState {
        let state = ConsumerState::new(consumer, topic, group, self.0.env.clone());
        let mut all = self.0.consumers.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.consumer() != consumer);
        all.push(state.clone());
        all.sort_by_key(ConsumerState::consumer);
        state
    }

    /// What receives from it, by name.
    pub fn consumers(&self) -> Vec<ConsumerReport> {
        let all = self.0.consumers.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(ConsumerState::report).collect()
    }

    /// Notes what the topics look like, and returns whether that is news.
    pub fn note_topics(&self, found: Vec<TopicReport>) -> bool {
        let mut topics = self.0.topics.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = *topics != found;
        *topics = found;
        is_new
    }

    /// The topics that this service writes to, as of the last look; none before the first.
    pub fn topics(&self) -> Vec<TopicReport> {
        self.0.topics.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whether the topics that this service makes are made.
    pub fn topics_made(&self, are_made: bool) {
        self.0.are_made.send_replace(are_made);
    }

    /// Waits until the topics that this service makes are made, for at most 10 s: one that is missing until then is no
    /// fault yet.
    pub async fn until_topics_made(&self) {
        let mut are_made = self.0.are_made.subscribe();
        if tokio::time::timeout(MAKING, are_made.wait_for(|are_made| *are_made)).await.is_err() {
            tracing::debug!("the topics are not made yet; they are not waited for any longer");
        }
    }

    fn set(&self, report: BrokerReport) {
        *self.0.report.write().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_broker_refuses_is_told_until_it_answers() {
        let broker = BrokerState::default();
        let down = |reason: &str| BrokerReport::Down { reason: reason.to_owned() };
        broker.refuses("certificate verify failed");
        assert_eq!(broker.describe(), BrokerReport::Unknown, "another one may let it in");
        broker.down("1/1 brokers are down");
        assert_eq!(broker.describe(), down("certificate verify failed"));
        broker.refuses("certificate has expired");
        assert_eq!(broker.describe(), down("certificate has expired"));
        broker.up();
        broker.down("1/1 brokers are down");
        assert_eq!(broker.describe(), down("1/1 brokers are down"), "that was before");
    }
}
