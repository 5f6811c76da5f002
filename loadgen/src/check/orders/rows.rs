//! Orders as either service has them.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use crate::check::reader::{PAGE, of_ids};

/// An order as order-service has it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(super) struct OrderRow {
    #[diesel(sql_type = EventIdSql)]
    pub(super) id: EventId,
    #[diesel(sql_type = Text)]
    pub(super) status: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) cancellation: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub(super) revision: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) changed_us: Timestamp,
    /// Whether a command of it is on its way.
    #[diesel(sql_type = Bool)]
    pub(super) on_its_way: bool,
    /// Whether it waits for its first answer and a line of it has no reservation.
    #[diesel(sql_type = Bool)]
    pub(super) unpromised: bool,
    /// Whether the search for lost commands has found one of it that waits for a person.
    #[diesel(sql_type = Bool)]
    pub(super) lost: bool,
    /// Whether a person has made good what such a command had done.
    #[diesel(sql_type = Bool)]
    pub(super) made_good: bool,
}

/// An order as product-service has it.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct RecordRow {
    #[diesel(sql_type = EventIdSql)]
    pub(super) id: EventId,
    #[diesel(sql_type = Text)]
    pub(super) state: String,
    #[diesel(sql_type = BigInt)]
    pub(super) handled_us: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) cancelled_us: Option<Timestamp>,
}

#[derive(Debug, Clone, QueryableByName)]
struct LineRow {
    #[diesel(sql_type = EventIdSql)]
    order_id: EventId,
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = BigInt)]
    quantity: i64,
    /// The product's version after the deduction, where it is known.
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
    /// Whether it was given back; never at order-service.
    #[diesel(sql_type = Bool)]
    returned: bool,
}

/// By SKU: how many pieces, and the product's version after the deduction, where it is known.
pub(super) type Lines = BTreeMap<String, (i64, Option<i64>)>;

/// An order with what was ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ordered {
    pub(super) row: OrderRow,
    pub(super) lines: Lines,
}

/// An order with what was taken.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) row: RecordRow,
    pub(super) lines: Lines,
    pub(super) returned: bool,
}

/// Columns of an order, and whether a command of it is on its way or was lost.
const ORDER: &str = "SELECT o.id, o.status, o.cancellation, o.revision, o.changed_us, \
     EXISTS (SELECT 1 FROM outbox_event e WHERE e.key = CAST(o.id AS TEXT) AND \
       (EXISTS (SELECT 1 FROM outbox_pending w WHERE w.id = e.id) \
        OR EXISTS (SELECT 1 FROM outbox_sent w WHERE w.id = e.id) \
        OR EXISTS (SELECT 1 FROM outbox_failed w WHERE w.id = e.id AND w.status = 0))) AS on_its_way, \
     o.status = 'PENDING' AND o.placement = 'OPEN' AND EXISTS \
       (SELECT 1 FROM order_line l WHERE l.order_id = o.id AND NOT EXISTS \
         (SELECT 1 FROM reservation r WHERE r.order_id = l.order_id AND r.sku = l.sku)) AS unpromised, \
     EXISTS (SELECT 1 FROM lost_command l WHERE l.key = CAST(o.id AS TEXT) AND l.state = 0) AS lost, \
     EXISTS (SELECT 1 FROM lost_command l WHERE l.key = CAST(o.id AS TEXT) AND l.state = 2) AS made_good \
     FROM orders o";

/// A page of orders.
pub(super) fn orders_after(conn: &mut Conn, after: EventId) -> QueryResult<Vec<OrderRow>> {
    let sql = format!("{ORDER} WHERE o.id > $1 ORDER BY o.id LIMIT $2");
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(after).bind::<BigInt, _>(PAGE).load(c))
}

/// The orders `ids`.
pub(super) fn orders_of(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<BTreeMap<EventId, Ordered>> {
    let rows = of_ids(conn, &format!("{ORDER} WHERE o.id {{in}}"), ids)?;
    let orders = with_lines(conn, rows)?;
    Ok(orders.into_iter().map(|order| (order.row.id, order)).collect())
}

/// Orders with what was ordered.
pub(super) fn with_lines(conn: &mut Conn, rows: Vec<OrderRow>) -> QueryResult<Vec<Ordered>> {
    let ids: Vec<EventId> = rows.iter().map(|row| row.id).collect();
    let sql = "SELECT order_id, sku, quantity, version, FALSE AS returned FROM order_line WHERE order_id {in}";
    let mut lines: BTreeMap<EventId, Lines> = BTreeMap::new();
    for line in of_ids::<LineRow>(conn, sql, &ids)? {
        lines.entry(line.order_id).or_default().insert(line.sku, (line.quantity, line.version));
    }
    let with = |row: OrderRow| Ordered { lines: lines.remove(&row.id).unwrap_or_default(), row };
    Ok(rows.into_iter().map(with).collect())
}

/// Columns of an order's record.
const RECORD: &str = "SELECT id, state, handled_us, cancelled_us FROM order_record";

/// A page of records.
pub(super) fn records_after(conn: &mut Conn, after: &EventId) -> QueryResult<Vec<RecordRow>> {
    let sql = format!("{RECORD} WHERE id > $1 ORDER BY id LIMIT $2");
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(*after).bind::<BigInt, _>(PAGE).load(c))
}

/// What product-service knows of the orders `ids`.
pub(super) fn records_of(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<BTreeMap<EventId, Taken>> {
    let rows: Vec<RecordRow> = of_ids(conn, &format!("{RECORD} WHERE id {{in}}"), ids)?;
    let new = |row: RecordRow| (row.id, Taken { row, lines: Lines::new(), returned: false });
    let mut records: BTreeMap<EventId, Taken> = rows.into_iter().map(new).collect();
    let sql = "SELECT order_id, sku, quantity, version, returned_version IS NOT NULL AS returned \
               FROM order_deduction WHERE order_id {in}";
    for line in of_ids::<LineRow>(conn, sql, ids)? {
        if let Some(taken) = records.get_mut(&line.order_id) {
            taken.returned |= line.returned;
            taken.lines.insert(line.sku, (line.quantity, line.version));
        }
    }
    Ok(records)
}

/// Those of `ids` that order-service knows.
pub(super) fn placed(conn: &mut Conn, ids: &[EventId]) -> QueryResult<BTreeSet<EventId>> {
    #[derive(QueryableByName)]
    struct IdRow {
        #[diesel(sql_type = EventIdSql)]
        id: EventId,
    }
    let rows: Vec<IdRow> = of_ids(conn, "SELECT id FROM orders WHERE id {in}", ids)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::db::Url;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;

    use super::*;
    use crate::check::finding::Side;
    use crate::check::reader::Reader;

    on_every_database!(std::convert::identity => only_a_lost_command_that_waits_or_was_made_good_explains);

    async fn only_a_lost_command_that_waits_or_was_made_good_explains(database: TestDatabase) {
        let db = database.open(&[common::db::ENGINE_MIGRATIONS]);
        let url = Url::from(database.url());
        // Those columns of order-service's tables that count here.
        let orders = "CREATE TABLE orders (id UUID PRIMARY KEY, status TEXT, placement TEXT, cancellation TEXT, \
               revision BIGINT, changed_us BIGINT); \
             CREATE TABLE order_line (order_id UUID, sku TEXT, quantity BIGINT, version BIGINT); \
             CREATE TABLE reservation (order_id UUID, sku TEXT)";
        let id = "00000000-0000-7000-8000-000000000001";
        let lost = format!(
            "INSERT INTO orders VALUES ('{id}', 'CONFIRMED', 'CONFIRMED', NULL, 2, 1); \
             INSERT INTO lost_command (event_id, found_by, event_type, key, payload, state, settled_us, found_us) \
             VALUES ('{id}', 1, 'stockloop.order.placed', '{id}', '', 0, 1, 1)"
        );
        let written = db.write::<_, common::db::DbError>(move |conn| {
            conn.batch_execute(orders)?;
            Ok(conn.batch_execute(&lost)?)
        });
        written.await.unwrap();
        let mut reader = Reader::open(Side::Order, &url, "orders").unwrap();
        for (state, expected) in [(0, (true, false)), (1, (false, false)), (2, (false, true))] {
            let sql = format!("UPDATE lost_command SET state = {state}");
            let written =
                db.write::<_, common::db::DbError>(move |conn| Ok(conn.batch_execute(&sql)?));
            written.await.unwrap();
            let rows = reader.page(|conn| orders_after(conn, EventId::NIL)).unwrap();
            let found: Vec<(bool, bool)> =
                rows.iter().map(|row| (row.lost, row.made_good)).collect();
            assert_eq!(found, [expected], "{state}");
        }
    }
}
