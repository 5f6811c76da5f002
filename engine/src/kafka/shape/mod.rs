//! Topics held against what the service needs of them: their shape, and the limits that are set on them.

mod faults;
mod found;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::config::KafkaSettings;
use common::telemetry::{BrokerState, TopicReport};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::types::RDKafkaErrorCode;
use thiserror::Error;

use super::client::{self, Context, KafkaError};
use faults::faults;
use found::{Found, PATIENCE, look_up, settings, why_unseen};

/// What a topic is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicUse {
    /// Events go to it.
    Events,
    /// Answers go to it.
    Answers,
    /// Other programs write messages to it, each of which counts.
    Feed,
    /// Other programs keep the last message of each key on it, for good.
    Table,
}

/// What a look at a topic came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLook {
    /// What of it does not fit.
    pub report: TopicReport,
    /// Whether the broker says that there is no such topic.
    pub is_missing: bool,
    /// Why nothing is known of what is set on it, though it can be looked at: the report says nothing of that.
    pub unseen: Option<String>,
}

/// Why topics can't be looked at.
#[derive(Debug, Error)]
pub enum LookError {
    /// The broker does not answer.
    #[error("the topic {topic} can't be looked up: {source}")]
    Unanswered {
        /// The first of which it says nothing.
        topic: String,
        /// What librdkafka says.
        source: rdkafka::error::KafkaError,
    },
    /// As while it is being made.
    #[error(
        "the topic {0} has no leader yet: it was just made, or the brokers that have it are away; try again in a moment"
    )]
    Leaderless(String),
    /// A flaw of this program.
    #[error("the look broke off: {0}")]
    Flaw(String),
}

/// Looks at topics that a service writes to.
pub struct TopicWatch {
    admin: Arc<AdminClient<Context>>,
    topics: Vec<(String, TopicUse)>,
    wanted: Wanted,
    /// Whether it was said that the settings of topics can't be seen.
    blind: AtomicBool,
}

/// What topics are held against.
struct Wanted {
    partitions: i32,
    /// Not positive: the broker decides.
    replication: i32,
    /// Not positive: the broker decides.
    in_sync: i32,
    /// What the producer may put into one record batch, in bytes.
    batch_bytes: i64,
    /// How long messages have to be kept, as the settings say.
    retention: Duration,
    /// How long they have to be kept whatever the settings say.
    least_retention: Duration,
}

/// How many times as long as an answer may take, messages have to be kept: an outage must fit in.
const KEPT: u32 = 100;

impl TopicWatch {
    /// Looks at `topics`, where `ack_timeout` is how long an answer may take; nobody is asked yet.
    ///
    /// # Errors
    /// When a property is not understood.
    pub fn new(
        settings: &KafkaSettings,
        topics: Vec<(String, TopicUse)>,
        ack_timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let failed = || KafkaError::during("the topics can't be looked at");
        let config = client::with_properties(client::base(settings, "stockloop-watch"), settings);
        let native = config.create_native_config().map_err(failed())?;
        let batch_bytes = native.get("message.max.bytes").map_err(failed())?;
        // It is idle most of the time, so what becomes of its connections says nothing of the broker.
        let context = Context { broker: BrokerState::default() };
        let admin = config.create_with_context(context).map_err(failed())?;
        let wanted = Wanted {
            partitions: settings.partitions,
            replication: settings.replication,
            in_sync: settings.min_insync_replicas,
            batch_bytes: batch_bytes.trim_end_matches('\0').parse().unwrap_or(0),
            retention: settings.retention,
            least_retention: ack_timeout.saturating_mul(KEPT),
        };
        Ok(Self { admin: Arc::new(admin), topics, wanted, blind: AtomicBool::default() })
    }

    /// What the topics look like now.
    ///
    /// # Errors
    /// Why the broker can't say.
    pub async fn look(&self) -> Result<Vec<TopicLook>, LookError> {
        let admin = Arc::clone(&self.admin);
        let names: Vec<String> = self.topics.iter().map(|(name, _)| name.clone()).collect();
        let asked = tokio::task::spawn_blocking(move || {
            names.iter().map(|name| look_up(&admin, name)).collect::<Result<Vec<_>, _>>()
        });
        let mut found = asked.await.map_err(|flaw| LookError::Flaw(flaw.to_string()))??;
        self.add_settings(&mut found).await;
        let look = |((topic, used), found): (&(String, TopicUse), Found)| TopicLook {
            report: TopicReport {
                topic: topic.clone(),
                partitions: found.partitions,
                faults: faults(*used, &self.wanted, &found),
            },
            is_missing: found.is_missing(),
            unseen: found.unseen,
        };
        Ok(self.topics.iter().zip(found).map(look).collect())
    }

    /// Adds what is set on those that exist; where that can't be seen, the rest is looked at without it.
    async fn add_settings(&self, found: &mut [Found]) {
        let there = self.topics.iter().zip(found).filter(|(_, found)| found.partitions > 0);
        let (named, mut found): (Vec<_>, Vec<_>) =
            there.map(|((name, _), found)| (ResourceSpecifier::Topic(name), found)).unzip();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let described = match self.admin.describe_configs(&named, &options).await {
            Ok(described) => described,
            Err(error) => {
                // Such as the embedded broker, which does not know the question.
                tracing::debug!(%error, "the settings of topics can't be seen");
                found.iter_mut().for_each(|found| found.unseen = Some(error.to_string()));
                return;
            }
        };
        for (found, described) in found.iter_mut().zip(described) {
            match described {
                Ok(resource) => found.settings = settings(resource),
                Err(code) => {
                    if code == RDKafkaErrorCode::TopicAuthorizationFailed {
                        self.say_blind();
                    }
                    found.unseen = Some(why_unseen(code));
                }
            }
        }
    }

    fn say_blind(&self) {
        if !self.blind.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "the limits of topics are not checked: allow this service's user DESCRIBE_CONFIGS on them for that"
            );
        }
    }
}
