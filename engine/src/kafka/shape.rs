//! Topics held against what the service needs of them: their shape, and the limits that are set on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::config::KafkaSettings;
use common::duration::written;
use common::telemetry::{BrokerState, TopicReport};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaErrorCode;
use thiserror::Error;

use super::client::{self, Context, KafkaError};
use super::topics::CLEANUP_POLICY;
use crate::inbox::ACK_MESSAGE_BYTES;
use crate::outbox::SHARDS;

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

/// What a topic looks like.
#[derive(Default)]
struct Found {
    partitions: usize,
    /// Of the partition that has the fewest.
    replicas: usize,
    /// What is set on it.
    settings: BTreeMap<String, String>,
    /// Why that is not known.
    unseen: Option<String>,
    /// Why it can't be looked at.
    refused: Option<String>,
}

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
            names.iter().map(|name| shape(&admin, name)).collect::<Result<Vec<_>, _>>()
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

impl Found {
    /// Whether there is no such topic, rather than one that can't be looked at.
    fn is_missing(&self) -> bool {
        self.partitions == 0 && self.refused.is_none()
    }
}

/// What it means that the broker answers with `code` instead of a topic's settings.
fn why_unseen(code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => "allow DESCRIBE_CONFIGS on it".to_owned(),
        code => code.to_string(),
    }
}

/// Blocks for at most [`PATIENCE`].
fn shape(admin: &AdminClient<Context>, topic: &str) -> Result<Found, LookError> {
    let found = admin.inner().fetch_metadata(Some(topic), PATIENCE);
    let metadata: Metadata =
        found.map_err(|source| LookError::Unanswered { topic: topic.to_owned(), source })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let refused = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
    match (found, refused) {
        (None, _) => Ok(Found::default()),
        (_, Some(code)) => refusal(topic, code),
        (Some(found), None) => {
            let partitions = found.partitions();
            let replicas = partitions.iter().map(|one| one.replicas().len()).min().unwrap_or(0);
            Ok(Found { partitions: partitions.len(), replicas, ..Found::default() })
        }
    }
}

/// What it means that the broker answers with `code` instead of the topic's shape.
fn refusal(topic: &str, code: RDKafkaErrorCode) -> Result<Found, LookError> {
    use RDKafkaErrorCode as Code;
    let advice = match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition => return Ok(Found::default()),
        Code::LeaderNotAvailable => return Err(LookError::Leaderless(topic.to_owned())),
        Code::TopicAuthorizationFailed => "allow DESCRIBE on it",
        _ => "look for the error among those of Apache Kafka",
    };
    let refused = Some(format!("it can't be looked at: {code}; {advice}"));
    Ok(Found { refused, ..Found::default() })
}

fn settings(resource: ConfigResource) -> BTreeMap<String, String> {
    resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// What of a topic does not fit, each with what to do.
fn faults(used: TopicUse, wanted: &Wanted, found: &Found) -> Vec<String> {
    if let Some(refused) = &found.refused {
        return vec![refused.clone()];
    }
    if found.is_missing() {
        return vec![
            "it does not exist: make it, or let a start of the service do so (kafka.create_topics)"
                .to_owned(),
        ];
    }
    let mut faults = Vec::new();
    // A key of a table must not move to another partition.
    if used != TopicUse::Table {
        faults.extend(fault_of_partitions(wanted, found));
    }
    if used == TopicUse::Events {
        faults.extend(fault_of_shards(found));
    }
    faults.extend(fault_of_replicas(wanted, found));
    faults.extend(fault_of_in_sync(wanted, found));
    faults.extend(fault_of_size(used, wanted, found));
    faults.extend(fault_of_policy(used, found));
    if used != TopicUse::Table {
        faults.extend(fault_of_retention(wanted, found));
        faults.extend(fault_of_bound(found));
    }
    faults
}

fn fault_of_partitions(wanted: &Wanted, found: &Found) -> Option<String> {
    let (has, asked) = (found.partitions, usize::try_from(wanted.partitions).ok()?);
    let what = match has {
        _ if has == asked => return None,
        _ if has < asked => "add partitions (kafka-topics.sh --alter --partitions)",
        _ => "a topic can't lose partitions, so set kafka.partitions to what it has",
    };
    let has = counted(has, "partition");
    Some(format!("it has {has}, kafka.partitions says {asked}: {what}"))
}

/// `1 partition`, `2 partitions`.
fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A partition takes whole shards.
fn fault_of_shards(found: &Found) -> Option<String> {
    let shards = usize::try_from(SHARDS).ok()?;
    match found.partitions {
        has if has > shards => Some(format!(
            "it has {has} partitions, and those above {shards} stay empty: make it anew with fewer"
        )),
        has if shards % has != 0 => Some(format!(
            "its {has} partitions are filled unevenly: choose a number that divides {shards}"
        )),
        _ => None,
    }
}

fn fault_of_replicas(wanted: &Wanted, found: &Found) -> Option<String> {
    let asked = usize::try_from(wanted.replication).ok().filter(|asked| *asked > 0)?;
    (found.replicas != asked).then(|| {
        let has = counted(found.replicas, "replica");
        format!("it has {has}, kafka.replication says {asked}: reassign its partitions, or change the setting")
    })
}

fn fault_of_in_sync(wanted: &Wanted, found: &Found) -> Option<String> {
    let needed = number(found, "min.insync.replicas")?;
    if usize::try_from(needed).is_ok_and(|needed| needed > found.replicas) {
        let has = counted(found.replicas, "replica");
        return Some(format!(
            "min.insync.replicas is {needed}, and it has only {has}, so nothing can be written to it"
        ));
    }
    let asked = i64::from(wanted.in_sync);
    (asked > 0 && needed != asked).then(|| {
        format!(
            "its min.insync.replicas is {needed}, kafka.min_insync_replicas says {asked}: alter the topic \
             (kafka-configs.sh), or change the setting"
        )
    })
}

fn fault_of_size(used: TopicUse, wanted: &Wanted, found: &Found) -> Option<String> {
    let limit = number(found, "max.message.bytes")?;
    let needed = match used {
        TopicUse::Events => wanted.batch_bytes,
        TopicUse::Answers => i64::try_from(ACK_MESSAGE_BYTES).ok()?.min(wanted.batch_bytes),
        TopicUse::Feed | TopicUse::Table => return None,
    };
    (limit < needed).then(|| {
        format!(
            "its max.message.bytes is {limit}, and this service sends up to {needed}: raise it, or lower \
             message.max.bytes in kafka.properties"
        )
    })
}

/// Whether messages may go that nobody has read.
fn fault_of_policy(used: TopicUse, found: &Found) -> Option<String> {
    let compacts = policies(found).any(|one| one == "compact");
    if used == TopicUse::Table {
        let deletes = policies(found).any(|one| one == CLEANUP_POLICY);
        return deletes.then(|| {
            "its cleanup.policy has delete, so keys go of which nothing new was written for long: set it to compact"
                .to_owned()
        });
    }
    let lost = match used {
        TopicUse::Events => "all events of a key but the last, commands too",
        TopicUse::Answers => "all answers for a partition but the last batch",
        TopicUse::Feed | TopicUse::Table => "all messages of a key but the last",
    };
    compacts.then(|| {
        format!("its cleanup.policy is compact, which deletes {lost}, whether they were read or not: set it to {CLEANUP_POLICY}")
    })
}

fn fault_of_retention(wanted: &Wanted, found: &Found) -> Option<String> {
    if !policies(found).any(|one| one == CLEANUP_POLICY) {
        return None;
    }
    // Negative: for good.
    let kept = u64::try_from(number(found, "retention.ms")?).map(Duration::from_millis).ok()?;
    let Wanted { retention, least_retention: least, .. } = wanted;
    let needed = *retention.max(least);
    if kept >= needed {
        return None;
    }
    let whose = if retention < least {
        format!("{KEPT} times outbox.ack_timeout are {}", written(needed))
    } else {
        format!("kafka.retention says {}", written(needed))
    };
    let advice = if kept < *least {
        "an outage may outlast that"
    } else {
        "if no reader is ever away for longer, lower the setting"
    };
    let (kept, needed) = (written(kept), needed.as_millis());
    Some(format!(
        "it keeps messages for {kept} only, and {whose}: set its retention.ms to {needed} at least; {advice}"
    ))
}

fn fault_of_bound(found: &Found) -> Option<String> {
    let bound = number(found, "retention.bytes").filter(|bound| *bound >= 0)?;
    policies(found).any(|one| one == CLEANUP_POLICY).then(|| {
        format!(
            "it keeps {bound} bytes of a partition only, so with many messages those go that nobody has read: set its \
             retention.bytes to -1"
        )
    })
}

fn policies(found: &Found) -> impl Iterator<Item = &str> {
    let policy = found.settings.get("cleanup.policy").map_or("", String::as_str);
    policy.split(',').map(str::trim)
}

fn number(found: &Found, name: &str) -> Option<i64> {
    found.settings.get(name)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        partitions: 4,
        replication: 3,
        in_sync: 2,
        batch_bytes: 1_000_000,
        retention: Duration::from_secs(86_400),
        least_retention: Duration::from_secs(3_000),
    };

    fn found(partitions: usize, replicas: usize, settings: &[(&str, &str)]) -> Found {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Found { partitions, replicas, settings: settings.collect(), ..Found::default() }
    }

    #[track_caller]
    fn has_one(found: &Found, words: &[&str]) {
        let faults = faults(TopicUse::Events, &WANTED, found);
        let is_about = |fault: &String| words.iter().all(|word| fault.contains(word));
        assert!(matches!(&*faults, [one] if is_about(one)), "{words:?}: {faults:?}");
    }

    #[test]
    fn a_topic_as_brokers_make_it_has_no_fault() {
        let usual = [
            ("max.message.bytes", "1048588"),
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("min.insync.replicas", "2"),
        ];
        for used in [TopicUse::Events, TopicUse::Answers] {
            assert_eq!(faults(used, &WANTED, &found(4, 3, &usual)), [""; 0]);
            assert_eq!(faults(used, &WANTED, &found(4, 3, &[])), [""; 0], "nothing can be seen");
        }
        let forever = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
        assert_eq!(faults(TopicUse::Events, &WANTED, &found(4, 3, &forever)), [""; 0]);
        let any = Wanted { replication: -1, in_sync: -1, ..WANTED };
        let alone = [("min.insync.replicas", "1")];
        assert_eq!(faults(TopicUse::Events, &any, &found(4, 1, &alone)), [""; 0]);
    }

    #[test]
    fn each_fault_is_told_with_its_numbers() {
        has_one(&found(0, 0, &[]), &["does not exist"]);
        has_one(&found(1, 3, &[]), &["1 partition,", "says 4", "add partitions"]);
        has_one(&found(8, 3, &[]), &["8 partitions", "set kafka.partitions"]);
        has_one(&found(4, 1, &[]), &["1 replica,", "says 3"]);
        has_one(&found(4, 3, &[("min.insync.replicas", "4")]), &["nothing can be written"]);
        has_one(&found(4, 3, &[("max.message.bytes", "20000")]), &["20000", "1000000"]);
        has_one(&found(4, 3, &[("min.insync.replicas", "1")]), &["is 1,", "says 2"]);
        has_one(
            &found(4, 3, &[("cleanup.policy", "compact,delete")]),
            &["compact", "commands too"],
        );
        let kept = |ms| found(4, 3, &[("cleanup.policy", "delete"), ("retention.ms", ms)]);
        has_one(&kept("60000"), &["for 1m only", "says 24h", "86400000", "an outage may outlast"]);
        has_one(&kept("43200000"), &["for 12h only", "says 24h", "lower the setting"]);
    }

    #[test]
    fn a_bound_in_bytes_is_told() {
        let kept = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "9")];
        let told = faults(TopicUse::Events, &WANTED, &found(4, 3, &kept));
        assert!(matches!(&*told, [one] if one.contains("9 bytes of a partition only")), "{told:?}");
    }

    #[test]
    fn compaction_of_answers_is_told_as_what_it_loses() {
        let told =
            faults(TopicUse::Answers, &WANTED, &found(4, 3, &[("cleanup.policy", "compact")]));
        assert!(matches!(&*told, [one] if one.contains("but the last batch")), "{told:?}");
    }

    #[test]
    fn a_table_is_compacted_and_a_feed_is_not() {
        let (compacted, kept) = ([("cleanup.policy", "compact")], [("cleanup.policy", "delete")]);
        let told = |used, settings: &[(&str, &str)]| faults(used, &WANTED, &found(4, 3, settings));
        assert_eq!(told(TopicUse::Table, &compacted), [""; 0]);
        assert_eq!(told(TopicUse::Feed, &kept), [""; 0]);
        assert!(matches!(&*told(TopicUse::Table, &kept), [one] if one.contains("has delete")));
        let lost = told(TopicUse::Feed, &compacted);
        assert!(matches!(&*lost, [one] if one.contains("but the last")), "{lost:?}");
        let more = found(8, 3, &compacted);
        assert_eq!(
            faults(TopicUse::Table, &WANTED, &more),
            [""; 0],
            "its keys stay where they are"
        );
    }

    #[test]
    fn what_an_outage_takes_is_kept_whatever_the_setting_says() {
        let careless = Wanted { retention: Duration::from_secs(60), ..WANTED };
        let kept = found(4, 3, &[("cleanup.policy", "delete"), ("retention.ms", "60000")]);
        let told = faults(TopicUse::Events, &careless, &kept);
        let words = ["for 1m only", "100 times outbox.ack_timeout are 50m", "3000000"];
        assert!(matches!(&*told, [one] if words.iter().all(|word| one.contains(word))), "{told:?}");
    }

    #[test]
    fn a_topic_that_may_not_be_looked_at_is_told_as_that() {
        let denied = refusal("t", RDKafkaErrorCode::TopicAuthorizationFailed).unwrap();
        has_one(&denied, &["can't be looked at", "allow DESCRIBE"]);
        assert!(!denied.is_missing(), "nobody knows");
        let missing = refusal("t", RDKafkaErrorCode::UnknownTopicOrPartition).unwrap();
        has_one(&missing, &["does not exist"]);
        assert!(missing.is_missing());
        let leaderless = refusal("t", RDKafkaErrorCode::LeaderNotAvailable).err();
        assert!(matches!(leaderless, Some(LookError::Leaderless(_))), "it is being made");
    }

    #[test]
    fn settings_that_may_not_be_seen_are_told_with_what_to_do() {
        let why = why_unseen(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(why.contains("allow DESCRIBE_CONFIGS"), "{why}");
        let why = why_unseen(RDKafkaErrorCode::RequestTimedOut);
        assert!(!why.contains("allow"), "{why}");
    }

    #[test]
    fn events_want_a_number_of_partitions_that_divides_the_shards() {
        for (partitions, words) in [(3, "unevenly"), (96, "stay empty")] {
            let wanted = Wanted { partitions, ..WANTED };
            let found = found(usize::try_from(partitions).unwrap(), 3, &[]);
            let told = faults(TopicUse::Events, &wanted, &found);
            assert!(matches!(&*told, [one] if one.contains(words)), "{told:?}");
            assert_eq!(faults(TopicUse::Answers, &wanted, &found), [""; 0], "answers go anywhere");
        }
    }

    #[test]
    fn answers_need_less_room_than_events() {
        let found = found(4, 3, &[("max.message.bytes", "600000")]);
        assert_eq!(faults(TopicUse::Events, &WANTED, &found).len(), 1);
        assert_eq!(faults(TopicUse::Answers, &WANTED, &found), [""; 0]);
    }
}
