//! The topics, who reads them, and how far they have read.

use std::time::Duration;

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::check::Side;
use crate::topics::{ACKS, EVENTS, ORDER_ACKS, ORDERS};

/// The topics, and of each who reads it: the name of the service's group.
pub(super) const TOPICS: [(&str, &str); 4] = [
    (EVENTS, "order-service"),
    (ACKS, "product-service.acks"),
    (ORDERS, "product-service"),
    (ORDER_ACKS, "order-service.acks"),
];

/// Of each topic, at first.
pub(super) const PARTITIONS: i32 = 4;

/// How long a broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A client of the brokers, with nothing in between.
pub(super) fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("message.max.bytes", "4000000");
    config
}

/// The topics that a service reads, each with the group in which it does: events, and the answers to its own.
pub(super) const fn read_by(side: Side) -> [(&'static str, &'static str); 2] {
    let [events, acks, orders, order_acks] = TOPICS;
    match side {
        Side::Product => [orders, acks],
        Side::Order => [events, order_acks],
    }
}

/// Whether answers are on this topic, rather than events.
pub(super) fn is_of_answers(topic: &str) -> bool {
    matches!(topic, ACKS | ORDER_ACKS)
}

/// How far a group has read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) partition: i32,
    /// The first message that is there, and where the next one will lie.
    pub(super) low: i64,
    pub(super) high: i64,
    /// The first message that it has not done with; none: it has done with none.
    done: Option<i64>,
}

impl Progress {
    /// The first message that it will be given.
    pub(super) fn goes_on_at(self) -> i64 {
        self.done.unwrap_or(self.low).max(self.low)
    }

    /// Messages that are there and that it has not done with.
    fn unread(self) -> i64 {
        (self.high - self.goes_on_at()).max(0)
    }

    /// Messages that went before it got there.
    fn missed(self) -> i64 {
        (self.low - self.done.unwrap_or_default()).max(0)
    }
}

/// How far a group has read each partition of a topic.
pub(super) fn progress(brokers: &str, topic: &str, group: &str) -> Result<Vec<Progress>> {
    let reader: BaseConsumer = client(brokers).set("group.id", group).create()?;
    let mut list = TopicPartitionList::new();
    for partition in partitions(&reader, topic)? {
        list.add_partition(topic, partition);
    }
    let committed = reader.committed_offsets(list, TIMEOUT)?;
    let progress = |element: &TopicPartitionListElem<'_>| -> Result<Progress> {
        let partition = element.partition();
        let (low, high) = reader.fetch_watermarks(topic, partition, TIMEOUT)?;
        let done = element.offset().to_raw().filter(|offset| *offset >= 0);
        Ok(Progress { partition, low, high, done })
    };
    committed.elements().iter().map(progress).collect()
}

/// Messages that their readers have not done with, in words for each partition that has some.
pub(super) fn unread(brokers: &str) -> Result<Vec<String>> {
    let mut unread = Vec::new();
    for (topic, group) in TOPICS {
        for progress in progress(brokers, topic, group)?.into_iter().filter(|one| one.unread() > 0)
        {
            let (many, from, partition) =
                (progress.unread(), progress.goes_on_at(), progress.partition);
            unread.push(format!("{many} messages from {from} on in {topic}/{partition}"));
        }
    }
    Ok(unread)
}

/// Messages that went before the service got there that reads them.
pub(super) fn missed(brokers: &str, side: Side) -> Result<u64> {
    let missed = |(topic, group)| -> Result<i64> {
        Ok(progress(brokers, topic, group)?.into_iter().map(Progress::missed).sum())
    };
    let missed: i64 = read_by(side).into_iter().map(missed).sum::<Result<i64>>()?;
    Ok(missed.unsigned_abs())
}

/// Messages in partitions that the topics did not have at first.
pub(super) fn in_new_partitions(brokers: &str) -> Result<u64> {
    let reader: BaseConsumer = client(brokers).create()?;
    let mut found = 0;
    for (topic, _) in TOPICS {
        let all = partitions(&reader, topic)?;
        for partition in all.into_iter().filter(|partition| *partition >= PARTITIONS) {
            let (low, high) = reader.fetch_watermarks(topic, partition, TIMEOUT)?;
            found += u64::try_from(high - low)?;
        }
    }
    Ok(found)
}

/// The partitions of a topic that this broker leads.
pub(super) fn led_by(brokers: &str, topic: &str, node: i32) -> Result<Vec<i32>> {
    let asker: BaseConsumer = client(brokers).create()?;
    partitions_that(&asker, topic, |partition| partition.leader() == node)
}

/// The partitions that a topic has by now.
fn partitions(asker: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    partitions_that(asker, topic, |_| true)
}

fn partitions_that(
    asker: &BaseConsumer,
    topic: &str,
    is_it: impl Fn(&MetadataPartition) -> bool,
) -> Result<Vec<i32>> {
    let metadata = asker.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata.topics().iter().flat_map(|found| found.partitions());
    Ok(partitions.filter(|partition| is_it(partition)).map(MetadataPartition::id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_missed_and_not_waited_for() {
        let of = |low, high, done| {
            let read = Progress { partition: 0, low, high, done };
            (read.goes_on_at(), read.unread(), read.missed())
        };
        assert_eq!(of(0, 9, None), (0, 9, 0));
        assert_eq!(of(0, 9, Some(4)), (4, 5, 0));
        assert_eq!(of(6, 9, Some(4)), (6, 3, 2));
        assert_eq!(of(9, 9, Some(4)), (9, 0, 5));
        assert_eq!(of(3, 9, None), (3, 6, 3));
    }

    #[test]
    fn each_topic_is_read_by_one_service() {
        let read = Side::BOTH.map(read_by).concat();
        assert!(TOPICS.iter().all(|topic| read.contains(topic)) && read.len() == TOPICS.len());
        let own = |side: Side| read_by(side).iter().all(|(_, g)| g.starts_with(&side.to_string()));
        assert!(Side::BOTH.into_iter().all(own));
    }
}
