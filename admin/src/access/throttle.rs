//! Sign-ins that fail are counted, by name and by address, and after too many further ones are refused for a while.
//!
//! Counted in the database, so that it holds over all instances. An address is allowed several times what a name
//! is: behind one address there may be many people.

use common::clock::Timestamp;
use common::config::AccessSettings;
use common::db::Conn;
use common::on;
use common::schema::login_failure;
use diesel::prelude::*;

use super::Refused;

/// How many times what a name may fail an address may.
const PER_ADDRESS: i32 = 4;

/// The refusal, if `name` or `address` failed too often.
pub(super) fn check(
    conn: &mut Conn,
    settings: &AccessSettings,
    name: &str,
    address: &str,
    now: Timestamp,
) -> QueryResult<Option<Refused>> {
    let mut wait = None;
    for (subject, limit) in subjects(settings, name, address) {
        let row: Option<(i32, Timestamp)> = on!(conn, c => login_failure::table
            .find(subject)
            .select((login_failure::failures, login_failure::since_us))
            .first(c)
            .optional())?;
        let ends = row
            .filter(|(failures, _)| *failures >= limit)
            .map(|(_, since)| since.after(settings.login_window))
            .filter(|ends| *ends > now);
        wait = wait.max(ends);
    }
    Ok(wait.map(|ends| Refused::TooManyFailures { wait: ends.since(now) }))
}

/// Counts a failure; the window begins with the first one.
pub(super) fn count(
    conn: &mut Conn,
    settings: &AccessSettings,
    name: &str,
    address: &str,
    now: Timestamp,
) -> QueryResult<()> {
    use login_failure::{failures, since_us, subject, table};
    let over = now.before(settings.login_window);
    on!(conn, c => diesel::delete(table.filter(since_us.le(over))).execute(c))?;
    for (who, _) in subjects(settings, name, address) {
        on!(conn, c => diesel::insert_into(table)
            .values((subject.eq(who), failures.eq(1), since_us.eq(now)))
            .on_conflict(subject)
            .do_update()
            .set(failures.eq(failures + 1))
            .execute(c))?;
    }
    Ok(())
}

/// A sign-in that succeeds clears its name; the address may hide others.
pub(super) fn forget(conn: &mut Conn, name: &str) -> QueryResult<()> {
    on!(conn, c => diesel::delete(login_failure::table.find(by_name(name))).execute(c)).map(drop)
}

fn subjects(settings: &AccessSettings, name: &str, address: &str) -> [(String, i32); 2] {
    let by_address = format!("address {address}");
    let limit = settings.login_failures;
    [(by_name(name), limit), (by_address, limit.saturating_mul(PER_ADDRESS))]
}

fn by_name(name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    format!("name {name}")
}
