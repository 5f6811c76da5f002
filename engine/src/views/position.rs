//! The table `view_position`: how far a copy is in each partition of its view's topic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::view_position as p;
use diesel::prelude::*;

use super::ViewMessage;

/// How old a look at a topic may be to say something of now.
const RECENT: Duration = Duration::from_secs(10 * 60);

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
}

/// How far the copy of `topic` is, by partition.
///
/// # Errors
/// When the statement fails.
pub fn positions(conn: &mut Conn, topic: &str) -> QueryResult<Vec<ViewPosition>> {
    let rows = p::table.filter(p::topic.eq(topic)).order(p::partition);
    on!(conn, c => rows.select(ViewPosition::as_select()).load(c))
}

/// How far the copies are whose topics were looked at in the last ten minutes, by topic.
///
/// # Errors
/// When the statement fails.
pub fn lags(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<ViewLag>> {
    let recent =
        p::table.filter(p::checked_us.ge(now.before(RECENT))).order((p::topic, p::partition));
    let rows: Vec<(String, ViewPosition)> =
        on!(conn, c => recent.select((p::topic, ViewPosition::as_select())).load(c))?;
    let mut by_topic: BTreeMap<String, Vec<ViewPosition>> = BTreeMap::new();
    for (topic, position) in rows {
        by_topic.entry(topic).or_default().push(position);
    }
    Ok(by_topic.iter().filter_map(|(topic, rows)| ViewLag::of(topic, rows)).collect())
}

/// How far the copy is in `partitions`; those that it has not begun yet are begun.
pub(super) fn known(
    conn: &mut Conn,
    topic: &str,
    partitions: &BTreeSet<i32>,
    now: Timestamp,
) -> QueryResult<BTreeMap<i32, ViewPosition>> {
    let is_asked = |row: &ViewPosition| partitions.contains(&row.partition);
    let rows: Vec<ViewPosition> = positions(conn, topic)?.into_iter().filter(is_asked).collect();
    if rows.len() == partitions.len() {
        return Ok(by_partition(rows));
    }
    let begun: Vec<_> = partitions
        .iter()
        .map(|partition| {
            (
                p::topic.eq(topic.to_owned()),
                p::partition.eq(*partition),
                p::begun_us.eq(now),
                p::next_offset.eq(0_i64),
            )
        })
        .collect();
    for row in begun {
        on!(&mut *conn, c => diesel::insert_into(p::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(c))?;
    }
    // Another instance may have begun some of them before.
    let rows = positions(conn, topic)?;
    Ok(by_partition(rows.into_iter().filter(is_asked).collect()))
}

fn by_partition(rows: Vec<ViewPosition>) -> BTreeMap<i32, ViewPosition> {
    rows.into_iter().map(|row| (row.partition, row)).collect()
}

/// Moves positions on, behind `messages`; none goes back, and none of a topic that was made anew since moves.
pub(super) fn advance(
    conn: &mut Conn,
    topic: &str,
    messages: &[ViewMessage<'_>],
    now: Timestamp,
) -> QueryResult<()> {
    let mut last: BTreeMap<i32, ViewMessage<'_>> = BTreeMap::new();
    for message in messages {
        let last = last.entry(message.record.partition).or_insert(*message);
        if message.place > last.place {
            *last = *message;
        }
    }
    for (partition, message) in last {
        let next = message.place.offset.saturating_add(1);
        let row = p::table
            .find((topic, partition))
            .filter(p::begun_us.eq(message.place.begun).and(p::next_offset.lt(next)));
        let change = (
            p::next_offset.eq(next),
            p::written_us.eq(message.record.timestamp),
            p::taken_us.eq(Some(now)),
        );
        on!(&mut *conn, c => diesel::update(row).set(change).execute(c))?;
    }
    Ok(())
}

/// Begins a partition anew whose topic was made anew, unless that is done already: what comes is later than what there is.
pub(super) fn begin_anew(
    conn: &mut Conn,
    topic: &str,
    before: &ViewPosition,
    now: Timestamp,
) -> QueryResult<()> {
    let row = p::table.find((topic, before.partition)).filter(p::begun_us.eq(before.begun_us));
    let later = now.max(before.begun_us.after(Duration::from_micros(1)));
    let change = (p::begun_us.eq(later), p::next_offset.eq(0_i64));
    on!(conn, c => diesel::update(row).set(change).execute(c))?;
    Ok(())
}

/// Notes where partitions end.
pub(super) fn note_ends(
    conn: &mut Conn,
    topic: &str,
    ends: &BTreeMap<i32, i64>,
    now: Timestamp,
) -> QueryResult<()> {
    for (partition, end) in ends {
        let row = p::table.find((topic, *partition));
        let change = (p::end_offset.eq(Some(*end)), p::checked_us.eq(Some(now)));
        on!(&mut *conn, c => diesel::update(row).set(change).execute(c))?;
    }
    Ok(())
}
