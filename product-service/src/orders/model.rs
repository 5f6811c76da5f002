//! The tables `order_record` and `order_deduction`: their rows and every statement on them.

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, column};
use common::ids::EventIdSql;
use common::inventory::Sku;
use common::on;
use common::orders::OrderId;
use common::stored_by_name;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use utoipa::ToSchema;

use crate::schema::{order_deduction, order_record};

/// What became of an order here; stored by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow, ToSchema)]
#[diesel(sql_type = Text)]
#[schema(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderState {
    /// It took its stock.
    Deducted,
    /// It took nothing, since a line stood in the way.
    Refused,
    /// It took its stock and gave it back.
    Returned,
    /// Its cancellation came first: it takes nothing any more.
    Cancelled,
}

stored_by_name!(OrderState {
    Deducted => "DEDUCTED",
    Refused => "REFUSED",
    Returned => "RETURNED",
    Cancelled => "CANCELLED",
});

/// The guard of one order: whatever its commands say again, they find this row.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = order_record)]
pub struct OrderRecord {
    /// Which order.
    pub id: OrderId,
    /// What became of it.
    pub state: OrderState,
    /// The epoch of the deduction's versions.
    pub epoch: i64,
    /// Why it was refused, JSON.
    pub refusal: Option<String>,
    /// When its first command was handled.
    pub handled_us: Timestamp,
    /// When it was cancelled.
    pub cancelled_us: Option<Timestamp>,
}

/// What an order took of one product.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = order_deduction)]
pub struct OrderDeduction {
    /// Which order.
    pub order_id: OrderId,
    /// Which product.
    pub sku: Sku,
    /// Pieces.
    pub quantity: i64,
    /// The product's version after the deduction.
    pub version: i64,
    /// The product's version after it was given back, if it was.
    pub returned_version: Option<i64>,
}

/// An order with what it took, if its commands have come.
pub fn find(
    conn: &mut Conn,
    id: OrderId,
) -> QueryResult<Option<(OrderRecord, Vec<OrderDeduction>)>> {
    let record: Option<OrderRecord> = on!(conn, c => order_record::table
        .find(id)
        .select(OrderRecord::as_select())
        .first(c)
        .optional())?;
    let Some(record) = record else { return Ok(None) };
    Ok(Some((record, deductions(conn, &[id])?)))
}

/// The records of `ids` that there are, locked in the ids' order until the transaction ends.
pub(super) fn lock(conn: &mut Conn, ids: &[OrderId]) -> QueryResult<Vec<OrderRecord>> {
    if let Conn::Pg(c) = conn {
        let _locked: Vec<OrderId> = order_record::table
            .filter(order_record::id.eq_any(ids))
            .order(order_record::id)
            .select(order_record::id)
            .for_update()
            .load(c)?;
    }
    on!(conn, c => order_record::table
        .filter(order_record::id.eq_any(ids))
        .order(order_record::id)
        .select(OrderRecord::as_select())
        .load(c))
}

/// What the orders `ids` took, by order and product.
pub(super) fn deductions(conn: &mut Conn, ids: &[OrderId]) -> QueryResult<Vec<OrderDeduction>> {
    on!(conn, c => order_deduction::table
        .filter(order_deduction::order_id.eq_any(ids))
        .order((order_deduction::order_id, order_deduction::sku))
        .select(OrderDeduction::as_select())
        .load(c))
}

/// Adds orders that were not there.
pub(super) fn insert(
    conn: &mut Conn,
    records: &[OrderRecord],
    deductions: &[OrderDeduction],
) -> QueryResult<()> {
    for chunk in records.chunks(ROWS_PER_INSERT) {
        on!(conn, c => diesel::insert_into(order_record::table).values(chunk).execute(c))?;
    }
    for chunk in deductions.chunks(ROWS_PER_INSERT) {
        on!(conn, c => diesel::insert_into(order_deduction::table).values(chunk).execute(c))?;
    }
    Ok(())
}

/// Writes the states of orders, and what they gave back, that this transaction has locked.
pub(super) fn update(
    conn: &mut Conn,
    records: &[OrderRecord],
    returned: &[OrderDeduction],
) -> QueryResult<()> {
    if records.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Pg(c) => update_postgres(c, records, returned),
        Conn::Sqlite(c) => update_sqlite(c, records, returned),
    }
}

fn update_postgres(
    c: &mut PgConnection,
    records: &[OrderRecord],
    returned: &[OrderDeduction],
) -> QueryResult<()> {
    sql_query(
        "UPDATE order_record o SET state = n.state, cancelled_us = n.cancelled_us
         FROM unnest($1, $2, $3) AS n (id, state, cancelled_us) WHERE o.id = n.id",
    )
    .bind::<Array<EventIdSql>, _>(column(records, |row| row.id))
    .bind::<Array<Text>, _>(column(records, |row| row.state.name()))
    .bind::<Array<Nullable<BigInt>>, _>(column(records, |row| row.cancelled_us))
    .execute(c)?;
    sql_query(
        "UPDATE order_deduction d SET returned_version = n.version
         FROM unnest($1, $2, $3) AS n (order_id, sku, version)
         WHERE d.order_id = n.order_id AND d.sku = n.sku",
    )
    .bind::<Array<EventIdSql>, _>(column(returned, |row| row.order_id))
    .bind::<Array<Text>, _>(column(returned, |row| row.sku.as_str()))
    .bind::<Array<Nullable<BigInt>>, _>(column(returned, |row| row.returned_version))
    .execute(c)
    .map(drop)
}

fn update_sqlite(
    c: &mut SqliteConnection,
    records: &[OrderRecord],
    returned: &[OrderDeduction],
) -> QueryResult<()> {
    for row in records {
        diesel::update(order_record::table.find(row.id))
            .set((
                order_record::state.eq(row.state),
                order_record::cancelled_us.eq(row.cancelled_us),
            ))
            .execute(c)?;
    }
    for row in returned {
        diesel::update(order_deduction::table.find((row.order_id, &row.sku)))
            .set(order_deduction::returned_version.eq(row.returned_version))
            .execute(c)?;
    }
    Ok(())
}
