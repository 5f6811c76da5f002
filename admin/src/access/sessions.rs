//! Browsers that are signed in: a random value in a cookie, its hash in a row, two ways to expire.
//!
//! Rows instead of signed cookies: there is no key to keep and to change, and ending a session, or all of an
//! operator's, is a DELETE.

use std::time::Duration;

use common::clock::Timestamp;
use common::config::AccessSettings;
use common::db::Conn;
use common::env::Env;
use common::on;
use common::schema::{operator, operator_session};
use diesel::prelude::*;
use engine::audit::AuthMethod;

use super::operators::{self, OperatorRow};
use super::{AccessError, Caller, Hashed, Refused, Role, secret, throttle};

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
    TooMany(Refused),
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
) -> QueryResult<Attempt> {
    let made = |verdict| Attempt { name: name.to_owned(), address: address.clone(), verdict };
    if let Some(refused) = throttle::check(conn, settings, name, &address, now)? {
        return Ok(made(Verdict::TooMany(refused)));
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
/// The refusal does not say which of name and password is wrong.
///
/// # Errors
/// When a statement fails.
pub fn begin(
    conn: &mut Conn,
    env: &Env,
    settings: &AccessSettings,
    attempt: &Attempt,
) -> QueryResult<Result<Begun, Refused>> {
    let now = env.now();
    let Attempt { name, address, verdict } = attempt;
    let from = Some(serde_json::json!({ "address": address }));
    let row = match verdict {
        Verdict::Right(row) => row,
        Verdict::TooMany(refused) => return Ok(Err(refused.clone())),
        Verdict::Wrong => {
            throttle::count(conn, settings, name, address, now)?;
            let name: String = name.chars().take(64).collect();
            let nobody = Caller::new(name, Role::Viewer, AuthMethod::Session);
            nobody.note(conn, now, "session.refused", None, from)?;
            return Ok(Err(Refused::WrongCredentials));
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
/// When it is not, or the caller has none.
pub fn check_own_password(
    conn: &mut Conn,
    caller: &Caller,
    password: &str,
) -> Result<(), AccessError> {
    let row = match &caller.session {
        Some(_) => operators::find(conn, &caller.name)?,
        None => None,
    };
    let Some(row) = row else {
        return Err(Refused::NoPassword.into());
    };
    match secret::verify(password, Some(&row.password_hash)) {
        true => Ok(()),
        false => Err(Refused::WrongOldPassword.into()),
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

fn caller(row: &OperatorRow, hash: String) -> Caller {
    let caller = Caller::new(row.name.clone(), Role::of_code(row.role), AuthMethod::Session);
    Caller { session: Some(hash), ..caller }
}
