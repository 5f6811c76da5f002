//! What is next in a replay through the loop: the kept states of each key, oldest first, and then its present state.
//!
//! A state goes out as a new event of its own epoch and version, so a copy that has it or a newer one answers
//! `superseded` and stays as it is. A key's row is locked while its states are appended, and a key without a row is left
//! out: there would be no present state to end with, and a copy would be left with what was long removed.

use std::collections::BTreeMap;

use common::db::Conn;
use common::event::NewEvent;
use diesel::QueryResult;
use diesel::result::Error;
use serde::{Deserialize, Serialize};

use super::step::named;
use super::{KeptStates, Resend, Resent, Walked, Which};
use crate::outbox::{Walk, kept_states};
use crate::verify::Owner;

/// States that one step sends at the most: as many as a paced step sends keys.
pub(super) const CHUNK: usize = 100;

/// What one step sends.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The events, each key's in the order of its versions; one with an epoch keeps that.
    pub(super) events: Vec<(NewEvent, Option<i64>)>,
    /// Keys that are left as they are, and why.
    pub(super) skipped: Vec<(String, String)>,
    /// Where to go on; none at the end.
    pub(super) cursor: Option<String>,
}

/// How far a replay is, as its job's row keeps it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The key that it has got to; empty before the first.
    pub(super) key: String,
    /// The last version of it that was sent; none: the key is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<i64>,
}

impl Place {
    fn read(cursor: Option<&str>) -> QueryResult<Self> {
        let place = cursor.map(serde_json::from_str).transpose();
        place
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::DeserializationError(Box::new(error)))
    }

    fn write(&self) -> QueryResult<String> {
        serde_json::to_string(self).map_err(|error| Error::SerializationError(Box::new(error)))
    }
}

/// Where a replay has got to: a key, and the last version of it that was sent, if it goes on with that key.
pub(super) fn reached(cursor: Option<&str>) -> (Option<String>, Option<i64>) {
    match (cursor, Place::read(cursor)) {
        (Some(_), Ok(place)) if place.key.is_empty() => (None, None),
        (Some(_), Ok(place)) => (Some(place.key), place.version),
        (cursor, _) => (cursor.map(str::to_owned), None),
    }
}

/// The next states of `selection` behind `cursor`.
pub(super) fn next(
    conn: &mut Conn,
    selection: &KeptStates,
    cursor: Option<&str>,
    resend: &Resend<'_>,
    owner: &dyn Owner,
) -> QueryResult<Replayed> {
    let place = Place::read(cursor)?;
    let Walked { keys, cursor: further } = keys(conn, selection, &place, owner)?;
    let named: Vec<_> = keys.iter().map(|key| named(key)).collect();
    let Resent { events, skipped } = match named.is_empty() {
        true => Resent::default(),
        false => owner.resend(conn, &Resend { keys: &named, ..*resend })?,
    };
    let mut present: BTreeMap<String, NewEvent> =
        events.into_iter().map(|event| (event.key.clone(), event)).collect();
    let mut skipped: BTreeMap<String, String> = skipped.into_iter().collect();
    let mut replayed = Replayed::default();
    for key in keys {
        let room = CHUNK.saturating_sub(replayed.events.len());
        if room == 0 {
            return Ok(replayed);
        }
        let mut reached = Place { key, version: None };
        match present.remove(&reached.key) {
            Some(event) => {
                let sent = place.version.filter(|_| place.key == reached.key);
                let from = first_version(conn, selection, &reached.key, sent, owner)?;
                reached.version =
                    states_of(conn, from, room, event, &mut replayed.events, (owner, resend))?;
            }
            None => replayed.skipped.extend(skipped.remove_entry(&reached.key)),
        }
        replayed.cursor = Some(reached.write()?);
        if reached.version.is_some() {
            return Ok(replayed);
        }
    }
    replayed.cursor = match further {
        // The walk may have gone further than the last key that fits.
        Some(key) => Some(Place { key, version: None }.write()?),
        None => None,
    };
    Ok(replayed)
}

/// The keys that may fit into a step, the one that is under way first.
pub(super) fn keys(
    conn: &mut Conn,
    selection: &KeptStates,
    place: &Place,
    owner: &dyn Owner,
) -> QueryResult<Walked> {
    let under_way = place.version.map(|_| place.key.clone());
    if let Some(since) = selection.since {
        let which = Which { prefix: None, changed_since: Some(since) };
        let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
        let walked = owner.next_keys(conn, &place.key, &which, limit)?;
        let keys = under_way.into_iter().chain(walked.keys).collect();
        return Ok(Walked { keys, cursor: walked.cursor });
    }
    let mut later: Vec<&String> = selection.keys.iter().filter(|key| **key > place.key).collect();
    later.sort_unstable();
    later.dedup();
    let more = later.len() > CHUNK;
    later.truncate(CHUNK);
    let cursor = later.last().filter(|_| more).map(|key| (*key).clone());
    Ok(Walked { keys: under_way.into_iter().chain(later.into_iter().cloned()).collect(), cursor })
}

/// The version that a key goes on from.
pub(super) fn first_version(
    conn: &mut Conn,
    selection: &KeptStates,
    key: &str,
    sent: Option<i64>,
    owner: &dyn Owner,
) -> QueryResult<i64> {
    match (sent, selection.since) {
        (Some(sent), _) => Ok(sent.saturating_add(1)),
        // By when states began, not by when their events were made: those that were sent again are younger.
        (None, Some(since)) => Ok(owner.kept_before(conn, key, since)?.map_or(1, |last| last + 1)),
        (None, None) => Ok(selection.from_version.unwrap_or(1)),
    }
}

/// Adds up to `room` states of one key, with the present one at their end; the version to go on behind, if there are more.
fn states_of(
    conn: &mut Conn,
    from: i64,
    room: usize,
    present: NewEvent,
    events: &mut Vec<(NewEvent, Option<i64>)>,
    (owner, resend): (&dyn Owner, &Resend<'_>),
) -> QueryResult<Option<i64>> {
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    let kept = kept_states(conn, &present.key, Walk::Up(from), limit)?;
    let more = kept.len() == room;
    let last = kept.last().map(|state| state.version);
    for state in kept.iter().filter(|state| state.version < present.version) {
        events.push((owner.again(state, resend.reason)?, Some(state.epoch)));
    }
    match last.filter(|last| more && *last < present.version) {
        Some(last) => Ok(Some(last)),
        None => {
            events.push((present, None));
            Ok(None)
        }
    }
}
