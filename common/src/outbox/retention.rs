//! What is PROCESSED long enough goes; what is open never does.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::{Conn, Db, DbError};
use crate::ids::EventId;
use crate::on;
use crate::schema::{idempotency, inbox, outbox_event, outbox_history, outbox_settled};

/// How old things may get, as moments before which they go.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// PROCESSED events, with their history.
    pub outbox: Timestamp,
    /// Answers given, by which duplicates are known.
    pub inbox: Timestamp,
    /// Answers to keyed writes.
    pub idempotency: Timestamp,
}

/// Rows that one transaction deletes at the most, so that nobody waits long for it.
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
        Ok(events + answers + replies)
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
