//! Where a copy reads on, and how far the topic is ahead of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use common::clock::Timestamp;
use common::db::{Conn, DbError};
use diesel::QueryResult;

use super::position;
use super::progress::Reached;
use super::{ViewCopy, ViewPosition};
use crate::kafka::{Consumer, KafkaError};

/// Where the partitions of a consumer are to be read on.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// Those that are read from another place than they would be, with where that is.
    pub(super) seeks: BTreeMap<i32, i64>,
    /// Where the database is, of all.
    pub(super) reached: BTreeMap<i32, Reached>,
}

impl ViewCopy {
    /// Has `consumer` read `partitions` on from where the database is, whatever the group has committed: the database
    /// came back from a backup, is a new one or went back under this instance, or the topic was made anew. What was taken
    /// and may not be answered yet comes again, where somebody waits for answers. Returns the partitions that are read from
    /// another place now: what came of them before comes again.
    ///
    /// # Errors
    /// When broker or database does not answer; it may be tried again.
    pub async fn place(
        &self,
        consumer: &Consumer,
        partitions: &BTreeSet<i32>,
    ) -> anyhow::Result<BTreeSet<i32>> {
        if partitions.is_empty() {
            return Ok(BTreeSet::new());
        }
        let committed = consumer.committed(partitions).await?;
        let ends = ends(consumer, partitions).await?;
        let copy = self.clone();
        let compared = self.db.write::<_, DbError>(move |conn| {
            let now = copy.env.now();
            Ok(copy.compare(conn, now, &committed, &ends)?)
        });
        let Placing { seeks, reached } =
            compared.await.context("how far the copy is can't be read")?;
        for (partition, offset) in &seeks {
            consumer.seek(*partition, *offset).await?;
        }
        // Not before: what failed half-way is done whole the next time.
        self.progress.placed(reached);
        Ok(seeks.into_keys().collect())
    }

    /// A partition of this instance is another's by now: it is placed anew if it comes back.
    pub(crate) fn forget(&self, partition: i32) {
        self.progress.forget(partition);
    }

    /// Notes where the partitions end that `consumer` has; those in which the database went back are placed anew.
    ///
    /// # Errors
    /// When broker or database does not answer.
    pub async fn measure(&self, consumer: &Consumer) -> anyhow::Result<()> {
        let held = consumer.held()?;
        let ends = ends(consumer, &held).await?;
        if ends.is_empty() {
            return Ok(());
        }
        let (copy, partitions) = (self.clone(), held.clone());
        let noted = self.db.write::<_, DbError>(move |conn| {
            let found = position::locked(conn, &copy.topic, &partitions)?;
            position::note_ends(conn, &copy.topic, &ends, copy.env.now())?;
            Ok(found)
        });
        let found = noted.await.context("where the topic ends can't be noted")?;
        // No message need come for it: what was lost with the database waits in the topic.
        consumer.look_again(self.progress.lost(&held, &found));
        Ok(())
    }

    /// Where the partitions are to be read on: from where the database is. Of a topic that was made anew, that is its
    /// beginning.
    pub(super) fn compare(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        committed: &BTreeMap<i32, i64>,
        ends: &BTreeMap<i32, i64>,
    ) -> QueryResult<Placing> {
        let partitions: BTreeSet<i32> = ends.keys().copied().collect();
        // Once per process: an instance that still has the former setting must not take turns with one that has the new.
        if self.progress.is_new() && position::is_outdated(conn, &self.topic)? {
            tracing::info!(topic = self.topic, "another topic was copied meanwhile");
            position::begin_all_anew(conn, &self.topic, now)?;
        }
        let mut placing = Placing::default();
        for (partition, position) in position::known(conn, &self.topic, &partitions, now)? {
            let end = ends.get(&partition).copied().unwrap_or(0);
            let committed = committed.get(&partition).copied();
            let reached = if is_of_a_former_topic(&position, committed, end) {
                tracing::info!(topic = self.topic, partition, end, "a partition is read anew");
                position::begin_anew(conn, &self.topic, partition, now)?
            } else {
                Reached::from(&position)
            };
            if self.is_elsewhere(partition, &position, reached, committed) {
                placing.seeks.insert(partition, self.reads_on(reached, committed));
            }
            placing.reached.insert(partition, reached);
        }
        position::note_ends(conn, &self.topic, ends, now)?;
        Ok(placing)
    }

    /// From where a partition is read on: from where the group is, if what it does not know of may not be answered yet.
    fn reads_on(&self, reached: Reached, committed: Option<i64>) -> i64 {
        let answered = committed.filter(|_| self.answers_somebody());
        answered.map_or(reached.next_offset, |answered| answered.min(reached.next_offset))
    }

    /// Whether the consumer may read on elsewhere than it should.
    fn is_elsewhere(
        &self,
        partition: i32,
        found: &ViewPosition,
        reached: Reached,
        committed: Option<i64>,
    ) -> bool {
        let went_back = self.progress.is_ahead_of(found);
        if went_back || committed.is_some_and(|committed| reached.next_offset < committed) {
            let (topic, offset) = (&self.topic, self.reads_on(reached, committed));
            tracing::info!(topic, partition, offset, "a partition is read from there again");
            return true;
        }
        // Without an offset of the group, the consumer begins where its settings say.
        !self.progress.has(partition) || committed.is_none() || reached != Reached::from(found)
    }
}

/// A partition that ends before what was taken of it, or of which the group has no offset any more, which goes with its
/// topic. The latter may also be one of which nothing was committed yet: then it is read twice.
fn is_of_a_former_topic(position: &ViewPosition, committed: Option<i64>, end: i64) -> bool {
    end < position.next_offset || (committed.is_none() && position.next_offset > 0)
}

async fn ends(
    consumer: &Consumer,
    partitions: &BTreeSet<i32>,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut ends = BTreeMap::new();
    for partition in partitions {
        ends.insert(*partition, consumer.end_of(*partition).await?);
    }
    Ok(ends)
}
