//! The tables `orders`, `order_line` and `order_step`: their rows and every statement on them.

use std::collections::BTreeSet;

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, Unnest, column};
use common::ids::EventIdSql;
use common::inventory::Sku;
use common::on;
use common::orders::OrderId;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text};

use super::{Cancellation, OrderStatus, Placement};
use crate::schema::{order_line, order_step, orders};

/// One order.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = orders, primary_key(id), treat_none_as_null = true)]
pub struct OrderRow {
    /// Which.
    pub id: OrderId,
    /// Whom it is for.
    pub customer: String,
    /// What people see.
    pub status: OrderStatus,
    /// How far its placing is.
    pub placement: Placement,
    /// How far its cancellation is, if it was asked for.
    pub cancellation: Option<Cancellation>,
    /// 1, and one more with each step of its timeline.
    pub revision: i64,
    /// When it was placed.
    pub placed_us: Timestamp,
    /// When its last step was.
    pub changed_us: Timestamp,
}

/// What was ordered of one product.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = order_line)]
pub struct OrderLineRow {
    /// Which order.
    pub order_id: OrderId,
    /// Which product.
    pub sku: Sku,
    /// Pieces.
    pub quantity: i64,
    /// The product's version after the deduction, once that is known.
    pub version: Option<i64>,
    /// Why the owner refused this line, for programs.
    pub reason: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
}

/// One step of an order's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = order_step)]
pub struct OrderStepRow {
    /// Which order.
    pub order_id: OrderId,
    /// Its place.
    pub revision: i64,
    /// When.
    pub at_us: Timestamp,
    /// The status from then on.
    pub status: OrderStatus,
    /// What happened.
    pub what: String,
    /// What there is to say of it.
    pub note: Option<String>,
}

/// An order with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Itself.
    pub row: OrderRow,
    /// What was ordered, by SKU.
    pub lines: Vec<OrderLineRow>,
    /// What happened to it, in order.
    pub steps: Vec<OrderStepRow>,
}

/// What a list of orders shows; nothing said shows all.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Orders of this status.
    pub status: Option<OrderStatus>,
    /// Orders for this customer.
    pub customer: Option<String>,
    /// Orders placed before this one.
    pub after: Option<OrderId>,
}

/// New orders, or changes of those that this transaction has locked.
#[derive(Debug, Default)]
pub(super) struct OrderChanges {
    pub(super) rows: Vec<OrderRow>,
    pub(super) steps: Vec<OrderStepRow>,
    /// Those of new orders, or others with what is new of them: version, or reason and detail.
    pub(super) lines: Vec<OrderLineRow>,
}

impl OrderRow {
    /// Takes one step: the status follows, and the timeline gets a line.
    pub(super) fn step(&mut self, now: Timestamp, what: &str, note: Option<&str>) -> OrderStepRow {
        self.status = OrderStatus::after(self.status, self.placement, self.cancellation);
        self.revision += 1;
        // A clock that was set back must not turn the timeline round.
        self.changed_us = now.max(self.changed_us);
        OrderStepRow::of(self, what, note)
    }
}

impl OrderStepRow {
    pub(super) fn of(row: &OrderRow, what: &str, note: Option<&str>) -> Self {
        Self {
            order_id: row.id,
            revision: row.revision,
            at_us: row.changed_us,
            status: row.status,
            what: what.to_owned(),
            note: note.map(str::to_owned),
        }
    }
}

/// The order `id` with its lines and timeline.
pub fn find(conn: &mut Conn, id: OrderId) -> QueryResult<Option<Order>> {
    let row: Option<OrderRow> = on!(conn, c => orders::table
        .find(id)
        .select(OrderRow::as_select())
        .first(c)
        .optional())?;
    let Some(row) = row else { return Ok(None) };
    let lines = on!(conn, c => order_line::table
        .filter(order_line::order_id.eq(id))
        .order(order_line::sku)
        .select(OrderLineRow::as_select())
        .load(c))?;
    // Steps of a later moment than the row, read between the two, belong to the next look.
    let steps = on!(conn, c => order_step::table
        .filter(order_step::order_id.eq(id).and(order_step::revision.le(row.revision)))
        .order(order_step::revision)
        .select(OrderStepRow::as_select())
        .load(c))?;
    Ok(Some(Order { row, lines, steps }))
}

/// The revision of the order `id`, to see cheaply whether it has changed.
pub fn revision(conn: &mut Conn, id: OrderId) -> QueryResult<Option<i64>> {
    on!(conn, c => orders::table.find(id).select(orders::revision).first(c).optional())
}

/// Up to `limit` orders, the newest first.
pub fn page(conn: &mut Conn, filter: &OrderFilter, limit: i64) -> QueryResult<Vec<OrderRow>> {
    on!(conn, c => {
        let mut rows = orders::table.select(OrderRow::as_select()).into_boxed();
        if let Some(status) = filter.status {
            rows = rows.filter(orders::status.eq(status));
        }
        if let Some(customer) = &filter.customer {
            rows = rows.filter(orders::customer.eq(customer));
        }
        if let Some(after) = filter.after {
            rows = rows.filter(orders::id.lt(after));
        }
        rows.order(orders::id.desc()).limit(limit).load(c)
    })
}

/// What was ordered by `ids`.
pub(super) fn lines(conn: &mut Conn, ids: &BTreeSet<OrderId>) -> QueryResult<Vec<OrderLineRow>> {
    on!(conn, c => order_line::table
        .filter(order_line::order_id.eq_any(ids))
        .order((order_line::order_id, order_line::sku))
        .select(OrderLineRow::as_select())
        .load(c))
}

/// Adds new orders.
pub(super) fn insert(conn: &mut Conn, new: &OrderChanges) -> QueryResult<()> {
    insert_rows(conn, &new.rows)?;
    insert_lines(conn, &new.lines)?;
    insert_steps(conn, &new.steps)
}

/// The orders of `ids` that there are, locked in the ids' order until the transaction ends.
pub(super) fn lock(conn: &mut Conn, ids: &[OrderId]) -> QueryResult<Vec<OrderRow>> {
    if let Conn::Pg(c) = conn {
        let _locked: Vec<OrderId> = orders::table
            .filter(orders::id.eq_any(ids))
            .order(orders::id)
            .select(orders::id)
            .for_update()
            .load(c)?;
    }
    on!(conn, c => orders::table
        .filter(orders::id.eq_any(ids))
        .order(orders::id)
        .select(OrderRow::as_select())
        .load(c))
}

/// Writes what became of orders that this transaction has locked.
pub(super) fn save(conn: &mut Conn, changes: &OrderChanges) -> QueryResult<()> {
    insert_steps(conn, &changes.steps)?;
    match conn {
        Conn::Pg(c) => {
            save_rows_postgres(c, &changes.rows)?;
            save_lines_postgres(c, &changes.lines)
        }
        Conn::Sqlite(c) => {
            for row in &changes.rows {
                diesel::update(orders::table.find(row.id)).set(row).execute(c)?;
            }
            for line in &changes.lines {
                diesel::update(order_line::table.find((line.order_id, &line.sku)))
                    .set((
                        order_line::version.eq(line.version),
                        order_line::reason.eq(&line.reason),
                        order_line::detail.eq(&line.detail),
                    ))
                    .execute(c)?;
            }
            Ok(())
        }
    }
}

fn insert_rows(conn: &mut Conn, rows: &[OrderRow]) -> QueryResult<()> {
    match conn {
        Conn::Pg(_) if rows.is_empty() => Ok(()),
        Conn::Pg(c) => Unnest::of(
            "INSERT INTO orders (id, customer, status, placement, cancellation, revision, placed_us, changed_us) \
             SELECT * FROM unnest(…)",
        )
        .column::<EventIdSql, _>(column(rows, |row| row.id))
        .column::<Text, _>(column(rows, |row| row.customer.as_str()))
        .column::<Text, _>(column(rows, |row| row.status.name()))
        .column::<Text, _>(column(rows, |row| row.placement.name()))
        .column::<Nullable<Text>, _>(column(rows, |row| row.cancellation.map(Cancellation::name)))
        .column::<BigInt, _>(column(rows, |row| row.revision))
        .column::<BigInt, _>(column(rows, |row| row.placed_us))
        .column::<BigInt, _>(column(rows, |row| row.changed_us))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => rows.chunks(ROWS_PER_INSERT).try_for_each(|chunk| {
            diesel::insert_into(orders::table).values(chunk).execute(c).map(drop)
        }),
    }
}

fn insert_lines(conn: &mut Conn, lines: &[OrderLineRow]) -> QueryResult<()> {
    match conn {
        Conn::Pg(_) if lines.is_empty() => Ok(()),
        Conn::Pg(c) => Unnest::of(
            "INSERT INTO order_line (order_id, sku, quantity, version, reason, detail) SELECT * FROM unnest(…)",
        )
        .column::<EventIdSql, _>(column(lines, |line| line.order_id))
        .column::<Text, _>(column(lines, |line| line.sku.as_str()))
        .column::<BigInt, _>(column(lines, |line| line.quantity))
        .column::<Nullable<BigInt>, _>(column(lines, |line| line.version))
        .column::<Nullable<Text>, _>(column(lines, |line| line.reason.as_deref()))
        .column::<Nullable<Text>, _>(column(lines, |line| line.detail.as_deref()))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => lines.chunks(ROWS_PER_INSERT).try_for_each(|chunk| {
            diesel::insert_into(order_line::table).values(chunk).execute(c).map(drop)
        }),
    }
}

fn insert_steps(conn: &mut Conn, steps: &[OrderStepRow]) -> QueryResult<()> {
    match conn {
        Conn::Pg(_) if steps.is_empty() => Ok(()),
        Conn::Pg(c) => Unnest::of(
            "INSERT INTO order_step (order_id, revision, at_us, status, what, note) SELECT * FROM unnest(…)",
        )
        .column::<EventIdSql, _>(column(steps, |step| step.order_id))
        .column::<BigInt, _>(column(steps, |step| step.revision))
        .column::<BigInt, _>(column(steps, |step| step.at_us))
        .column::<Text, _>(column(steps, |step| step.status.name()))
        .column::<Text, _>(column(steps, |step| step.what.as_str()))
        .column::<Nullable<Text>, _>(column(steps, |step| step.note.as_deref()))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => steps.chunks(ROWS_PER_INSERT).try_for_each(|chunk| {
            diesel::insert_into(order_step::table).values(chunk).execute(c).map(drop)
        }),
    }
}

fn save_rows_postgres(c: &mut PgConnection, rows: &[OrderRow]) -> QueryResult<()> {
    sql_query(
        "UPDATE orders o SET status = n.status, placement = n.placement, cancellation = n.cancellation,
             revision = n.revision, changed_us = n.changed_us
         FROM unnest($1, $2, $3, $4, $5, $6)
             AS n (id, status, placement, cancellation, revision, changed_us)
         WHERE o.id = n.id",
    )
    .bind::<Array<EventIdSql>, _>(column(rows, |row| row.id))
    .bind::<Array<Text>, _>(column(rows, |row| row.status.name()))
    .bind::<Array<Text>, _>(column(rows, |row| row.placement.name()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.cancellation.map(Cancellation::name)))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.revision))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.changed_us))
    .execute(c)
    .map(drop)
}

fn save_lines_postgres(c: &mut PgConnection, lines: &[OrderLineRow]) -> QueryResult<()> {
    if lines.is_empty() {
        return Ok(());
    }
    sql_query(
        "UPDATE order_line l SET version = n.version, reason = n.reason, detail = n.detail
         FROM unnest($1, $2, $3, $4, $5) AS n (order_id, sku, version, reason, detail)
         WHERE l.order_id = n.order_id AND l.sku = n.sku",
    )
    .bind::<Array<EventIdSql>, _>(column(lines, |line| line.order_id))
    .bind::<Array<Text>, _>(column(lines, |line| line.sku.as_str()))
    .bind::<Array<Nullable<BigInt>>, _>(column(lines, |line| line.version))
    .bind::<Array<Nullable<Text>>, _>(column(lines, |line| line.reason.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column(lines, |line| line.detail.as_deref()))
    .execute(c)
    .map(drop)
}
