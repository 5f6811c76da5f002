//! How far each consumer is: what was sent to it and is not answered, partition by partition.

use std::collections::BTreeMap;

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventIdSql;
use common::on;
use common::schema::consumer_partition;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};

use super::sample::{ConsumerSample, Group, MANY_FAILED, Partition};
use crate::consumers::{self, Consumer, ConsumerState};

/// What is known of a consumer in a partition.
#[derive(Queryable, Selectable)]
#[diesel(table_name = consumer_partition)]
struct Progress {
    partition: i32,
    consumer: String,
    last_ack_us: Timestamp,
    silent_us: Option<Timestamp>,
    acked_offset: Option<i64>,
    behind_us: Option<Timestamp>,
}

/// The consumers that are not retired; `open` are the open events by partition, which is all that one consumer needs.
pub(super) fn sample(
    conn: &mut Conn,
    topic: &str,
    first: &str,
    open: &[Group],
) -> QueryResult<Vec<ConsumerSample>> {
    use consumer_partition as p;
    let all = consumers::list(conn, first)?.into_iter();
    let all: Vec<Consumer> = all.filter(|one| one.state == ConsumerState::Active).collect();
    let progress: Vec<Progress> = on!(&mut *conn, c => p::table
        .filter(p::topic.eq(topic))
        .select(Progress::as_select())
        .load(c))?;
    let is_alone = all.len() == 1;
    let mut samples = Vec::with_capacity(all.len());
    for one in &all {
        let mut partitions = heard_of(one, &progress);
        match (one.required, is_alone) {
            (true, true) => count_open(&mut partitions, open),
            (true, false) => count_owed(conn, one, &mut partitions)?,
            (false, _) => count_behind(one, &progress, &mut partitions),
        }
        let failed = if is_alone { 0 } else { failed(conn, &one.name)? };
        let numbered = |(number, partition)| Partition { partition: number, ..partition };
        samples.push(ConsumerSample {
            name: one.name.clone(),
            required: one.required,
            failed,
            partitions: partitions.into_iter().map(numbered).collect(),
        });
    }
    Ok(samples)
}

fn heard_of(one: &Consumer, progress: &[Progress]) -> BTreeMap<i32, Partition> {
    let own = progress.iter().filter(|row| row.consumer == one.name);
    let partition = |row: &Progress| Partition {
        // A partition that never answered has a row as well, once it is silent.
        last_ack_at: Some(row.last_ack_us).filter(|moment| moment.micros() > 0),
        silent_since: row.silent_us,
        ..Partition::default()
    };
    own.map(|row| (row.partition, partition(row))).collect()
}

fn count_open(partitions: &mut BTreeMap<i32, Partition>, open: &[Group]) {
    for group in open {
        let Some(number) = group.partition else { continue };
        let partition = partitions.entry(number).or_default();
        partition.waiting = group.events;
        partition.oldest_sent_at = group.oldest_us;
    }
}

/// What is SENT and waits for this one, too: as many rows as may be in flight.
fn count_owed(
    conn: &mut Conn,
    one: &Consumer,
    partitions: &mut BTreeMap<i32, Partition>,
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Owed {
        #[diesel(sql_type = Integer)]
        partition: i32,
        #[diesel(sql_type = BigInt)]
        events: i64,
        #[diesel(sql_type = Nullable<BigInt>)]
        oldest_us: Option<Timestamp>,
    }
    let sql = "SELECT o.partition, count(*) AS events, min(o.sent_us) AS oldest_us FROM outbox_sent o \
               WHERE o.id >= $1 AND NOT EXISTS (SELECT 1 FROM outbox_answer a \
                 WHERE a.event_id = o.id AND a.consumer = $2 AND a.outcome < 2) \
               GROUP BY o.partition";
    let owed: Vec<Owed> = on!(conn, c => sql_query(sql)
        .bind::<EventIdSql, _>(one.since_id)
        .bind::<Text, _>(&one.name)
        .load(c))?;
    for row in owed {
        let partition = partitions.entry(row.partition).or_default();
        partition.waiting = row.events;
        partition.oldest_sent_at = row.oldest_us;
    }
    Ok(())
}

/// How far a watched one is behind the furthest, by offsets.
fn count_behind(one: &Consumer, progress: &[Progress], partitions: &mut BTreeMap<i32, Partition>) {
    for row in progress {
        let furthest = row.acked_offset.unwrap_or(-1);
        let own =
            progress.iter().find(|own| own.consumer == one.name && own.partition == row.partition);
        let acked = own.and_then(|own| own.acked_offset).unwrap_or(-1);
        let partition = partitions.entry(row.partition).or_default();
        partition.waiting = partition.waiting.max(furthest - acked);
        if partition.waiting > 0 {
            partition.oldest_sent_at = own.and_then(|own| own.behind_us);
        }
    }
}

fn failed(conn: &mut Conn, name: &str) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Failed {
        #[diesel(sql_type = BigInt)]
        events: i64,
    }
    let sql = "SELECT count(*) AS events FROM (SELECT 1 FROM outbox_answer \
               WHERE consumer = $1 AND outcome = 2 LIMIT $2) failed";
    let found: Failed = on!(conn, c => sql_query(sql)
        .bind::<Text, _>(name)
        .bind::<BigInt, _>(MANY_FAILED)
        .get_result(c))?;
    Ok(found.events)
}
