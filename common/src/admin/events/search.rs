//! Finding events: filters that combine, keyset paging by id, and a walk of bounded length.
//!
//! The ids are walked along the index that fits the filter best: a key's events by (key, id), open ones in
//! the small open table, PROCESSED ones in the settled table, else all by id. What that index does not know
//! is checked row by row, and after [`SearchBounds::rows`] rows the page ends, full or not.

use std::time::Duration;

use diesel::prelude::*;
use uuid::Uuid;

use super::item::{EventItem, Found};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::http::{Page, Params, Problem, ProblemResult};
use crate::ids::EventId;
use crate::on;
use crate::outbox::Status;
use crate::schema::{outbox_event, outbox_open, outbox_settled};

/// How far an id's own time may lie from `created_at`: ids keep growing while a clock is set back.
const ID_SLACK: Duration = Duration::from_secs(60);

/// How much one request walks.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) struct SearchBounds {
    /// Rows looked at before the page ends.
    pub(in crate::admin) rows: usize,
    /// Rows read by one statement.
    pub(in crate::admin) chunk: i64,
}

impl Default for SearchBounds {
    fn default() -> Self {
        Self { rows: 10_000, chunk: 1_000 }
    }
}

/// What is looked for.
#[derive(Debug, Default)]
pub(in crate::admin) struct Search {
    status: Option<Status>,
    resolved: Option<bool>,
    key: Option<String>,
    event_type: Option<String>,
    min_attempts: Option<i32>,
    /// Created at this moment or before.
    created_until: Option<Timestamp>,
    /// Created later than this moment.
    created_after: Option<Timestamp>,
    after: Option<EventId>,
    limit: i64,
}

impl Search {
    /// Reads `?status=&resolved=&key=&type=&min_attempts=&older_than_seconds=&created_after=&limit=&after=`.
    ///
    /// # Errors
    /// 422 that names the parameter.
    pub(super) fn of(mut params: Params, now: Timestamp) -> ProblemResult<Self> {
        let age: Option<u64> = params.take("older_than_seconds", "a number of seconds")?;
        let search = Self {
            status: params.text("status").map(|text| status(&text)).transpose()?,
            resolved: params.take("resolved", "true or false")?,
            key: params.text("key"),
            event_type: params.text("type"),
            min_attempts: params.take("min_attempts", "a number")?,
            created_until: age.map(|age| now.before(Duration::from_secs(age))),
            created_after: params.take("created_after", "a time such as 2026-01-31T12:00:00Z")?,
            limit: params.limit()?,
            after: params.take("after", "the `next` of a page")?,
        };
        params.finish()?;
        Ok(search)
    }

    #[cfg(test)]
    pub(in crate::admin) fn parse(query: &str, now: Timestamp) -> ProblemResult<Self> {
        Self::of(Params::parse(query)?, now)
    }

    /// The page: newest first. `next` is there if the walk can go on, also when the page isn't full.
    pub(in crate::admin) fn page(
        &self,
        conn: &mut Conn,
        bounds: SearchBounds,
    ) -> QueryResult<Page<EventItem>> {
        let limit = usize::try_from(self.limit).unwrap_or(0);
        let mut range = self.range();
        let (mut found, mut walked, mut chunk) = (Vec::new(), 0, self.limit + 1);
        let next = loop {
            let ids = self.candidates(conn, range, chunk)?;
            let at_end = i64::try_from(ids.len()).is_ok_and(|len| len < chunk);
            walked += ids.len();
            let rows = Found::load(conn, &ids)?;
            found.extend(rows.into_iter().filter(|row| self.admits(row)));
            if found.len() > limit {
                found.truncate(limit);
                break found.last().map(|row| row.head.id);
            }
            match ids.last() {
                Some(last) if !at_end => range.below = last.uuid(),
                _ => break None,
            }
            if walked >= bounds.rows {
                break ids.last().copied();
            }
            chunk = bounds.chunk;
        };
        let items = EventItem::list(conn, found)?;
        Ok(Page { items, next: next.map(|id| id.to_string()) })
    }

    fn range(&self) -> Range {
        let mut range = Range { from: Uuid::nil(), below: Uuid::max() };
        if let Some(moment) = self.created_after {
            range.from = first_id_at(moment.before(ID_SLACK));
        }
        if let Some(moment) = self.created_until {
            range.below = first_id_at(moment.after(ID_SLACK));
        }
        if let Some(after) = self.after {
            range.below = range.below.min(after.uuid());
        }
        range
    }

    /// The next `count` ids below, newest first, along the index that fits.
    fn candidates(&self, conn: &mut Conn, range: Range, count: i64) -> QueryResult<Vec<EventId>> {
        match (&self.key, self.status) {
            (Some(key), _) => range.of_key(conn, key, count),
            (None, Some(Status::Processed)) => range.settled(conn, count),
            (None, Some(status)) => range.open(conn, code(status), self.min_attempts, count),
            (None, None) => range.all(conn, count),
        }
    }

    fn admits(&self, row: &Found) -> bool {
        fn fits<T>(wanted: Option<T>, fits: impl FnOnce(T) -> bool) -> bool {
            wanted.is_none_or(fits)
        }
        fits(self.status, |status| row.status() == status)
            && fits(self.resolved, |resolved| row.resolved_at().is_some() == resolved)
            && fits(self.key.as_ref(), |key| row.head.key == *key)
            && fits(self.event_type.as_ref(), |name| row.head.event_type == *name)
            && fits(self.min_attempts, |least| row.attempt() >= least)
            && fits(self.created_until, |moment| row.head.created_us <= moment)
            && fits(self.created_after, |moment| row.head.created_us > moment)
    }
}

/// Ids from `from` (included) to `below` (not included).
#[derive(Debug, Clone, Copy)]
struct Range {
    from: Uuid,
    below: Uuid,
}

impl Range {
    fn ids(self) -> (EventId, EventId) {
        (EventId::from_uuid(self.from), EventId::from_uuid(self.below))
    }

    fn all(self, conn: &mut Conn, count: i64) -> QueryResult<Vec<EventId>> {
        use outbox_event::id;
        let (from, below) = self.ids();
        on!(conn, c => outbox_event::table
            .filter(id.ge(from).and(id.lt(below)))
            .order(id.desc())
            .limit(count)
            .select(id)
            .load(c))
    }

    fn of_key(self, conn: &mut Conn, wanted: &str, count: i64) -> QueryResult<Vec<EventId>> {
        use outbox_event::{id, key};
        let (from, below) = self.ids();
        on!(conn, c => outbox_event::table
            .filter(key.eq(wanted).and(id.ge(from)).and(id.lt(below)))
            .order((key.desc(), id.desc()))
            .limit(count)
            .select(id)
            .load(c))
    }

    fn open(
        self,
        conn: &mut Conn,
        wanted: i16,
        least: Option<i32>,
        count: i64,
    ) -> QueryResult<Vec<EventId>> {
        use outbox_open::{attempt, id, status};
        let (from, below) = self.ids();
        on!(conn, c => outbox_open::table
            .filter(id.ge(from).and(id.lt(below)))
            .filter(status.eq(wanted).and(attempt.ge(least.unwrap_or(0))))
            .order(id.desc())
            .limit(count)
            .select(id)
            .load(c))
    }

    /// Without a filter of its own: one on attempts would look for rare ones without end.
    fn settled(self, conn: &mut Conn, count: i64) -> QueryResult<Vec<EventId>> {
        use outbox_settled::id;
        let (from, below) = self.ids();
        on!(conn, c => outbox_settled::table
            .filter(id.ge(from).and(id.lt(below)))
            .order(id.desc())
            .limit(count)
            .select(id)
            .load(c))
    }
}

fn status(name: &str) -> ProblemResult<Status> {
    let all = [Status::Pending, Status::Sent, Status::Exhausted, Status::Processed];
    all.into_iter().find(|status| status.name() == name).ok_or_else(|| {
        let names = all.map(Status::name).join(", ");
        Problem::invalid("status", format!("{name:?} is no status; there are {names}"))
    })
}

/// A status as the open table stores it.
fn code(status: Status) -> i16 {
    match status {
        Status::Pending => 0,
        Status::Sent => 1,
        Status::Exhausted | Status::Processed => 2,
    }
}

/// The smallest id that could be made at `moment`: UUIDv7 begins with 48 bits of milliseconds.
fn first_id_at(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.micros() / 1_000).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80)
}
