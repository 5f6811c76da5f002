//! The operators' side: alerts and their messages, silences, actions, jobs, and expired sessions.

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::{bulk_item, bulk_job, operator_session};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use super::{BATCH, Retention};

/// What is deleted from tables whose rows have a number; `$1` is the moment before which, `$2` the limit.
const NUMBERED: [(&str, &str); 5] = [
    ("alert", "SELECT seq FROM alert WHERE closed_us < $1 ORDER BY closed_us LIMIT $2"),
    // Not while an alert is kept that names the message.
    (
        "mail",
        "SELECT seq FROM mail WHERE sent_us < $1 \
         AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.mail_seq = mail.seq) \
         ORDER BY sent_us LIMIT $2",
    ),
    (
        "webhook",
        "SELECT seq FROM webhook WHERE sent_us < $1 \
         AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.webhook_seq = webhook.seq) \
         ORDER BY sent_us LIMIT $2",
    ),
    // One that was ended early goes with those that end when it would have.
    (
        "alert_silence",
        "SELECT seq FROM alert_silence WHERE until_us < $1 ORDER BY until_us LIMIT $2",
    ),
    // Actions are numbered in the order of time, so the oldest batch shows whether any is due.
    (
        "audit",
        "SELECT seq FROM audit WHERE at_us < $1 \
         AND seq IN (SELECT seq FROM audit ORDER BY seq LIMIT $2)",
    ),
];

/// Deletes one batch of each kind; returns how many rows went.
pub(super) fn forget(conn: &mut Conn, retention: Retention) -> QueryResult<usize> {
    let mut gone = 0;
    for (table, old) in NUMBERED {
        let before = match table {
            "audit" => retention.audit,
            _ => retention.alerts,
        };
        gone += forget_numbered(conn, table, old, before)?;
    }
    gone += forget_job(conn, retention.audit)?;
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
    let items: Vec<common::ids::EventId> = on!(&mut *conn, c => batch.load(c))?;
    let touched =
        bulk_item::table.filter(bulk_item::job.eq(job)).filter(bulk_item::event_id.eq_any(&items));
    let gone = on!(&mut *conn, c => diesel::delete(touched).execute(c))?;
    match items.is_empty() {
        true => on!(conn, c => diesel::delete(bulk_job::table.find(job)).execute(c)),
        false => Ok(gone),
    }
}

fn forget_sessions(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let old = operator_session::table.filter(operator_session::created_us.le(before));
    on!(conn, c => diesel::delete(old).execute(c))
}
