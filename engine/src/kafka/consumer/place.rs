//! Where partitions are: what the group has committed, where they end, and reading them on from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use tokio::time::Instant;

use super::Consumer;
use crate::kafka::KafkaError;

/// How long the broker may take to say what is committed, or where a partition ends.
const ASK: Duration = Duration::from_secs(5);

/// How long a client may take to begin with a partition that was assigned.
const BEGIN: Duration = Duration::from_secs(2);

impl Consumer {
    /// The offsets that the group has committed of `partitions`, where it has.
    ///
    /// # Errors
    /// When the broker does not say so in time.
    pub async fn committed(
        &self,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let (inner, list) = (self.inner(), self.partitions(partitions.iter().copied()));
        let ask = move || inner.committed_offsets(list, ASK);
        let answered = blocking("offsets can't be asked for", ask).await?;
        let offset =
            |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element
                .offset()
            {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            };
        Ok(answered.elements().into_iter().filter_map(offset).collect())
    }

    /// Where a partition ends: the offset that its next message will have.
    ///
    /// # Errors
    /// When the broker does not say so in time.
    pub async fn end_of(&self, partition: i32) -> Result<i64, KafkaError> {
        let (inner, topic) = (self.inner(), self.topic().to_owned());
        let ask = move || inner.fetch_watermarks(&topic, partition, ASK);
        Ok(blocking("the end of a partition can't be asked for", ask).await?.1)
    }

    /// The partitions that are assigned to it now.
    ///
    /// # Errors
    /// When its client does not say so.
    pub fn held(&self) -> Result<BTreeSet<i32>, KafkaError> {
        let held = self.inner().assignment();
        let held = held.map_err(KafkaError::during("what is assigned is not known"))?;
        let elements = held.elements_for_topic(self.topic());
        Ok(elements.iter().map(|element| element.partition()).collect())
    }

    /// Reads an assigned partition from `offset` on, 0 being wherever it begins; what was taken of it and lies behind that
    /// comes again.
    ///
    /// # Errors
    /// When its client does not read that partition, also not a moment later.
    pub async fn seek(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let place = if offset == 0 { Offset::Beginning } else { Offset::Offset(offset) };
        let deadline = Instant::now() + BEGIN;
        loop {
            let (inner, topic) = (self.inner(), self.topic().to_owned());
            let ask = move || inner.seek(&topic, partition, place, ASK);
            match blocking("a partition can't be read from another place", ask).await {
                Ok(()) => break,
                Err(error) if Instant::now() >= deadline => return Err(error),
                // It has to ask the group first where to read a partition that it was just assigned.
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        self.drop_aside(partition);
        Ok(())
    }
}

/// Asks the broker, which may take a while, off the async threads.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    ask: impl FnOnce() -> Result<T, rdkafka::error::KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    let failed = |_| rdkafka::error::KafkaError::Canceled;
    tokio::task::spawn_blocking(ask)
        .await
        .map_err(failed)
        .and_then(|answer| answer)
        .map_err(KafkaError::during(what))
}
