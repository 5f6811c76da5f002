//! Finding events: filters that combine, keyset paging by id, and a walk of bounded length.
//!
//! The ids are walked along the index that fits the filter best: what a bulk job touched, a key's events by
//! (key, id), open ones in the small open table, PROCESSED ones in the settled table, else all by id. What that
//! index does not know is checked row by row, and after [`SearchBounds::rows`] rows the page ends, full or not.

use std::collections::HashMap;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::Status;
use common::ids::EventId;
use common::on;
use common::schema::{
    bulk_item, outbox_event, outbox_failed, outbox_pending, outbox_sent, outbox_settled,
};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::class::NO_ERROR_NOTED;
use super::found::{Found, LastError, last_errors};

/// How far an id's own time may lie from `created_at`: ids keep growing while a clock is set back.
const ID_SLACK: Duration = Duration::from_secs(60);

/// How much one request walks.
#[derive(Debug, Clone, Copy)]
pub struct SearchBounds {
    /// Rows looked at before the page ends.
    pub rows: usize,
    /// Rows read by one statement.
    pub chunk: i64,
}

impl Default for SearchBounds {
    fn default() -> Self {
        Self { rows: 10_000, chunk: 1_000 }
    }
}

/// Which events: what is left out fits all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// PENDING, SENT, EXHAUSTED or PROCESSED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Whether a person or a newer version resolved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<bool>,
    /// The key: a SKU or an order's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The type, such as `stockloop.inventory.changed`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[param(rename = "type")]
    pub event_type: Option<String>,
    /// The class of its newest error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// At least this many attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_attempts: Option<i32>,
    /// Created so long ago, or longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u64>,
    /// Created later than this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[param(value_type = Option<String>, format = DateTime)]
    pub created_after: Option<Timestamp>,
    /// What to search for: an event's id, else exactly a key, such as a SKU or an order's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Covered by this bulk job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    pub job: Option<i64>,
}

/// What is looked for, and from where.
#[derive(Debug, Default)]
pub struct Search {
    filter: EventFilter,
    /// Created at this moment or before.
    created_until: Option<Timestamp>,
    /// Ids below this one.
    after: Option<EventId>,
    limit: i64,
}

/// How a walk ended.
#[derive(Debug)]
pub struct Walk {
    /// What it met, newest first.
    pub found: Vec<Found>,
    /// Where it goes on; none at the end.
    pub next: Option<EventId>,
    /// How many rows it looked at.
    pub walked: usize,
}

impl Search {
    /// Looks for what `filter` meant at the moment `now`, for up to `limit` events with ids below `after`.
    pub fn new(filter: EventFilter, now: Timestamp, after: Option<EventId>, limit: i64) -> Self {
        let age = filter.older_than_seconds.map(Duration::from_secs);
        Self { created_until: age.map(|age| now.before(age)), filter, after, limit }
    }

    /// Only what was created at `moment` or before, whatever the filter says.
    #[must_use]
    pub fn created_by(mut self, moment: Timestamp) -> Self {
        self.created_until = Some(self.created_until.map_or(moment, |until| until.min(moment)));
        self
    }

    /// Walks until `limit` events are found, the bounds are reached, or there is nothing more.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn walk(mut self, conn: &mut Conn, bounds: SearchBounds) -> QueryResult<Walk> {
        let limit = usize::try_from(self.limit).unwrap_or(0);
        let mut range = self.range();
        self.understand(conn, &mut range)?;
        let (mut found, mut walked, mut chunk) = (Vec::new(), 0, self.limit + 1);
        let next = loop {
            let ids = self.candidates(conn, range, chunk)?;
            let at_end = i64::try_from(ids.len()).is_ok_and(|len| len < chunk);
            walked += ids.len();
            found.extend(self.admitted(conn, &ids)?);
            if found.len() > limit {
                found.truncate(limit);
                break found.last().map(|row: &Found| row.head.id);
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
        Ok(Walk { found, next, walked })
    }

    /// Turns `q` into the one event that has this id, or else into a key.
    fn understand(&mut self, conn: &mut Conn, range: &mut IdRange) -> QueryResult<()> {
        let Some(text) = self.filter.q.take() else {
            return Ok(());
        };
        if let Ok(id) = text.parse::<EventId>() {
            // The greatest id has nothing behind it; it names no event, but may be a key.
            let one = id.uuid().as_u128().checked_add(1).map(Uuid::from_u128);
            let one = one.map(|below| IdRange { from: id.uuid(), below });
            if let Some(one) = one
                && !one.all(conn, 1)?.is_empty()
            {
                *range = range.within(one);
                return Ok(());
            }
        }
        match &self.filter.key {
            Some(key) if *key != text => range.below = range.from,
            _ => self.filter.key = Some(text),
        }
        Ok(())
    }

    fn range(&self) -> IdRange {
        let mut range = IdRange { from: Uuid::nil(), below: Uuid::max() };
        if let Some(moment) = self.filter.created_after {
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
    fn candidates(&self, conn: &mut Conn, range: IdRange, count: i64) -> QueryResult<Vec<EventId>> {
        let filter = &self.filter;
        match (filter.job, &filter.key, filter.status) {
            (Some(job), _, _) => range.of_job(conn, job, count),
            (_, Some(key), _) => range.of_key(conn, key, count),
            (_, _, Some(Status::Processed)) => range.settled(conn, count),
            (_, _, Some(status)) => range.open(conn, status, filter.min_attempts, count),
            (_, _, None) => range.all(conn, count),
        }
    }

    /// Those of `ids` that the filter lets through.
    fn admitted(&self, conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<Found>> {
        let mut rows = Found::load(conn, ids)?;
        rows.retain(|row| self.admits(row));
        if let Some(class) = &self.filter.error_class {
            let ids: Vec<EventId> = rows.iter().map(|row| row.head.id).collect();
            let errors = last_errors(conn, &ids)?;
            rows.retain(|row| class_of(&errors, row.head.id) == class);
        }
        Ok(rows)
    }

    fn admits(&self, row: &Found) -> bool {
        fn fits<T>(wanted: Option<T>, fits: impl FnOnce(T) -> bool) -> bool {
            wanted.is_none_or(fits)
        }
        let filter = &self.filter;
        fits(filter.status, |status| row.status() == status)
            && fits(filter.resolved, |resolved| row.resolved_at().is_some() == resolved)
            && fits(filter.key.as_ref(), |key| row.head.key == *key)
            && fits(filter.event_type.as_ref(), |name| row.head.event_type == *name)
            && fits(filter.min_attempts, |least| row.attempt() >= least)
            && fits(self.created_until, |moment| row.head.created_us <= moment)
            && fits(filter.created_after, |moment| row.head.created_us > moment)
    }
}

/// The class of an event's newest error, as it is shown and filtered by.
pub fn class_of(errors: &HashMap<EventId, LastError>, id: EventId) -> &str {
    errors.get(&id).map_or(NO_ERROR_NOTED, |error| &error.class)
}

/// Ids from `from` (included) to `below` (not included).
#[derive(Debug, Clone, Copy)]
pub struct IdRange {
    /// The lowest that is in it.
    pub from: Uuid,
    /// The lowest that is not any more.
    pub below: Uuid,
}

impl IdRange {
    fn ids(self) -> (EventId, EventId) {
        (EventId::from_uuid(self.from), EventId::from_uuid(self.below))
    }

    fn within(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), below: self.below.min(other.below) }
    }

    fn of_job(self, conn: &mut Conn, wanted: i64, count: i64) -> QueryResult<Vec<EventId>> {
        use bulk_item::{event_id, job};
        let (from, below) = self.ids();
        on!(conn, c => bulk_item::table
            .filter(job.eq(wanted).and(event_id.ge(from)).and(event_id.lt(below)))
            .order((job.desc(), event_id.desc()))
            .limit(count)
            .select(event_id)
            .load(c))
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

    /// Open events of the stored status `wanted` with `least` attempts, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn open(
        self,
        conn: &mut Conn,
        wanted: Status,
        least: Option<i32>,
        count: i64,
    ) -> QueryResult<Vec<EventId>> {
        use {outbox_failed as f, outbox_pending as p, outbox_sent as s};
        let ((from, below), least) = (self.ids(), least.unwrap_or(0));
        let failed = |conn: &mut Conn, is_wanted: &'static str| {
            // As text: a plan that was kept for any status would not know which index fits.
            let rows = f::table.filter(sql::<Bool>(is_wanted)).filter(f::attempt.ge(least));
            let rows = rows.filter(f::id.ge(from).and(f::id.lt(below))).order(f::id.desc());
            on!(conn, c => rows.limit(count).select(f::id).load::<EventId>(c))
        };
        match wanted {
            Status::Processed => Ok(Vec::new()),
            Status::Exhausted => failed(conn, "status = 2"),
            Status::Sent => {
                let rows = s::table.filter(s::id.ge(from).and(s::id.lt(below)));
                let rows = rows.filter(s::attempt.ge(least)).order(s::id.desc()).limit(count);
                on!(conn, c => rows.select(s::id).load(c))
            }
            Status::Pending => {
                let mut ids = failed(conn, "status = 0")?;
                if least <= 0 {
                    let rows = p::table.filter(p::id.ge(from).and(p::id.lt(below)));
                    let rows = rows.order(p::id.desc()).limit(count).select(p::id);
                    ids.extend(on!(conn, c => rows.load::<EventId>(c))?);
                    ids.sort_unstable_by(|one, other| other.cmp(one));
                    ids.truncate(usize::try_from(count).unwrap_or(0));
                }
                Ok(ids)
            }
        }
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

/// The smallest id that could be made at `moment`: UUIDv7 begins with 48 bits of milliseconds.
fn first_id_at(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.micros() / 1_000).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80)
}
