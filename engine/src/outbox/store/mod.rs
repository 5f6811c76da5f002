//! The outbox's statements: the only place in it that knows two dialects.
//!
//! PostgreSQL takes whole batches as arrays, one round trip each; SQLite, which has no round trip, takes
//! prepared statements row by row inside the same transaction.

mod answers;
mod due;
mod open;
mod overdue;
mod sending;
mod settling;
mod versions;

use common::ids::{EventId, EventIdSql};
use diesel::QueryableByName;

pub(super) use answers::*;
pub(crate) use answers::{Behind, FIRST_ANSWER, behind};
pub(super) use due::*;
pub(super) use open::*;
pub(super) use overdue::*;
pub(super) use sending::*;
pub(super) use settling::*;
pub(super) use versions::*;

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
}
