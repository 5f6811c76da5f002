//! Where an event lies while it is open: for its first send, for its answer, or for another attempt or a person.
//!
//! None of the three stands in another's way: what a step reads does not grow with what it has no business with.

use std::collections::{BTreeSet, HashMap};

use common::db::{Conn, ROWS_PER_INSERT};
use common::event::{EventFacts, Status};
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{outbox_failed, outbox_pending, outbox_sent, outbox_settled};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Array;

use super::super::model::{FailedRow, OpenRow, PendingRow, SentRow};
use super::{IdRow, facts_of};

/// The table that holds an open event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::outbox) enum Place {
    /// `outbox_sent`.
    Sent,
    /// `outbox_failed`.
    Failed,
    /// `outbox_pending`.
    Pending,
}

impl Place {
    /// In the order in which they are locked.
    const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Pending];

    /// Where `row` belongs.
    pub(in crate::outbox) fn of(row: &OpenRow) -> Self {
        match (row.status, row.attempt) {
            (Status::Sent, _) => Self::Sent,
            (Status::Pending, 0) => Self::Pending,
            _ => Self::Failed,
        }
    }
}

/// The open rows of `ids` with what they are, in the order of their ids, locked until the transaction ends.
pub(in crate::outbox) fn lock(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<Vec<(OpenRow, EventFacts)>> {
    let mut rows: Vec<OpenRow> = Vec::new();
    let mut missing: BTreeSet<EventId> = ids.iter().copied().collect();
    loop {
        for place in Place::ALL {
            if missing.is_empty() {
                break;
            }
            let wanted: Vec<EventId> = missing.iter().copied().collect();
            let found = lock_in(conn, place, &wanted)?;
            found.iter().for_each(|row| _ = missing.remove(&row.id));
            rows.extend(found);
        }
        // Another transaction may move a row from where it was not looked for yet to where it was.
        if missing.is_empty() || !any_open(conn, &missing)? {
            break;
        }
    }
    rows.sort_unstable_by_key(|row| row.id);
    let ids: Vec<EventId> = rows.iter().map(|row| row.id).collect();
    let mut facts: HashMap<EventId, EventFacts> =
        facts_of(conn, &ids)?.into_iter().map(|facts| (facts.id, facts)).collect();
    Ok(rows.into_iter().filter_map(|row| facts.remove(&row.id).map(|facts| (row, facts))).collect())
}

fn lock_in(conn: &mut Conn, place: Place, ids: &[EventId]) -> QueryResult<Vec<OpenRow>> {
    use {outbox_failed as f, outbox_pending as p, outbox_sent as s};
    macro_rules! locked {
        ($table:ident, $row:ty) => {{
            let wanted = $table::table.filter($table::id.eq_any(ids)).order($table::id);
            let rows: Vec<$row> = match conn {
                Conn::Pg(c) => wanted.select(<$row>::as_select()).for_update().load(c)?,
                Conn::Sqlite(c) => wanted.select(<$row>::as_select()).load(c)?,
            };
            rows.into_iter().map(OpenRow::from).collect()
        }};
    }
    Ok(match place {
        Place::Sent => locked!(s, SentRow),
        Place::Failed => locked!(f, FailedRow),
        Place::Pending => locked!(p, PendingRow),
    })
}

/// Whether any of `ids` is open somewhere, as one statement sees all places.
fn any_open(conn: &mut Conn, ids: &BTreeSet<EventId>) -> QueryResult<bool> {
    // The one writer of SQLite sees all places as they are.
    let Conn::Pg(c) = conn else { return Ok(false) };
    let mut ids: Vec<EventId> = ids.iter().copied().collect();
    let settled: Vec<EventId> = outbox_settled::table
        .filter(outbox_settled::id.eq_any(&ids))
        .select(outbox_settled::id)
        .load(c)?;
    let settled: BTreeSet<EventId> = settled.into_iter().collect();
    ids.retain(|id| !settled.contains(id));
    if ids.is_empty() {
        return Ok(false);
    }
    // Each sorted by its key, so that no plan walks a whole table where statistics are stale.
    let open: Vec<IdRow> = sql_query(
        "(SELECT id FROM outbox_sent WHERE id = ANY($1) ORDER BY id LIMIT 1) \
         UNION ALL (SELECT id FROM outbox_failed WHERE id = ANY($1) ORDER BY id LIMIT 1) \
         UNION ALL (SELECT id FROM outbox_pending WHERE id = ANY($1) ORDER BY id LIMIT 1)",
    )
    .bind::<Array<EventIdSql>, _>(ids)
    .load(c)?;
    Ok(!open.is_empty())
}

/// Writes changed rows to where they belong now, which is never among those that were not sent yet; each was locked by [`lock`] in this transaction, in the place that
/// stands with it.
pub(in crate::outbox) fn save(conn: &mut Conn, rows: &[(Place, OpenRow)]) -> QueryResult<()> {
    for place in Place::ALL {
        remove(conn, place, &in_place(rows, place, |(from, row)| (*from, row.id)))?;
    }
    let belongs = |(_, row): &(Place, OpenRow)| (Place::of(row), row.clone());
    let sent: Vec<SentRow> = in_place(rows, Place::Sent, belongs);
    for chunk in sent.chunks(ROWS_PER_INSERT) {
        on!(conn, c => diesel::insert_into(outbox_sent::table).values(chunk).execute(c))?;
    }
    let failed: Vec<FailedRow> = in_place(rows, Place::Failed, belongs);
    for chunk in failed.chunks(ROWS_PER_INSERT) {
        on!(conn, c => diesel::insert_into(outbox_failed::table).values(chunk).execute(c))?;
    }
    Ok(())
}

/// Of each of `rows` that is in `place`, what `part` says besides.
fn in_place<R, T, U: From<T>>(rows: &[R], place: Place, part: impl Fn(&R) -> (Place, T)) -> Vec<U> {
    let own = rows.iter().map(part).filter(|(own, _)| *own == place);
    own.map(|(_, part)| part.into()).collect()
}

/// Takes events out of `place`.
pub(super) fn remove(conn: &mut Conn, place: Place, ids: &[EventId]) -> QueryResult<()> {
    use {outbox_failed as f, outbox_pending as p, outbox_sent as s};
    if ids.is_empty() {
        return Ok(());
    }
    on!(conn, c => match place {
        Place::Sent => diesel::delete(s::table.filter(s::id.eq_any(ids))).execute(c),
        Place::Failed => diesel::delete(f::table.filter(f::id.eq_any(ids))).execute(c),
        Place::Pending => diesel::delete(p::table.filter(p::id.eq_any(ids))).execute(c),
    })
    .map(drop)
}
