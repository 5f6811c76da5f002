//! What a verification came to, and whom that concerns.

use common::clock::Timestamp;
use common::db::Conn;
use diesel::QueryResult;

use super::model::{FILLING, State, Verification};
use crate::alerts::{self, AlertKind, NewAlert};

/// How a verification that came to its end is to be told, and why if that is not known.
pub(super) fn verdict(row: &Verification) -> (State, Option<String>) {
    match (row.differences, row.waiting) {
        (0, 0) => (State::Equal, None),
        (0, waiting) => {
            let reason = format!(
                "nothing differs but what {waiting} keys wait for: their events were open to the end; verify again once they are settled"
            );
            (State::Unknown, Some(reason))
        }
        _ => (State::Different, None),
    }
}

/// Raises the alerts that a verification calls for, and closes those that it ends; `key` tells apart the alerts about
/// consumers.
pub(super) fn tell(
    conn: &mut Conn,
    service: &str,
    row: &Verification,
    key: Option<&str>,
    now: Timestamp,
) -> QueryResult<()> {
    let Verification { consumer, differences, state, keys_of, .. } = row;
    let mends_itself = row.created_via == FILLING;
    match state {
        State::Different | State::Unknown if mends_itself => {}
        State::Different => {
            let alert = NewAlert::drift(service, consumer, *differences, row.seq);
            alerts::raise(conn, now, alert.about_key(key))?;
        }
        // Few keys say nothing of the others.
        State::Equal if keys_of.is_none() => {
            alerts::close_about(conn, now, AlertKind::Drift, key, "verified equal")?;
        }
        // Events that stay open have alerts of their own.
        State::Unknown if row.waiting == 0 => {
            let reason = row.reason.as_deref().unwrap_or_default();
            let alert = NewAlert::not_verified(service, consumer, reason);
            alerts::raise(conn, now, alert.about_key(key))?;
        }
        _ => {}
    }
    if matches!(state, State::Equal | State::Different) && keys_of.is_none() {
        alerts::close_about(conn, now, AlertKind::NotVerified, key, "verified again")?;
    }
    Ok(())
}
