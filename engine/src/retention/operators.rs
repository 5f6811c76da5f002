//! The operators' side: alerts and their messages, silences, dead letters, actions, jobs, and expired sessions.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{bulk_item, bulk_job, bulk_preview, bulk_preview_event, operator_session};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use super::{BATCH, Retention};
use crate::bulk::JobState;

/// A table whose rows have a number, how long they are kept, and which are deleted: `$1` is the moment before which, `$2`
/// the limit.
type Numbered = (&'static str, fn(&Retention) -> Timestamp, &'static str);

const NUMBERED: [Numbered; 6] = [
    (
        "alert",
        |kept| kept.alerts,
        "SELECT seq FROM alert WHERE closed_us < $1 ORDER BY closed_us LIMIT $2",
    ),
    // Not while an alert is kept that names the message.
    (
        "mail",
        |kept| kept.alerts,
        "SELECT seq FROM mail WHERE sent_us < $1 \
         AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.mail_seq = mail.seq) \
         AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.over_mail_seq = mail.seq) \
         ORDER BY sent_us LIMIT $2",
    ),
    (
        "webhook",
        |kept| kept.alerts,
        "SELECT seq FROM webhook WHERE sent_us < $1 \
         AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.webhook_seq = webhook.seq) \
         AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.over_webhook_seq = webhook.seq) \
         ORDER BY sent_us LIMIT $2",
    ),
    // One that was ended early goes with those that end when it would have.
    (
        "alert_silence",
        |kept| kept.alerts,
        "SELECT seq FROM alert_silence WHERE until_us < $1 ORDER BY until_us LIMIT $2",
    ),
    // One that waits has no such moment.
    (
        "dead_letter",
        |kept| kept.dead_letters,
        "SELECT seq FROM dead_letter WHERE handled_us < $1 ORDER BY handled_us LIMIT $2",
    ),
    // Actions are numbered in the order of time, so the oldest batch shows whether any is due.
    (
        "audit",
        |kept| kept.audit,
        "SELECT seq FROM audit WHERE at_us < $1 \
         AND seq IN (SELECT seq FROM audit ORDER BY seq LIMIT $2)",
    ),
];

/// Deletes one batch of each kind; returns how many rows went.
pub(super) fn forget(conn: &mut Conn, retention: Retention) -> QueryResult<usize> {
    let mut gone = 0;
    for (table, kept, old) in NUMBERED {
        gone += forget_numbered(conn, table, old, kept(&retention))?;
    }
    gone += forget_job(conn, retention.audit)?;
    gone += forget_preview(conn, retention.previews)?;
    Ok(gone + forget_sessions(conn, retention.sessions)?)
}

fn forget_numbered(
    conn: &mut Conn,
    table: &str,
    old: &str,
    before: Timestamp,
) -> QueryResult<usize> {
    let delete = format!("DELETE FROM {table} WHERE seq IN ({old})");
    on!(conn, c => sql_query(delete)
        .bind::<BigInt, _>(before)
        .bind::<BigInt, _>(BATCH)
        .execute(c))
}

/// A batch of what the oldest ended job touched, and the job itself with the last of it.
fn forget_job(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let ended = bulk_job::table
        .filter(bulk_job::ended_us.lt(before))
        .order(bulk_job::seq)
        .select(bulk_job::seq);
    let Some(job) = on!(&mut *conn, c => ended.first::<i64>(c).optional())? else {
        return Ok(0);
    };
    let batch = bulk_item::table
        .filter(bulk_item::job.eq(job))
        .order(bulk_item::event_id)
        .limit(BATCH)
        .select(bulk_item::event_id);
    let items: Vec<EventId> = on!(&mut *conn, c => batch.load(c))?;
    let touched =
        bulk_item::table.filter(bulk_item::job.eq(job)).filter(bulk_item::event_id.eq_any(&items));
    let gone = on!(&mut *conn, c => diesel::delete(touched).execute(c))?;
    match items.is_empty() {
        true => on!(conn, c => diesel::delete(bulk_job::table.find(job)).execute(c)),
        false => Ok(gone),
    }
}

/// A batch of what the oldest preview lists, and the preview itself with the last of it.
fn forget_preview(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    use bulk_preview_event as e;
    let Some(preview) = oldest_preview(conn, before)? else { return Ok(0) };
    let batch =
        e::table.filter(e::preview.eq(preview)).order(e::event_id).limit(BATCH).select(e::event_id);
    let events: Vec<EventId> = on!(&mut *conn, c => batch.load(c))?;
    let listed = e::table.filter(e::preview.eq(preview)).filter(e::event_id.eq_any(&events));
    let gone = on!(&mut *conn, c => diesel::delete(listed).execute(c))?;
    match events.is_empty() {
        true => on!(conn, c => diesel::delete(bulk_preview::table.find(preview)).execute(c)),
        false => Ok(gone),
    }
}

/// A job that has ended lists its events itself; one that has not still needs them.
fn oldest_preview(conn: &mut Conn, before: Timestamp) -> QueryResult<Option<i64>> {
    let needed = bulk_job::table
        .filter(bulk_job::state.lt(JobState::Done))
        .filter(bulk_job::preview.is_not_null())
        .select(bulk_job::preview.assume_not_null());
    let needed: Vec<i64> = on!(&mut *conn, c => needed.load(c))?;
    let old = bulk_preview::table
        .filter(bulk_preview::created_us.lt(before))
        .filter(bulk_preview::seq.ne_all(&needed))
        .order(bulk_preview::seq)
        .select(bulk_preview::seq);
    on!(conn, c => old.first(c).optional())
}

fn forget_sessions(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let old = operator_session::table.filter(operator_session::created_us.le(before));
    on!(conn, c => diesel::delete(old).execute(c))
}
