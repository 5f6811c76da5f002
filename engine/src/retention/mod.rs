//! What is over is deleted after its retention; what is open never is.

mod forgotten;
mod operators;
mod proof;
#[cfg(test)]
mod tests;

use std::time::Duration;

use common::clock::Timestamp;
use common::config::Settings;
use common::db::{Conn, Db, DbError};
use common::event::Status;
use common::ids::EventId;
use common::on;
use common::schema::{
    idempotency, inbox, outbox_answer, outbox_event, outbox_failed, outbox_history, outbox_settled,
};
use diesel::prelude::*;

use crate::counters;

pub use forgotten::{INBOX, first_known, forgotten_up_to, may_be_forgotten, note_forgotten};

/// How long answers to keyed writes are kept.
const IDEMPOTENCY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long previews of jobs are kept, which no job can be made of by then.
const PREVIEWS: Duration = Duration::from_secs(24 * 60 * 60);

/// How old things may get, as moments before which they go; by default, all are kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// PROCESSED events, with their history.
    pub outbox: Timestamp,
    /// EXHAUSTED events that were resolved, with their history.
    pub resolved: Timestamp,
    /// Answers given, by which duplicates are known.
    pub inbox: Timestamp,
    /// Answers to keyed writes.
    pub idempotency: Timestamp,
    /// Closed alerts, messages that left, silences that are over.
    pub alerts: Timestamp,
    /// Actions of operators, and bulk jobs that ended.
    pub audit: Timestamp,
    /// Previews of bulk jobs.
    pub previews: Timestamp,
    /// Sessions, by when they began.
    pub sessions: Timestamp,
    /// Dead letters that a person dealt with.
    pub dead_letters: Timestamp,
    /// Adjustments of the stock.
    pub adjustments: Timestamp,
    /// Orders that ended.
    pub orders: Timestamp,
    /// What is left of removed products.
    pub removed_products: Timestamp,
    /// Verifications that ended.
    pub verifications: Timestamp,
    /// Which keys they found to differ.
    pub verified_keys: Timestamp,
}

/// Deletes one batch of each kind from a service's own tables, as [`run_once`] does; returns how many rows went.
pub type ForgetOwn = fn(&mut Conn, Retention) -> QueryResult<usize>;

impl Retention {
    /// What `settings` say at the moment `now`.
    pub fn of(settings: &Settings, now: Timestamp) -> Self {
        let kept = &settings.retention;
        Self {
            outbox: now.before(settings.outbox.retention),
            inbox: now.before(settings.inbox.retention),
            idempotency: now.before(IDEMPOTENCY),
            alerts: now.before(settings.alerts.retention),
            audit: now.before(settings.access.audit_retention),
            previews: now.before(PREVIEWS),
            sessions: now.before(settings.access.session_lifetime),
            resolved: now.before(kept.resolved_events),
            dead_letters: now.before(kept.dead_letters),
            adjustments: now.before(kept.adjustments),
            orders: now.before(kept.orders),
            removed_products: now.before(kept.removed_products),
            verifications: now.before(settings.verify.retention),
            verified_keys: now.before(settings.verify.keys_retention),
        }
    }
}

/// At most this many rows of each kind are deleted in one transaction, so that nobody waits long for it.
pub const BATCH: i64 = 1_000;

/// Deletes one batch of each kind; returns how many rows went. Zero: nothing more is due.
///
/// # Errors
/// When the database fails.
pub async fn run_once(db: &Db, retention: Retention) -> Result<usize, DbError> {
    db.write(move |conn| {
        let events = forget_events(conn, retention.outbox)?;
        let resolved = forget_resolved(conn, retention.resolved)?;
        let answers = forget_inbox(conn, retention.inbox)?;
        let replies = forget_replies(conn, retention.idempotency)?;
        let proof = proof::forget(conn, retention)?;
        Ok(events + resolved + answers + replies + proof + operators::forget(conn, retention)?)
    })
    .await
}

/// The same for a service's own tables, in a transaction of its own.
///
/// # Errors
/// When the database fails.
pub async fn run_own_once(
    db: &Db,
    retention: Retention,
    forget: ForgetOwn,
) -> Result<usize, DbError> {
    db.write(move |conn| Ok(forget(conn, retention)?)).await
}

fn forget_events(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    // Ids are made in the order of time, so the range of the key ends the search.
    let old = outbox_settled::table
        .filter(outbox_settled::id.lt(EventId::first_at(before)))
        .filter(outbox_settled::settled_us.lt(before))
        .select(outbox_settled::id)
        .order(outbox_settled::id)
        .limit(BATCH);
    let ids: Vec<EventId> = on!(conn, c => old.load(c))?;
    let settled = outbox_settled::table.filter(outbox_settled::id.eq_any(&ids));
    on!(&mut *conn, c => diesel::delete(settled).execute(c))?;
    forget_events_of(conn, &ids)
}

/// What events were, and their histories: the last of them.
fn forget_events_of(conn: &mut Conn, ids: &[EventId]) -> QueryResult<usize> {
    let history = outbox_history::table.filter(outbox_history::event_id.eq_any(ids));
    let events = outbox_event::table.filter(outbox_event::id.eq_any(ids));
    let answers = outbox_answer::table.filter(outbox_answer::event_id.eq_any(ids));
    on!(conn, c => {
        diesel::delete(answers).execute(c)?;
        diesel::delete(history).execute(c)?;
        diesel::delete(events).execute(c)
    })
}

/// Their alerts are closed since, and go with the other closed ones.
fn forget_resolved(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let ids = lock_resolved(conn, before)?;
    if ids.is_empty() {
        return Ok(0);
    }
    let failed = outbox_failed::table.filter(outbox_failed::id.eq_any(&ids));
    on!(&mut *conn, c => diesel::delete(failed).execute(c))?;
    forget_events_of(conn, &ids)?;
    // They were committed, and no count of what there is says so any more.
    counters::add(conn, counters::FORGOTTEN, before, ids.len())?;
    Ok(ids.len())
}

/// What somebody else has locked is passed by: it may be about to be sent again.
fn lock_resolved(conn: &mut Conn, before: Timestamp) -> QueryResult<Vec<EventId>> {
    let old = outbox_failed::table
        .filter(outbox_failed::resolved_us.lt(before))
        .filter(outbox_failed::status.eq(Status::Exhausted))
        .order(outbox_failed::resolved_us)
        .limit(BATCH)
        .select(outbox_failed::id);
    match conn {
        Conn::Pg(c) => old.for_update().skip_locked().load(c),
        Conn::Sqlite(c) => old.load(c),
    }
}

fn forget_inbox(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let old = inbox::table
        .filter(inbox::event_id.lt(EventId::first_at(before)))
        .filter(inbox::processed_us.lt(before))
        .select(inbox::event_id)
        .order(inbox::event_id)
        .limit(BATCH);
    let ids: Vec<EventId> = on!(conn, c => old.load(c))?;
    if ids.is_empty() {
        return Ok(0);
    }
    note_forgotten(conn, INBOX, before.micros())?;
    on!(conn, c => diesel::delete(inbox::table.filter(inbox::event_id.eq_any(&ids))).execute(c))
}

fn forget_replies(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let old = idempotency::table
        .filter(idempotency::created_us.lt(before))
        .select((idempotency::principal, idempotency::route, idempotency::key))
        .order(idempotency::created_us)
        .limit(BATCH);
    let keys: Vec<(String, String, String)> = on!(conn, c => old.load(c))?;
    for (principal, route, key) in &keys {
        let row = idempotency::table.find((principal, route, key));
        on!(conn, c => diesel::delete(row).execute(c))?;
    }
    Ok(keys.len())
}
