//! Where a copy reads on, and how far the topic is ahead of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use common::clock::Timestamp;
use common::db::{Conn, DbError};
use diesel::QueryResult;

use super::{ViewCopy, position};
use crate::kafka::{Consumer, KafkaError};

impl ViewCopy {
    /// Has `consumer` read `partitions` on from where the database is, if that is further back than the group: the
    /// database came back from a backup or is a new one, or the topic was made anew. Returns the partitions that begin
    /// elsewhere now: what came of them before comes again.
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
            Ok(copy.further_back(conn, now, &committed, &ends)?)
        });
        let back = compared.await.context("how far the copy is can't be read")?;
        for (partition, offset) in &back {
            tracing::info!(
                topic = self.topic,
                partition,
                offset,
                "a partition is read from there again"
            );
            consumer.seek(*partition, *offset).await?;
        }
        Ok(back.into_keys().collect())
    }

    /// Notes where the partitions end that `consumer` has.
    ///
    /// # Errors
    /// When broker or database does not answer.
    pub async fn measure(&self, consumer: &Consumer) -> anyhow::Result<()> {
        let ends = ends(consumer, &consumer.held()?).await?;
        if ends.is_empty() {
            return Ok(());
        }
        let copy = self.clone();
        let noted = self.db.write::<_, DbError>(move |conn| {
            Ok(position::note_ends(conn, &copy.topic, &ends, copy.env.now())?)
        });
        noted.await.context("where the topic ends can't be noted")
    }

    /// The partitions in which the database is further back than the group, with where that is.
    pub(super) fn further_back(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        committed: &BTreeMap<i32, i64>,
        ends: &BTreeMap<i32, i64>,
    ) -> QueryResult<BTreeMap<i32, i64>> {
        let partitions: BTreeSet<i32> = ends.keys().copied().collect();
        let mut back = BTreeMap::new();
        for (partition, position) in position::known(conn, &self.topic, &partitions, now)? {
            let end = ends.get(&partition).copied().unwrap_or(0);
            let committed = committed.get(&partition).copied().unwrap_or(0);
            // A partition that ends before what was taken of it is of a topic that was made anew.
            if end < position.next_offset {
                position::begin_anew(conn, &self.topic, &position, now)?;
                back.insert(partition, 0);
            } else if position.next_offset < committed {
                back.insert(partition, position.next_offset);
            }
        }
        position::note_ends(conn, &self.topic, ends, now)?;
        Ok(back)
    }
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
