//! What of the service's own tables goes when it is old.
//!
//! Tombstones: an older state that comes after its tombstone went would bring the product back, so the moment up to
//! which tombstones went is noted, and events of unknown products from before it are answered FAILED.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::inventory::Sku;
use common::on;
use common::orders::OrderId;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use engine::retention::{BATCH, Retention, first_known, forgotten_up_to, note_forgotten};

use crate::schema::{order_line, order_step, orders, product_copy};

#[cfg(test)]
mod tests;

const REMOVED_PRODUCTS: &str = "removed products";

/// How much later than its change an event's id may have been made, at the most.
const SLACK: Duration = Duration::from_secs(60 * 60);

/// Orders that ended, of which nothing is on its way any more; `$1` is the moment before which, `$2` the limit.
const ENDED: &str = "SELECT id FROM orders o \
    WHERE status IN ('CONFIRMED', 'REJECTED', 'CANCELLED') AND changed_us < $1 \
    AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.order_id = o.id) \
    AND NOT EXISTS (SELECT 1 FROM outbox_event e WHERE e.key = CAST(o.id AS TEXT) \
      AND (EXISTS (SELECT 1 FROM outbox_pending w WHERE w.id = e.id) \
        OR EXISTS (SELECT 1 FROM outbox_sent w WHERE w.id = e.id) \
        OR EXISTS (SELECT 1 FROM outbox_failed w WHERE w.id = e.id))) \
    ORDER BY changed_us LIMIT $2";

#[derive(QueryableByName)]
struct EndedOrder {
    #[diesel(sql_type = EventIdSql)]
    id: OrderId,
}

/// Deletes one batch of each kind; returns how many rows went.
///
/// # Errors
/// When a statement fails.
pub fn forget(conn: &mut Conn, retention: Retention) -> QueryResult<usize> {
    let orders = forget_orders(conn, retention.orders)?;
    Ok(orders + forget_removed(conn, retention.removed_products)?)
}

/// Events below this id may be older than a product's removal that is forgotten.
pub(crate) fn first_known_event(conn: &mut Conn) -> QueryResult<Option<EventId>> {
    first_known(conn, REMOVED_PRODUCTS)
}

/// The moment up to which removed products may be forgotten; none as long as none is.
pub(crate) fn removals_forgotten_up_to(conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
    Ok(forgotten_up_to(conn, REMOVED_PRODUCTS)?.map(Timestamp::from_micros))
}

fn forget_orders(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    // What somebody else has locked is passed by: it may be about to be cancelled.
    let sql = match conn {
        Conn::Pg(_) => format!("{ENDED} FOR UPDATE OF o SKIP LOCKED"),
        Conn::Sqlite(_) => ENDED.to_owned(),
    };
    let ended: Vec<EndedOrder> = on!(&mut *conn, c => sql_query(sql)
        .bind::<BigInt, _>(before)
        .bind::<BigInt, _>(BATCH)
        .load(c))?;
    let ids: Vec<OrderId> = ended.into_iter().map(|order| order.id).collect();
    on!(conn, c => {
        diesel::delete(order_line::table.filter(order_line::order_id.eq_any(&ids))).execute(c)?;
        diesel::delete(order_step::table.filter(order_step::order_id.eq_any(&ids))).execute(c)?;
        diesel::delete(orders::table.filter(orders::id.eq_any(&ids))).execute(c)
    })
}

fn forget_removed(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    // By both clocks: the events that must not undo a removal carry the source's time.
    let old = product_copy::table
        .filter(product_copy::removed_us.lt(before))
        .filter(product_copy::updated_us.lt(before))
        .filter(product_copy::reserved.eq(0_i64))
        .order(product_copy::removed_us)
        .limit(BATCH)
        .select(product_copy::sku);
    let gone: Vec<Sku> = match conn {
        Conn::Pg(c) => old.for_update().skip_locked().load(c)?,
        Conn::Sqlite(c) => old.load(c)?,
    };
    if gone.is_empty() {
        return Ok(0);
    }
    let skus: Vec<&str> = gone.iter().map(Sku::as_str).collect();
    let rows = product_copy::table.filter(product_copy::sku.eq_any(&skus));
    on!(&mut *conn, c => diesel::delete(rows).execute(c))?;
    note_forgotten(conn, REMOVED_PRODUCTS, before.after(SLACK).micros())?;
    Ok(gone.len())
}
