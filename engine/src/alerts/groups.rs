//! Alerts that a message counts instead of listing them, by kind and cause.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use common::clock::Timestamp;
use common::db::{Conn, json_list};
use common::event::EventKind;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use diesel::{QueryResult, sql_query};

use super::model::AlertKind;
use super::outgoing::News;
use crate::outbox::class_or_now;

/// Alerts of one kind and cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) kind: String,
    /// The class of what went wrong, or why they were closed if that is the news; none: nothing is noted.
    pub(super) cause: Option<String>,
    /// How many they are.
    pub(super) alerts: usize,
    /// How many of them are about a snapshot.
    pub(super) snapshots: usize,
    /// When the first of them was raised, or closed if that is the news.
    pub(super) oldest: Timestamp,
}

impl Group {
    /// Whether they are alerts of this kind.
    pub(super) fn is(&self, kind: AlertKind) -> bool {
        self.kind == kind.name()
    }

    fn add(&mut self, other: &Self) {
        self.alerts += other.alerts;
        self.snapshots += other.snapshots;
        self.oldest = self.oldest.min(other.oldest);
    }
}

/// How many alerts all of these groups hold.
pub(super) fn alerts<'a>(groups: impl IntoIterator<Item = &'a Group>) -> usize {
    groups.into_iter().map(|group| group.alerts).sum()
}

/// Groups as the database makes them: by the text of an error where its class was not noted.
#[derive(QueryableByName)]
struct GroupRow {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    class: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    unclassed: Option<String>,
    #[diesel(sql_type = BigInt)]
    alerts: i64,
    #[diesel(sql_type = BigInt)]
    snapshots: i64,
    #[diesel(sql_type = BigInt)]
    oldest_us: Timestamp,
}

impl From<GroupRow> for Group {
    fn from(row: GroupRow) -> Self {
        Self {
            kind: row.kind,
            cause: class_or_now(row.class, row.unclassed.as_deref()),
            alerts: usize::try_from(row.alerts).unwrap_or(0),
            snapshots: usize::try_from(row.snapshots).unwrap_or(0),
            oldest: row.oldest_us,
        }
    }
}

/// The groups of the alerts `seqs`, the largest first.
pub(super) fn load(conn: &mut Conn, news: News, seqs: &[i64]) -> QueryResult<Vec<Group>> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    let mut groups: BTreeMap<(String, Option<String>), Group> = BTreeMap::new();
    for group in rows(conn, news, seqs)?.into_iter().map(Group::from) {
        groups
            .entry((group.kind.clone(), group.cause.clone()))
            .and_modify(|known| known.add(&group))
            .or_insert(group);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| Reverse(group.alerts));
    Ok(groups)
}

fn rows(conn: &mut Conn, news: News, seqs: &[i64]) -> QueryResult<Vec<GroupRow>> {
    match conn {
        Conn::Pg(c) => sql_query(counted(news, "= ANY($1)")).bind::<Array<BigInt>, _>(seqs).load(c),
        Conn::Sqlite(c) => sql_query(counted(news, "IN (SELECT value FROM json_each($1))"))
            .bind::<Text, _>(json_list(seqs)?)
            .load(c),
    }
}

/// The statement that counts those of `these` numbers. Materialized, since the class is looked up for each alert, and
/// used twice.
fn counted(news: News, these: &str) -> String {
    let (since, snapshot) = (news.since(), EventKind::Snapshot.code());
    let (class, error) = cause(news);
    format!(
        "WITH told AS MATERIALIZED \
           (SELECT a.kind, a.event_kind, {error} AS error, {since} AS since_us, {class} AS class \
            FROM alert a WHERE a.seq {these}) \
         SELECT kind, class, CASE WHEN class IS NULL THEN error END AS unclassed, \
           count(*) AS alerts, count(*) FILTER (WHERE event_kind = {snapshot}) AS snapshots, \
           min(since_us) AS oldest_us \
         FROM told GROUP BY kind, class, unclassed"
    )
}

/// Where alerts have the class of their cause from, and the text that has it where none was noted.
///
/// Lists of events are filtered by the newest error in an event's history, so that is what is counted.
const fn cause(news: News) -> (&'static str, &'static str) {
    match news {
        News::Raised => (
            "(SELECT h.class FROM outbox_history h \
              WHERE a.kind = 'exhausted' AND h.event_id = a.event_id \
                AND h.by_whom IS NULL AND (h.class IS NOT NULL OR h.error IS NOT NULL) \
              ORDER BY h.seq DESC LIMIT 1)",
            "a.error",
        ),
        News::Over => ("a.closed_because", "NULL"),
    }
}
