//! Which events an action is for.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use diesel::QueryResult;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::outbox::search::{EventFilter, Search, SearchBounds};

/// Events that may be named one by one.
pub const MAX_IDS: usize = 1_000;

/// Events that one look for matches walks over.
const WALKED: usize = 100_000;

/// Examples that are shown of them.
const EXAMPLES: usize = 5;

/// Which events: all that match a filter, or those named one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// All that matched when they were counted.
    Filter(EventFilter),
    /// These; at most 1,000.
    #[schema(value_type = Vec<String>)]
    Ids(Vec<EventId>),
}

/// What a selection comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// The events, newest first.
    pub ids: Vec<EventId>,
    /// Whether there may be more: 100,000 events are looked at.
    pub at_least: bool,
}

impl Matches {
    /// How many events it has.
    pub fn count(&self) -> i64 {
        i64::try_from(self.ids.len()).unwrap_or(i64::MAX)
    }

    /// The newest of them.
    pub fn examples(&self) -> &[EventId] {
        self.ids.get(..EXAMPLES).unwrap_or(&self.ids)
    }
}

/// What one look at a selection found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) ids: Vec<EventId>,
    /// Where to go on; none at the end.
    pub(super) next: Option<EventId>,
    pub(super) walked: usize,
}

impl Selection {
    /// The next events below `after`, newest first: what the selection meant at the moment `asked`.
    pub(super) fn next(
        &self,
        conn: &mut Conn,
        asked: Timestamp,
        after: Option<EventId>,
        limit: usize,
        bounds: SearchBounds,
    ) -> QueryResult<Found> {
        let filter = match self {
            Self::Ids(ids) => return Ok(below(ids, after, limit)),
            Self::Filter(filter) => filter.clone(),
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let search = Search::new(filter, asked, after, limit).created_by(asked);
        let walk = search.walk(conn, bounds)?;
        let ids = walk.found.iter().map(|row| row.head.id).collect();
        Ok(Found { ids, next: walk.next, walked: walk.walked })
    }
}

/// The next of `ids` below `after`, newest first and each once.
pub(super) fn below(ids: &[EventId], after: Option<EventId>, limit: usize) -> Found {
    let mut rest: Vec<EventId> =
        ids.iter().filter(|id| after.is_none_or(|after| **id < after)).copied().collect();
    rest.sort_unstable_by(|a, b| b.cmp(a));
    rest.dedup();
    let more = rest.len() > limit;
    rest.truncate(limit);
    Found { next: rest.last().copied().filter(|_| more), walked: rest.len(), ids: rest }
}

/// What a selection comes to now, without walking further than 100,000 events.
///
/// # Errors
/// When a statement fails.
pub fn matches(conn: &mut Conn, selection: &Selection, now: Timestamp) -> QueryResult<Matches> {
    let bounds = SearchBounds::default();
    let (mut total, mut after, mut walked) = (Matches::default(), None, 0);
    loop {
        let found = selection.next(conn, now, after, 1_000, bounds)?;
        total.ids.extend(found.ids);
        walked += found.walked;
        after = found.next;
        total.at_least = after.is_some();
        if !total.at_least || walked >= WALKED {
            return Ok(total);
        }
    }
}
