//! Browsers that are signed in: a random value in a cookie, its hash in a row, two ways to expire.
//!
//! Rows instead of signed cookies: there is no key to keep and to change, and ending a session, or all of an
//! operator's, is a DELETE.

use std::time::Duration;

use diesel::prelude::*;

use super::operators::{self, Row as OperatorRow};
use super::{Caller, Hashed, Role, Via, secret, throttle};
use crate::clock::Timestamp;
use crate::config::AccessSettings;
use crate::db::Conn;
use crate::env::Env;
use crate::http::{Problem, ProblemResult};
use crate::on;
use crate::schema::{operator, operator_session};

/// How exactly it is known when a session was used last: no write for each request.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// A session that was just begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The value of its cookie; it is nowhere else.
    pub secret: String,
    /// Who it is for.
    pub caller: Caller,
    /// When it ends, however much it is used.
    pub ends_at: Timestamp,
}

/// Somebody who wants to sign in, and whether they may.
#[derive(Debug, Clone)]
pub struct Attempt {
    name: String,
    address: String,
    verdict: Verdict,
}

#[derive(Debug, Clone)]
enum Verdict {
    Right(Box<OperatorRow>),
    Wrong,
    TooMany(Problem),
}

/// Checks name and password, coming from `address`; only reads, and takes the time of hashing.
///
/// # Errors
/// When a statement fails.
pub fn attempt(
    conn: &mut Conn,
    settings: &AccessSettings,
    now: Timestamp,
    (name, password): (&str, &str),
    address: String,
) -> ProblemResult<Attempt> {
    let made = |verdict| Attempt { name: name.to_owned(), address: address.clone(), verdict };
    if let Some(problem) = throttle::check(conn, settings, name, &address, now)? {
        return Ok(made(Verdict::TooMany(problem)));
    }
    let found = operators::find(conn, name)?.filter(|row| row.disabled_us.is_none());
    let right = secret::verify(password, found.as_ref().map(|row| row.password_hash.as_str()));
    Ok(made(match found.filter(|_| right) {
        Some(row) => Verdict::Right(Box::new(row)),
        None => Verdict::Wrong,
    }))
}

/// Begins a session, or counts a failure; the refusal is a value, so that what was counted is kept.
///
/// The refusal is 401 when name or password are wrong (which of them is not told), 429 after too many failures.
///
/// # Errors
/// When a statement fails.
pub fn begin(
    conn: &mut Conn,
    env: &Env,
    settings: &AccessSettings,
    attempt: &Attempt,
) -> ProblemResult<Result<Begun, Problem>> {
    let now = env.now();
    let Attempt { name, address, verdict } = attempt;
    let from = Some(serde_json::json!({ "address": address }));
    let row = match verdict {
        Verdict::Right(row) => row,
        Verdict::TooMany(problem) => return Ok(Err(problem.clone())),
        Verdict::Wrong => {
            throttle::count(conn, settings, name, address, now)?;
            let name: String = name.chars().take(64).collect();
            let nobody = Caller::new(name, Role::Viewer, Via::Session);
            nobody.note(conn, now, "session.refused", None, from)?;
            return Ok(Err(Problem::unauthorized("name or password are wrong")));
        }
    };
    throttle::forget(conn, name)?;
    let secret = secret::random(env);
    let hash = secret::fingerprint(&secret);
    let session = (
        operator_session::hash.eq(&hash),
        operator_session::operator.eq(&row.name),
        operator_session::created_us.eq(now),
        operator_session::seen_us.eq(now),
    );
    on!(conn, c => diesel::insert_into(operator_session::table).values(session).execute(c))?;
    let caller = caller(row, hash);
    caller.note(conn, now, "session.begin", None, from)?;
    Ok(Ok(Begun { secret, caller, ends_at: now.after(settings.session_lifetime) }))
}

/// Who the session of a cookie is for; `true` with it: it was used long enough ago to be noted again.
///
/// # Errors
/// When the statement fails.
pub(super) fn find(
    conn: &mut Conn,
    settings: &AccessSettings,
    secret: &str,
    now: Timestamp,
) -> QueryResult<Option<(Caller, bool)>> {
    let hash = secret::fingerprint(secret);
    let found: Option<(OperatorRow, Timestamp)> = on!(conn, c => operator_session::table
        .inner_join(operator::table.on(operator::name.eq(operator_session::operator)))
        .filter(operator_session::hash.eq(&hash))
        .filter(operator_session::created_us.gt(now.before(settings.session_lifetime)))
        .filter(operator_session::seen_us.gt(now.before(settings.session_idle)))
        .filter(operator::disabled_us.is_null())
        .select((OperatorRow::as_select(), operator_session::seen_us))
        .first(c)
        .optional())?;
    Ok(found.map(|(row, seen)| (caller(&row, hash), now.since(seen) >= SEEN_EVERY)))
}

/// Notes that a session is used.
///
/// # Errors
/// When the statement fails.
pub(super) fn touch(conn: &mut Conn, hash: &str, now: Timestamp) -> QueryResult<()> {
    on!(conn, c => diesel::update(operator_session::table.find(hash))
        .set(operator_session::seen_us.eq(now))
        .execute(c))
    .map(drop)
}

/// Ends the caller's session, if they have one.
///
/// # Errors
/// When a statement fails.
pub fn end(conn: &mut Conn, now: Timestamp, caller: &Caller) -> QueryResult<()> {
    let Some(hash) = &caller.session else { return Ok(()) };
    on!(conn, c => diesel::delete(operator_session::table.find(hash)).execute(c))?;
    caller.note(conn, now, "session.end", None, None)
}

/// Whether `password` is the caller's own; only reads, and takes the time of hashing.
///
/// # Errors
/// 422 when it is not; 409 for a caller without a password.
pub fn check_own_password(conn: &mut Conn, caller: &Caller, password: &str) -> ProblemResult<()> {
    let row = match &caller.session {
        Some(_) => operators::find(conn, &caller.name)?,
        None => None,
    };
    let Some(row) = row else {
        return Err(Problem::conflict(
            "no-password",
            "only who signed in has a password to change",
        ));
    };
    match secret::verify(password, Some(&row.password_hash)) {
        true => Ok(()),
        false => Err(Problem::invalid("old_password", "this is not your present password")),
    }
}

/// Sets the caller's own password, and ends their other sessions.
///
/// # Errors
/// When a statement fails.
pub fn change_password(
    conn: &mut Conn,
    now: Timestamp,
    caller: &Caller,
    new: &Hashed,
) -> QueryResult<()> {
    on!(conn, c => diesel::update(operator::table.find(&caller.name))
        .set(operator::password_hash.eq(&new.0))
        .execute(c))?;
    let others = operator_session::table
        .filter(operator_session::operator.eq(&caller.name))
        .filter(operator_session::hash.ne(caller.session.clone().unwrap_or_default()));
    on!(conn, c => diesel::delete(others).execute(c))?;
    caller.note(conn, now, "operator.password", Some(&caller.name), None)
}

/// Deletes sessions that began at `before` or earlier; returns how many.
///
/// # Errors
/// When the statement fails.
pub fn forget(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let old = operator_session::table.filter(operator_session::created_us.le(before));
    on!(conn, c => diesel::delete(old).execute(c))
}

fn caller(row: &OperatorRow, hash: String) -> Caller {
    let caller = Caller::new(row.name.clone(), Role::of_code(row.role), Via::Session);
    Caller { session: Some(hash), ..caller }
}
