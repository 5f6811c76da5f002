//! The table `view_position`: how far a copy is in each partition of its view's topic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, column, json_list};
use common::on;
use common::schema::view_position as p;
use diesel::dsl::{max, min};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};

use super::ViewMessage;
use super::progress::Reached;

/// How old a look at a topic may be for its gauge.
const RECENT: Duration = Duration::from_secs(10 * 60);

/// How old a look at a topic may be to say how it is now; one is taken every few seconds.
const NOW: Duration = Duration::from_secs(60);

/// What a topic that is begun is later than another by, at least.
const LATER: Duration = Duration::from_micros(1);

/// How far a copy is in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = p)]
pub struct ViewPosition {
    /// Which partition.
    pub partition: i32,
    /// When it was begun to be read; later again if the topic was made anew.
    pub begun_us: Timestamp,
    /// The offset behind the last message that was taken.
    pub next_offset: i64,
    /// When the newest message that was taken was written, by the clock of its writer or the broker.
    pub written_us: Option<Timestamp>,
    /// When that was taken.
    pub taken_us: Option<Timestamp>,
    /// Where the partition ended at the last look.
    pub end_offset: Option<i64>,
    /// When that was.
    pub checked_us: Option<Timestamp>,
}

/// How far a whole copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewLag {
    /// The view's topic.
    pub topic: String,
    /// Messages that are not taken yet; offsets that compaction left empty count, too.
    pub behind: i64,
    /// The oldest of the looks at its partitions.
    pub checked_at: Timestamp,
}

impl ViewPosition {
    /// Messages that are not taken yet, as of the last look; none before the first.
    pub fn behind(&self) -> Option<i64> {
        Some(self.end_offset?.saturating_sub(self.next_offset).max(0))
    }
}

impl ViewLag {
    /// What the positions of `topic` come to; none while one of them was never looked at, or there are none.
    pub fn of(topic: &str, positions: &[ViewPosition]) -> Option<Self> {
        let mut behind: i64 = 0;
        for position in positions {
            behind = behind.saturating_add(position.behind()?);
        }
        let looks: Option<Vec<Timestamp>> = positions.iter().map(|one| one.checked_us).collect();
        Some(Self { topic: topic.to_owned(), behind, checked_at: looks?.into_iter().min()? })
    }

    /// Whether all partitions were looked at within the last minute.
    pub fn is_of_now(&self, now: Timestamp) -> bool {
        self.checked_at >= now.before(NOW)
    }
}

/// How far the copy of `topic` is, by partition.
///
/// # Errors
/// When the statement fails.
pub fn positions(conn: &mut Conn, topic: &str) -> QueryResult<Vec<ViewPosition>> {
    let rows = p::table.filter(p::topic.eq(topic)).order(p::partition);
    on!(conn, c => rows.select(ViewPosition::as_select()).load(c))
}

/// How far the copies are of whose topics all partitions were looked at in the last ten minutes, by topic.
///
/// # Errors
/// When the statement fails.
pub fn lags(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<ViewLag>> {
    let all = p::table.order((p::topic, p::partition));
    let rows: Vec<(String, ViewPosition)> =
        on!(conn, c => all.select((p::topic, ViewPosition::as_select())).load(c))?;
    let mut by_topic: BTreeMap<String, Vec<ViewPosition>> = BTreeMap::new();
    for (topic, position) in rows {
        by_topic.entry(topic).or_default().push(position);
    }
    let since = now.before(RECENT);
    let lags = by_topic.iter().filter_map(|(topic, rows)| ViewLag::of(topic, rows));
    Ok(lags.filter(|lag| lag.checked_at >= since).collect())
}

/// As [`positions`], of these alone, and locked in this order until the transaction ends: all that write rows of several
/// partitions begin with it.
pub(super) fn locked(
    conn: &mut Conn,
    topic: &str,
    partitions: &BTreeSet<i32>,
) -> QueryResult<Vec<ViewPosition>> {
    let asked = p::topic.eq(topic).and(p::partition.eq_any(partitions));
    let rows = p::table.filter(asked).order(p::partition);
    match conn {
        Conn::Pg(c) => rows.select(ViewPosition::as_select()).for_update().load(c),
        Conn::Sqlite(c) => rows.select(ViewPosition::as_select()).load(c),
    }
}

/// How far the copy is in `partitions`; those that it has not begun yet are begun.
pub(super) fn known(
    conn: &mut Conn,
    topic: &str,
    partitions: &BTreeSet<i32>,
    now: Timestamp,
) -> QueryResult<BTreeMap<i32, ViewPosition>> {
    let rows = locked(conn, topic, partitions)?;
    if rows.len() == partitions.len() {
        return Ok(by_partition(rows));
    }
    let begun = later_than_all(conn, now)?;
    for partition in partitions {
        let row = (
            p::topic.eq(topic.to_owned()),
            p::partition.eq(*partition),
            p::begun_us.eq(begun),
            p::next_offset.eq(0_i64),
        );
        on!(&mut *conn, c => diesel::insert_into(p::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(c))?;
    }
    // Another instance may have begun some of them before.
    Ok(by_partition(locked(conn, topic, partitions)?))
}

fn by_partition(rows: Vec<ViewPosition>) -> BTreeMap<i32, ViewPosition> {
    rows.into_iter().map(|row| (row.partition, row)).collect()
}

/// When something is begun that is to be later than all that was begun before, whatever the clock says.
fn later_than_all(conn: &mut Conn, now: Timestamp) -> QueryResult<Timestamp> {
    let latest: Option<Timestamp> =
        on!(conn, c => p::table.select(max(p::begun_us)).get_result(c))?;
    Ok(latest.map_or(now, |latest| now.max(latest.after(LATER))))
}

/// Whether another topic was begun later than `topic`, or than a part of it: rows that were made of that would count as
/// later than whatever comes now.
pub(super) fn is_outdated(conn: &mut Conn, topic: &str) -> QueryResult<bool> {
    let own = p::table.filter(p::topic.eq(topic)).select(min(p::begun_us));
    let own: Option<Timestamp> = on!(&mut *conn, c => own.get_result(c))?;
    let others = p::table.filter(p::topic.ne(topic)).select(max(p::begun_us));
    let others: Option<Timestamp> = on!(&mut *conn, c => others.get_result(c))?;
    Ok(own.zip(others).is_some_and(|(own, others)| others >= own))
}

/// Begins all partitions of a topic anew.
pub(super) fn begin_all_anew(conn: &mut Conn, topic: &str, now: Timestamp) -> QueryResult<()> {
    let begun = later_than_all(conn, now)?;
    let rows = p::table.filter(p::topic.eq(topic));
    let change = (p::begun_us.eq(begun), p::next_offset.eq(0_i64));
    on!(conn, c => diesel::update(rows).set(change).execute(c))?;
    Ok(())
}

/// A message that is the last one of its partition in a batch.
struct Last {
    partition: i32,
    reached: Reached,
    written: Option<Timestamp>,
}

/// Moves positions on, behind `messages`, and returns where that is; none goes back, and none of a topic that was made
/// anew since moves.
pub(super) fn advance(
    conn: &mut Conn,
    topic: &str,
    messages: &[ViewMessage<'_>],
    now: Timestamp,
) -> QueryResult<BTreeMap<i32, Reached>> {
    let mut last: BTreeMap<i32, ViewMessage<'_>> = BTreeMap::new();
    for message in messages {
        let last = last.entry(message.record.partition).or_insert(*message);
        if message.place > last.place {
            *last = *message;
        }
    }
    let last: Vec<Last> = last
        .into_iter()
        .map(|(partition, message)| Last {
            partition,
            reached: Reached {
                begun: message.place.begun,
                next_offset: message.place.offset.saturating_add(1),
            },
            written: message.record.timestamp,
        })
        .collect();
    if !last.is_empty() {
        match conn {
            Conn::Pg(c) => advance_postgres(c, topic, &last, now),
            Conn::Sqlite(c) => advance_sqlite(c, topic, &last, now),
        }?;
    }
    Ok(last.into_iter().map(|one| (one.partition, one.reached)).collect())
}

fn advance_postgres(
    c: &mut PgConnection,
    topic: &str,
    last: &[Last],
    now: Timestamp,
) -> QueryResult<usize> {
    sql_query(
        "UPDATE view_position SET next_offset = n.upto, written_us = n.written, taken_us = $2
         FROM unnest($3, $4, $5, $6) AS n (part, begun, upto, written)
         WHERE topic = $1 AND partition = n.part AND begun_us = n.begun AND next_offset < n.upto",
    )
    .bind::<Text, _>(topic)
    .bind::<BigInt, _>(now)
    .bind::<Array<Integer>, _>(column(last, |one| one.partition))
    .bind::<Array<BigInt>, _>(column(last, |one| one.reached.begun))
    .bind::<Array<BigInt>, _>(column(last, |one| one.reached.next_offset))
    .bind::<Array<Nullable<BigInt>>, _>(column(last, |one| one.written))
    .execute(c)
}

fn advance_sqlite(
    c: &mut SqliteConnection,
    topic: &str,
    last: &[Last],
    now: Timestamp,
) -> QueryResult<usize> {
    let values = |one: &Last| {
        let Last { partition, reached, written } = one;
        let Reached { begun, next_offset } = reached;
        (*partition, begun.micros(), *next_offset, written.map(Timestamp::micros))
    };
    let rows: Vec<(i32, i64, i64, Option<i64>)> = last.iter().map(values).collect();
    sql_query(
        "UPDATE view_position SET next_offset = n.upto, written_us = n.written, taken_us = ?
         FROM (SELECT value ->> 0 AS part, value ->> 1 AS begun, value ->> 2 AS upto, value ->> 3 AS written
               FROM json_each(?)) AS n
         WHERE topic = ? AND partition = n.part AND begun_us = n.begun AND next_offset < n.upto",
    )
    .bind::<BigInt, _>(now)
    .bind::<Text, _>(json_list(&rows)?)
    .bind::<Text, _>(topic)
    .execute(c)
}

/// Begins a partition anew, whose row is [`locked`] and whose topic was made anew: what comes is later than what there is.
/// Returns where it is then.
pub(super) fn begin_anew(
    conn: &mut Conn,
    topic: &str,
    partition: i32,
    now: Timestamp,
) -> QueryResult<Reached> {
    let begun = later_than_all(conn, now)?;
    let row = p::table.find((topic, partition));
    let change = (p::begun_us.eq(begun), p::next_offset.eq(0_i64));
    on!(conn, c => diesel::update(row).set(change).execute(c))?;
    Ok(Reached { begun, next_offset: 0 })
}

/// Notes where partitions end, whose rows are [`locked`].
pub(super) fn note_ends(
    conn: &mut Conn,
    topic: &str,
    ends: &BTreeMap<i32, i64>,
    now: Timestamp,
) -> QueryResult<()> {
    let ends: Vec<(i32, i64)> = ends.iter().map(|(partition, end)| (*partition, *end)).collect();
    match conn {
        Conn::Pg(c) => sql_query(
            "UPDATE view_position SET end_offset = n.upto, checked_us = $2
             FROM unnest($3, $4) AS n (part, upto) WHERE topic = $1 AND partition = n.part",
        )
        .bind::<Text, _>(topic)
        .bind::<BigInt, _>(now)
        .bind::<Array<Integer>, _>(column(&ends, |end| end.0))
        .bind::<Array<BigInt>, _>(column(&ends, |end| end.1))
        .execute(c),
        Conn::Sqlite(c) => sql_query(
            "UPDATE view_position SET end_offset = n.upto, checked_us = ?
             FROM (SELECT value ->> 0 AS part, value ->> 1 AS upto FROM json_each(?)) AS n
             WHERE topic = ? AND partition = n.part",
        )
        .bind::<BigInt, _>(now)
        .bind::<Text, _>(json_list(&ends)?)
        .bind::<Text, _>(topic)
        .execute(c),
    }?;
    Ok(())
}
