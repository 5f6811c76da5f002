//! A copy of another service's keys in a table of the engine's, for services that need no other: what a service keeps of
//! each state, and what follows from it, is all that it has to say.
//!
//! ```text
//! an event ── Copied::read ──> CopiedState ──> copied_state, if it is newer ── Copied::on_changed ──> tables of its own
//! ```
//!
//! [`CopyTable`] is the [`Handler`] that applies the events and the [`Replica`] that the owner verifies.

mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::Event;
use diesel::QueryResult;
use serde::{Deserialize, Serialize};

pub use model::find;

use crate::batch::BatchError;
use crate::inbox::{CopyVersion, Handler, HandlerOutcome, Snapshot, SnapshotCopy, apply_snapshots};
use crate::verify::{Replica, Row, Select, Value};

/// What a service keeps of another one's keys.
pub trait Copied: Send + Sync + 'static {
    /// What is copied, as its owner calls it, such as `inventory`.
    const COLLECTION: &'static str;

    /// What is kept of each state, by the names that the owner's events give it.
    const FIELDS: &'static [&'static str];

    /// The state that an event brings; its content in the order of [`Copied::FIELDS`].
    ///
    /// # Errors
    /// Why it brings none, whatever happens: it is answered FAILED with these words.
    fn read(event: &Event) -> Result<CopiedState, String>;

    /// Writes what follows from states that are new, each key once; in the same transaction.
    ///
    /// # Errors
    /// When a statement fails; the states are not kept then either.
    fn on_changed(conn: &mut Conn, states: &[&CopiedState]) -> QueryResult<()>;
}

/// A key's state, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedState {
    /// Which key.
    pub key: String,
    /// Whether it is the tombstone of a removed one.
    pub removed: bool,
    /// Which of two states is newer.
    pub version: CopyVersion,
    /// When it became so, by the owner's clock.
    pub updated_at: Timestamp,
    /// The values of what is kept.
    pub content: Vec<CopiedValue>,
}

/// One value of what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CopiedValue {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

impl CopiedValue {
    /// The text; empty if it is none.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }
}

impl Snapshot for CopiedState {
    fn key(&self) -> &str {
        &self.key
    }

    fn version(&self) -> CopyVersion {
        self.version
    }
}

/// The copy that a [`Copied`] describes.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyTable<C>(std::marker::PhantomData<C>);

impl<C> CopyTable<C> {
    /// The copy.
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<C: Copied> Handler for CopyTable<C> {
    fn is_command(&self, _event_type: &str) -> bool {
        false
    }

    fn apply(
        &self,
        conn: &mut Conn,
        _now: Timestamp,
        events: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        let states: Vec<Result<CopiedState, String>> = events.iter().map(C::read).collect();
        Ok(apply_snapshots(self, conn, &states)?.outcomes)
    }

    fn copy_version(&self, conn: &mut Conn, key: &str) -> QueryResult<Option<CopyVersion>> {
        Ok(model::versions(conn, &[key])?.into_values().next())
    }
}

impl<C: Copied> SnapshotCopy for CopyTable<C> {
    type State = CopiedState;

    fn write_newer(
        &self,
        conn: &mut Conn,
        states: &[&CopiedState],
    ) -> QueryResult<BTreeSet<String>> {
        let written = model::upsert(conn, states)?;
        let changed: Vec<&CopiedState> =
            states.iter().copied().filter(|state| written.contains(&state.key)).collect();
        if !changed.is_empty() {
            C::on_changed(conn, &changed)?;
        }
        Ok(written)
    }

    fn versions(
        &self,
        conn: &mut Conn,
        keys: &[&str],
    ) -> QueryResult<BTreeMap<String, CopyVersion>> {
        model::versions(conn, keys)
    }
}

impl<C: Copied> Replica for CopyTable<C> {
    fn collection(&self) -> &'static str {
        C::COLLECTION
    }

    fn fields(&self) -> &'static [&'static str] {
        C::FIELDS
    }

    fn rows(&self, conn: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<Row>> {
        let states = model::select(conn, select)?;
        states.into_iter().map(|state| row::<C>(state, select.fields)).collect()
    }

    /// It forgets nothing.
    fn forgotten_since(&self, _conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
        Ok(None)
    }
}

fn row<C: Copied>(state: CopiedState, fields: &[String]) -> QueryResult<Row> {
    let CopyVersion { epoch, version } = state.version;
    let head = (state.key, Some(epoch), version, state.removed);
    Row::new(head, fields, |field| {
        let place = C::FIELDS.iter().position(|known| *known == field)?;
        // What somebody wrote by hand may lack it: then it differs from whatever there is.
        Some(match state.content.get(place) {
            Some(CopiedValue::Text(text)) => Value::Text(text),
            Some(CopiedValue::Number(number)) => Value::Number(*number),
            Some(CopiedValue::Flag(flag)) => Value::Flag(*flag),
            None => Value::Text("\u{0}"),
        })
    })
}
