//! Verifications with the keys that differed, jobs that sent states again, and fillings of copies.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{
    bootstrap, lost_check, lost_command, resync_job, resync_skipped, verification, verification_key,
};
use diesel::prelude::*;

use super::{BATCH, Retention};

/// Deletes one batch of each kind; returns how many rows went.
pub(super) fn forget(conn: &mut Conn, retention: Retention) -> QueryResult<usize> {
    let keys = forget_keys(conn, retention.verified_keys.max(retention.verifications))?;
    let verifications = forget_verification(conn, retention.verifications)?;
    let lost = forget_lost(conn, retention.outbox.min(retention.verifications))?;
    let fillings = forget_fillings(conn, retention.audit)?;
    Ok(keys + verifications + lost + fillings + forget_resync(conn, retention.audit)?)
}

/// Lost commands that are settled, and whose events are gone, so that nobody finds them once more; and old checks.
fn forget_lost(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    use {lost_check as k, lost_command as l};
    let old = l::table
        .filter(l::closed_us.lt(before))
        .order(l::closed_us)
        .limit(BATCH)
        .select(l::event_id);
    let old: Vec<EventId> = on!(&mut *conn, c => old.load(c))?;
    let gone = l::table.filter(l::event_id.eq_any(&old));
    let gone = on!(&mut *conn, c => diesel::delete(gone).execute(c))?;
    let checks = k::table.filter(k::ended_us.lt(before)).order(k::seq).limit(BATCH).select(k::seq);
    let checks: Vec<i64> = on!(&mut *conn, c => checks.load(c))?;
    let checks = k::table.filter(k::seq.eq_any(&checks));
    Ok(gone + on!(conn, c => diesel::delete(checks).execute(c))?)
}

fn forget_fillings(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    use bootstrap as b;
    let old =
        b::table.filter(b::ended_us.lt(before)).order(b::ended_us).limit(BATCH).select(b::seq);
    let old: Vec<i64> = on!(&mut *conn, c => old.load(c))?;
    on!(conn, c => diesel::delete(b::table.filter(b::seq.eq_any(&old))).execute(c))
}

/// A batch of the keys of the oldest verification that still has some.
fn forget_keys(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    use {verification as v, verification_key as k};
    // Keys are numbered like their verifications, so the first one's is the oldest that has any.
    let first = k::table.order((k::verification, k::key)).select(k::verification);
    let Some(seq) = on!(&mut *conn, c => first.first::<i64>(c).optional())? else { return Ok(0) };
    let old = v::table.find(seq).filter(v::ended_us.lt(before)).select(v::seq);
    if on!(&mut *conn, c => old.first::<i64>(c).optional())?.is_none() {
        return Ok(0);
    }
    let batch = k::table.filter(k::verification.eq(seq)).order(k::key).limit(BATCH).select(k::key);
    let keys: Vec<String> = on!(&mut *conn, c => batch.load(c))?;
    let rows = k::table.filter(k::verification.eq(seq)).filter(k::key.eq_any(&keys));
    on!(conn, c => diesel::delete(rows).execute(c))
}

/// Those whose keys are gone by now.
fn forget_verification(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    use {verification as v, verification_key as k};
    let old =
        v::table.filter(v::ended_us.lt(before)).order(v::ended_us).limit(BATCH).select(v::seq);
    let old: Vec<i64> = on!(&mut *conn, c => old.load(c))?;
    let mut gone = 0;
    for seq in old {
        let keys = k::table.filter(k::verification.eq(seq)).select(k::verification);
        if on!(&mut *conn, c => keys.first::<i64>(c).optional())?.is_none() {
            gone += on!(&mut *conn, c => diesel::delete(v::table.find(seq)).execute(c))?;
        }
    }
    Ok(gone)
}

/// A batch of what the oldest ended job skipped, and the job itself with the last of it.
fn forget_resync(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    use {resync_job as j, resync_skipped as s};
    let ended = j::table.filter(j::ended_us.lt(before)).order(j::seq).select(j::seq);
    let Some(job) = on!(&mut *conn, c => ended.first::<i64>(c).optional())? else { return Ok(0) };
    let batch = s::table.filter(s::job.eq(job)).order(s::key).limit(BATCH).select(s::key);
    let keys: Vec<String> = on!(&mut *conn, c => batch.load(c))?;
    let rows = s::table.filter(s::job.eq(job)).filter(s::key.eq_any(&keys));
    let gone = on!(&mut *conn, c => diesel::delete(rows).execute(c))?;
    match keys.is_empty() {
        true => on!(conn, c => diesel::delete(j::table.find(job)).execute(c)),
        false => Ok(gone),
    }
}
