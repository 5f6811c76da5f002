//! Snapshots applied to a copy, of whatever shape it is: the newest state of each key is kept, and older ones are answered
//! `superseded`.
//!
//! A batch is folded first, so that a statement meets each key once; then it is written set-based, guarded by
//! (epoch, version), so that neither duplicates nor any order of arrival do harm.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use diesel::QueryResult;

use super::model::{CopyVersion, Detail, HandlerOutcome};

/// A key's state, as an event brings it.
pub trait Snapshot {
    /// Which key.
    fn key(&self) -> &str;

    /// Which of two states is newer.
    fn version(&self) -> CopyVersion;
}

/// A copy that holds the newest state of each key.
pub trait SnapshotCopy {
    /// What it is made of.
    type State: Snapshot;

    /// Writes those of `states` that are newer than what is there, and returns their keys.
    ///
    /// Each key comes once, in bytewise order: rows are locked in that order.
    ///
    /// # Errors
    /// When the statement fails.
    fn write_newer(
        &self,
        conn: &mut Conn,
        states: &[&Self::State],
    ) -> QueryResult<BTreeSet<String>>;

    /// How far the copy is of those of `keys` that it has, tombstones too.
    ///
    /// # Errors
    /// When the statement fails.
    fn versions(
        &self,
        conn: &mut Conn,
        keys: &[&str],
    ) -> QueryResult<BTreeMap<String, CopyVersion>>;
}

/// What a batch came to.
#[derive(Debug, Default)]
pub struct AppliedSnapshots {
    /// One answer for each event, in order.
    pub outcomes: Vec<HandlerOutcome>,
    /// How far the copy is of each key that came.
    pub versions: BTreeMap<String, CopyVersion>,
}

/// Applies what could be read of a batch of events; what could not is answered FAILED with its words, for good.
///
/// # Errors
/// When a statement fails.
pub fn apply_snapshots<C: SnapshotCopy, E: ToString>(
    copy: &C,
    conn: &mut Conn,
    arrivals: &[Result<C::State, E>],
) -> QueryResult<AppliedSnapshots> {
    let newest = newest_of(arrivals);
    let states: Vec<&C::State> = newest.values().map(|(_, state)| *state).collect();
    let written = match states.is_empty() {
        true => BTreeSet::new(),
        false => copy.write_newer(conn, &states)?,
    };
    let kept: Vec<&str> = newest.keys().copied().filter(|key| !written.contains(*key)).collect();
    let mut versions = match kept.is_empty() {
        true => BTreeMap::new(),
        false => copy.versions(conn, &kept)?,
    };
    for (key, (_, state)) in newest.iter().filter(|(key, _)| written.contains(**key)) {
        versions.insert((*key).to_owned(), state.version());
    }
    let outcomes = outcomes_of(arrivals, &newest, &written, &versions);
    Ok(AppliedSnapshots { outcomes, versions })
}

/// The answers to a batch of which the keys `written` took their newest state; `versions` is how far the copy is then.
pub fn outcomes_of<S: Snapshot, E: ToString>(
    arrivals: &[Result<S, E>],
    newest: &Newest<'_, S>,
    written: &BTreeSet<String>,
    versions: &BTreeMap<String, CopyVersion>,
) -> Vec<HandlerOutcome> {
    let outcome = |(place, arrival): (usize, &Result<S, E>)| match arrival {
        Ok(state) => {
            let is_newest = newest.get(state.key()).is_some_and(|(newest, _)| *newest == place);
            let is_applied = is_newest && written.contains(state.key());
            let version = versions.get(state.key()).map(|copy| copy.version);
            let detail = if is_applied { Detail::Applied } else { Detail::Superseded };
            HandlerOutcome::Success { detail, version, result: None }
        }
        Err(error) => HandlerOutcome::Failed { error: error.to_string(), retryable: false },
    };
    arrivals.iter().enumerate().map(outcome).collect()
}

/// The newest state of each key of a batch, and its place there; sorted by key.
pub type Newest<'a, S> = BTreeMap<&'a str, (usize, &'a S)>;

/// Folds a batch to the highest (epoch, version) of each key, the first of equals.
pub fn newest_of<S: Snapshot, E>(arrivals: &[Result<S, E>]) -> Newest<'_, S> {
    let mut newest: Newest<'_, S> = BTreeMap::new();
    for (place, arrival) in arrivals.iter().enumerate() {
        let Ok(state) = arrival else { continue };
        let known = newest.entry(state.key()).or_insert((place, state));
        if known.1.version() < state.version() {
            *known = (place, state);
        }
    }
    newest
}
