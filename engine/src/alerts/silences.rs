//! Silences: alerts that are not sent for a while. When one ends, those that are still open are gathered.

use std::collections::HashMap;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, json_list};
use common::on;
use common::schema::{alert, alert_silence};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};
use serde::Serialize;
use utoipa::ToSchema;

use super::AlertError;
use super::model::AlertKind;
use crate::audit::Actor;

/// Whether silence `s` holds at the moment `$1` and covers alert `a`; what a silence leaves open fits all.
macro_rules! covers {
    () => {
        "s.until_us > $1 AND s.ended_us IS NULL AND (s.kind IS NULL OR s.kind = a.kind) \
         AND (s.key IS NULL OR s.key = a.key) AND (s.alert_seq IS NULL OR s.alert_seq = a.seq)"
    };
}

/// Whether alert `a` is silenced at the moment `$1`.
pub(crate) const SILENCED: &str =
    concat!("EXISTS (SELECT 1 FROM alert_silence s WHERE ", covers!(), ")");

/// The longest silence: nobody remembers a longer one.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Limit of active silences, since each waiting alert is held against each of them.
const MOST: usize = 500;

/// What is silenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Alerts of a kind, of a key, or of a kind and a key.
    Matching {
        /// Only this kind.
        kind: Option<AlertKind>,
        /// Only this key.
        key: Option<String>,
    },
    /// One alert.
    Alert(i64),
}

/// A silence to start.
#[derive(Debug, Clone)]
pub struct NewSilence {
    /// What is silenced.
    pub scope: Scope,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
}

/// A silence as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Silence {
    /// Its number, which grows.
    pub seq: String,
    /// Only alerts of this kind; none: of any.
    pub kind: Option<String>,
    /// Only alerts of this key; none: of any.
    pub key: Option<String>,
    /// Only this alert; none: any.
    pub alert: Option<String>,
    /// Why.
    pub reason: String,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends, unless somebody ends it early.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// When somebody ended it early.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Who did.
    pub ended_by: Option<String>,
    /// Whether it is active now.
    pub active: bool,
}

#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = alert_silence)]
pub(super) struct SilenceRow {
    seq: i64,
    kind: Option<String>,
    key: Option<String>,
    alert_seq: Option<i64>,
    reason: String,
    created_us: Timestamp,
    until_us: Timestamp,
    by_whom: String,
    ended_us: Option<Timestamp>,
    ended_by: Option<String>,
}

impl SilenceRow {
    fn is_active(&self, now: Timestamp) -> bool {
        self.ended_us.is_none() && self.until_us > now
    }

    pub(super) fn shown(self, now: Timestamp) -> Silence {
        Silence {
            active: self.is_active(now),
            seq: self.seq.to_string(),
            kind: self.kind,
            key: self.key,
            alert: self.alert_seq.map(|seq| seq.to_string()),
            reason: self.reason,
            created_at: self.created_us,
            created_by: self.by_whom,
            until: self.until_us,
            ended_at: self.ended_us,
            ended_by: self.ended_by,
        }
    }
}

/// The silences that cover an alert now.
pub(super) fn covering(
    conn: &mut Conn,
    now: Timestamp,
    alert: i64,
) -> QueryResult<Vec<SilenceRow>> {
    let sql = concat!(
        "SELECT s.* FROM alert a JOIN alert_silence s ON ",
        covers!(),
        " WHERE a.seq = $2 ORDER BY s.seq"
    );
    on!(conn, c => sql_query(sql).bind::<BigInt, _>(now).bind::<BigInt, _>(alert).load(c))
}

/// Until when those of `alerts` are silenced that are open and silenced now.
pub(super) fn silenced_until(
    conn: &mut Conn,
    now: Timestamp,
    alerts: &[i64],
) -> QueryResult<HashMap<i64, Timestamp>> {
    #[derive(QueryableByName)]
    struct SilencedRow {
        #[diesel(sql_type = BigInt)]
        seq: i64,
        #[diesel(sql_type = BigInt)]
        until_us: Timestamp,
    }
    let silenced = concat!(
        "SELECT a.seq, max(s.until_us) AS until_us FROM alert a JOIN alert_silence s ON ",
        covers!(),
        " WHERE a.closed_us IS NULL AND a.seq "
    );
    let rows: Vec<SilencedRow> = match conn {
        Conn::Pg(c) => sql_query(format!("{silenced} = ANY($2) GROUP BY a.seq"))
            .bind::<BigInt, _>(now)
            .bind::<Array<BigInt>, _>(alerts)
            .load(c)?,
        Conn::Sqlite(c) => {
            let these = "IN (SELECT value FROM json_each($2)) GROUP BY a.seq";
            sql_query(format!("{silenced} {these}"))
                .bind::<BigInt, _>(now)
                .bind::<Text, _>(json_list(alerts)?)
                .load(c)?
        }
    };
    Ok(rows.into_iter().map(|row| (row.seq, row.until_us)).collect())
}

/// How many silences hold now, counted up to the limit.
fn count_active(conn: &mut Conn, now: Timestamp) -> QueryResult<usize> {
    let active = alert_silence::table
        .filter(alert_silence::until_us.gt(now))
        .filter(alert_silence::ended_us.is_null())
        .limit(i64::try_from(MOST).unwrap_or(i64::MAX))
        .select(alert_silence::seq);
    let seqs: Vec<i64> = on!(conn, c => active.load(c))?;
    Ok(seqs.len())
}

/// Begins a silence; `by` is noted in the audit log.
///
/// # Errors
/// For an end that is past or too far, an alert that is none or closed, and too many silences.
pub fn begin(
    conn: &mut Conn,
    now: Timestamp,
    new: &NewSilence,
    by: &Actor,
) -> Result<Silence, AlertError> {
    check(conn, now, new)?;
    let (kind, key, alert_seq) = match &new.scope {
        Scope::Matching { kind, key } => (kind.map(AlertKind::name), key.as_deref(), None),
        Scope::Alert(seq) => (None, None, Some(*seq)),
    };
    let values = (
        alert_silence::kind.eq(kind),
        alert_silence::key.eq(key),
        alert_silence::alert_seq.eq(alert_seq),
        alert_silence::reason.eq(&new.reason),
        alert_silence::created_us.eq(now),
        alert_silence::until_us.eq(new.until),
        alert_silence::by_whom.eq(&by.name),
    );
    let row: SilenceRow = on!(conn, c => diesel::insert_into(alert_silence::table)
        .values(values)
        .returning(SilenceRow::as_returning())
        .get_result(c))?;
    let detail = serde_json::json!({
        "kind": kind, "key": key, "alert": alert_seq.map(|seq| seq.to_string()),
        "until": new.until, "reason": new.reason,
    });
    by.note(conn, now, "silence.begin", Some(&row.seq.to_string()), Some(detail))?;
    Ok(row.shown(now))
}

fn check(conn: &mut Conn, now: Timestamp, new: &NewSilence) -> Result<(), AlertError> {
    if new.until <= now {
        return Err(AlertError::SilenceEndsInPast);
    }
    if new.until > now.after(LONGEST) {
        return Err(AlertError::SilenceTooLong);
    }
    if let Scope::Alert(seq) = new.scope {
        let closed: Option<Option<Timestamp>> = on!(&mut *conn, c => alert::table
            .find(seq)
            .select(alert::closed_us)
            .first(c)
            .optional())?;
        match closed {
            None => return Err(AlertError::UnknownAlert(seq)),
            Some(Some(_)) => return Err(AlertError::Closed(seq)),
            Some(None) => {}
        }
    }
    match count_active(conn, now)? {
        MOST.. => Err(AlertError::TooManySilences(MOST)),
        _ => Ok(()),
    }
}

/// Ends a silence before its time, and answers with it; one that is over stays as it is.
///
/// # Errors
/// When there is none of that number.
pub fn end(conn: &mut Conn, now: Timestamp, seq: i64, by: &Actor) -> Result<Silence, AlertError> {
    let running = alert_silence::table
        .find(seq)
        .filter(alert_silence::ended_us.is_null())
        .filter(alert_silence::until_us.gt(now));
    let ended = on!(&mut *conn, c => diesel::update(running)
        .set((alert_silence::ended_us.eq(now), alert_silence::ended_by.eq(&by.name)))
        .execute(c))?;
    if ended > 0 {
        by.note(conn, now, "silence.end", Some(&seq.to_string()), None)?;
    }
    let row: Option<SilenceRow> = on!(conn, c => alert_silence::table
        .find(seq)
        .select(SilenceRow::as_select())
        .first(c)
        .optional())?;
    row.map(|row| row.shown(now)).ok_or(AlertError::UnknownSilence(seq))
}

/// Up to `limit` silences, newest first, that come after number `after` in that order; `only_active`: only those
/// that hold now, or only those that do not.
///
/// # Errors
/// When the statement fails.
pub fn list(
    conn: &mut Conn,
    now: Timestamp,
    only_active: Option<bool>,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<Silence>> {
    let holds = || alert_silence::ended_us.is_null().and(alert_silence::until_us.gt(now));
    let rows: Vec<SilenceRow> = on!(conn, c => {
        let all = alert_silence::table
            .filter(alert_silence::seq.lt(after.unwrap_or(i64::MAX)))
            .into_boxed();
        let some = match only_active {
            Some(true) => all.filter(holds()),
            Some(false) => all.filter(diesel::dsl::not(holds())),
            None => all,
        };
        some.order(alert_silence::seq.desc()).limit(limit).select(SilenceRow::as_select()).load(c)
    })?;
    Ok(rows.into_iter().map(|row| row.shown(now)).collect())
}
