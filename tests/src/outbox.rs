//! Open events in whatever state a test needs, put where the engine would have them.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{outbox_failed, outbox_open, outbox_pending, outbox_sent};
use diesel::prelude::*;

/// What a test may change of an open event.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = outbox_open)]
pub struct Open {
    shard: i16,
    attempt_limit: i32,
    size: i32,
    /// 0 PENDING, 1 SENT, 2 EXHAUSTED.
    pub status: i16,
    /// The newest attempt.
    pub attempt: i32,
    /// When it may be sent.
    pub due_us: Timestamp,
    /// Where it was sent to.
    pub partition: Option<i32>,
    /// When.
    pub sent_us: Option<Timestamp>,
    /// Where in its partition.
    pub sent_offset: Option<i64>,
    /// When it was resolved.
    pub resolved_us: Option<Timestamp>,
}

/// Takes an open event away, as if it were settled.
pub fn remove_open(conn: &mut Conn, id: EventId) -> QueryResult<()> {
    on!(conn, c => {
        diesel::delete(outbox_pending::table.find(id)).execute(c)?;
        diesel::delete(outbox_sent::table.find(id)).execute(c)?;
        diesel::delete(outbox_failed::table.find(id)).execute(c)?;
    });
    Ok(())
}

/// Makes an open event what `change` makes of it.
pub fn change_open(
    conn: &mut Conn,
    id: EventId,
    change: impl FnOnce(&mut Open),
) -> QueryResult<()> {
    let mut open: Open = on!(&mut *conn, c => outbox_open::table
        .filter(outbox_open::id.eq(id))
        .select(Open::as_select())
        .first(c))?;
    change(&mut open);
    remove_open(conn, id)?;
    match (open.status, open.attempt) {
        (0, 0) => {
            use outbox_pending as p;
            let row = (
                p::id.eq(id),
                p::shard.eq(open.shard),
                p::attempt_limit.eq(open.attempt_limit),
                p::due_us.eq(open.due_us),
                p::size.eq(open.size),
            );
            on!(conn, c => diesel::insert_into(p::table).values(row).execute(c))?;
        }
        (1, attempt) => {
            use outbox_sent as s;
            let row = (
                s::id.eq(id),
                s::shard.eq(open.shard),
                s::attempt.eq(attempt),
                s::attempt_limit.eq(open.attempt_limit),
                s::partition.eq(open.partition.unwrap_or_default()),
                s::sent_us.eq(open.sent_us.unwrap_or(open.due_us)),
                s::sent_offset.eq(open.sent_offset),
                s::size.eq(open.size),
            );
            on!(conn, c => diesel::insert_into(s::table).values(row).execute(c))?;
        }
        (status, attempt) => {
            use outbox_failed as f;
            let row = (
                f::id.eq(id),
                f::shard.eq(open.shard),
                f::status.eq(status),
                f::attempt.eq(attempt),
                f::attempt_limit.eq(open.attempt_limit),
                f::due_us.eq(open.due_us),
                f::partition.eq(open.partition),
                f::sent_us.eq(open.sent_us),
                f::sent_offset.eq(open.sent_offset),
                f::size.eq(open.size),
                f::resolved_us.eq(open.resolved_us),
            );
            on!(conn, c => diesel::insert_into(f::table).values(row).execute(c))?;
        }
    }
    Ok(())
}
