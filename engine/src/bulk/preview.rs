//! The tables `bulk_preview` and `bulk_preview_event`: what a preview found, for the job that may follow.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT};
use common::ids::EventId;
use common::on;
use common::schema::{bulk_preview, bulk_preview_event};
use diesel::prelude::*;
use diesel::result::Error;

use super::selection::{Found, Matches, Selection, below};

/// How long a job can be made of a preview.
pub const PREVIEW_VALID: Duration = Duration::from_secs(60 * 60);

/// A preview that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = bulk_preview)]
pub(super) struct Preview {
    /// As the job's row has it.
    pub(super) selection: String,
    /// How many events it lists.
    pub(super) matches: i64,
    pub(super) created_us: Timestamp,
}

#[derive(Debug, Clone, Copy, Insertable)]
#[diesel(table_name = bulk_preview_event)]
struct PreviewEvent {
    preview: i64,
    event_id: EventId,
}

/// Keeps what `selection` came to and returns the preview's number; events that are named by id need none.
///
/// # Errors
/// When a statement fails.
pub fn keep_preview(
    conn: &mut Conn,
    selection: &Selection,
    found: &Matches,
    now: Timestamp,
) -> QueryResult<Option<i64>> {
    if matches!(selection, Selection::Ids(_)) {
        return Ok(None);
    }
    let json = serde_json::to_string(selection)
        .map_err(|error| Error::SerializationError(Box::new(error)))?;
    let row = (
        bulk_preview::selection.eq(json),
        bulk_preview::matches.eq(found.count()),
        bulk_preview::created_us.eq(now),
    );
    let preview: i64 = on!(&mut *conn, c => diesel::insert_into(bulk_preview::table)
        .values(row)
        .returning(bulk_preview::seq)
        .get_result(c))?;
    let events: Vec<PreviewEvent> =
        found.ids.iter().map(|event_id| PreviewEvent { preview, event_id: *event_id }).collect();
    for chunk in events.chunks(ROWS_PER_INSERT) {
        on!(&mut *conn, c => diesel::insert_into(bulk_preview_event::table)
            .values(chunk)
            .execute(c))?;
    }
    Ok(Some(preview))
}

/// One preview.
pub(super) fn find(conn: &mut Conn, seq: i64) -> QueryResult<Option<Preview>> {
    on!(conn, c => bulk_preview::table
        .find(seq)
        .select(Preview::as_select())
        .first(c)
        .optional())
}

/// The next events of a preview below `after`, newest first.
pub(super) fn next(
    conn: &mut Conn,
    preview: i64,
    after: Option<EventId>,
    limit: usize,
) -> QueryResult<Found> {
    use bulk_preview_event as e;
    // One more, to see whether there is more.
    let count = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let ids: Vec<EventId> = on!(conn, c => {
        let mut events = e::table.filter(e::preview.eq(preview)).into_boxed();
        if let Some(after) = after {
            events = events.filter(e::event_id.lt(after));
        }
        events
            .order((e::preview.desc(), e::event_id.desc()))
            .limit(count)
            .select(e::event_id)
            .load(c)
    })?;
    Ok(below(&ids, None, limit))
}
