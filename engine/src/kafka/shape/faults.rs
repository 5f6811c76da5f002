//! What of a topic does not fit, each with what to do.

use std::time::Duration;

use common::duration::written;

use super::found::Found;
use super::{KEPT, TopicUse, Wanted};
use crate::inbox::ACK_MESSAGE_BYTES;
use crate::kafka::topics::CLEANUP_POLICY;
use crate::outbox::SHARDS;

/// What of a topic does not fit, each with what to do.
pub(super) fn faults(used: TopicUse, wanted: &Wanted, found: &Found) -> Vec<String> {
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
    use rdkafka::types::RDKafkaErrorCode;

    use super::super::LookError;
    use super::super::found::refusal;
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
