//! What is over is deleted after its retention; what is open never is.

mod operators;
#[cfg(test)]
mod tests;

use std::time::Duration;

use common::clock::Timestamp;
use common::config::Settings;
use common::db::{Conn, Db, DbError};
use common::ids::EventId;
use common::on;
use common::schema::{idempotency, inbox, outbox_event, outbox_history, outbox_settled};
use diesel::prelude::*;

/// How long answers to keyed writes are kept.
const IDEMPOTENCY: Duration = Duration::from_secs(24 * 60 * 60);

/// How old things may get, as moments before which they go; by default, all are kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// PROCESSED events, with their history.
    pub outbox: Timestamp,
    /// Answers given, by which duplicates are known.
    pub inbox: Timestamp,
    /// Answers to keyed writes.
    pub idempotency: Timestamp,
    /// Closed alerts, messages that left, silences that are over.
    pub alerts: Timestamp,
    /// Actions of operators, and bulk jobs that ended.
    pub audit: Timestamp,
    /// Sessions, by when they began.
    pub sessions: Timestamp,
}

impl Retention {
    /// What `settings` say at the moment `now`.
    pub fn of(settings: &Settings, now: Timestamp) -> Self {
        Self {
            outbox: now.before(settings.outbox.retention),
            inbox: now.before(settings.inbox.retention),
            idempotency: now.before(IDEMPOTENCY),
            alerts: now.before(settings.alerts.retention),
            audit: now.before(settings.access.audit_retention),
            sessions: now.before(settings.access.session_lifetime),
        }
    }
}

/// At most this many rows of each kind are deleted in one transaction, so that nobody waits long for it.
const BATCH: i64 = 1_000;

/// Deletes one batch of each kind; returns how many rows went. Zero: nothing more is due.
///
/// # Errors
/// When the database fails.
pub async fn run_once(db: &Db, retention: Retention) -> Result<usize, DbError> {
    db.write(move |conn| {
        let events = forget_events(conn, retention.outbox)?;
        let answers = forget_inbox(conn, retention.inbox)?;
        let replies = forget_replies(conn, retention.idempotency)?;
        Ok(events + answers + replies + operators::forget(conn, retention)?)
    })
    .await
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
    on!(conn, c => {
        let history = outbox_history::table.filter(outbox_history::event_id.eq_any(&ids));
        diesel::delete(history).execute(c)?;
        diesel::delete(outbox_settled::table.filter(outbox_settled::id.eq_any(&ids))).execute(c)?;
        diesel::delete(outbox_event::table.filter(outbox_event::id.eq_any(&ids))).execute(c)
    })
}

fn forget_inbox(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let old = inbox::table
        .filter(inbox::event_id.lt(EventId::first_at(before)))
        .filter(inbox::processed_us.lt(before))
        .select(inbox::event_id)
        .order(inbox::event_id)
        .limit(BATCH);
    let ids: Vec<EventId> = on!(conn, c => old.load(c))?;
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
