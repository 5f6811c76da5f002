//! The table `customer_purchases`: its row and every statement on it.

use common::clock::Timestamp;
use common::db::{Conn, column, json_list};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};
use engine::views::ViewEntry;

use crate::schema::customer_purchases;

/// What one customer bought last, as it has arrived here.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = customer_purchases)]
pub struct CustomerPurchases {
    /// Whose.
    pub customer: String,
    /// How often the view of this customer changed; 0 where they were taken out of it.
    pub version: i64,
    /// The purchases as JSON, the newest first; none: the customer was taken out of the view.
    pub purchases: Option<String>,
    /// When the message's partition was begun to be read: with the offset, which of two messages is the later one.
    pub begun_us: Timestamp,
    /// Where the message lies.
    pub partition: i32,
    /// Where in it.
    pub message_offset: i64,
    /// When the message was written, by the clock of its writer or the broker.
    pub written_us: Timestamp,
    /// When it arrived here, by our clock.
    pub stored_us: Timestamp,
}

impl CustomerPurchases {
    /// None of a customer who was taken out of the view.
    pub(super) fn into_entry(self) -> Option<ViewEntry> {
        let Self { purchases, written_us, stored_us, .. } = self;
        purchases.map(|value| ViewEntry { value, written_at: written_us, stored_at: stored_us })
    }
}

/// The purchases of `customer`, or what is left of one who was taken out of the view.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, customer: &str) -> QueryResult<Option<CustomerPurchases>> {
    on!(conn, c => customer_purchases::table
        .find(customer)
        .select(CustomerPurchases::as_select())
        .first(c)
        .optional())
}

/// A later message wins, anything else leaves the copy alone.
const UPDATE_IF_LATER: &str = "
    ON CONFLICT (customer) DO UPDATE SET
        version = excluded.version, purchases = excluded.purchases, begun_us = excluded.begun_us,
        partition = excluded.partition, message_offset = excluded.message_offset,
        written_us = excluded.written_us, stored_us = excluded.stored_us
    WHERE (customer_purchases.begun_us, customer_purchases.message_offset) < (excluded.begun_us, excluded.message_offset)";

const COLUMNS: &str =
    "customer, version, purchases, begun_us, partition, message_offset, written_us, stored_us";

/// Writes those of `rows` that are later than what is stored.
///
/// `rows` has each customer once, sorted: the database locks them in that order.
pub(super) fn upsert(conn: &mut Conn, rows: &[&CustomerPurchases]) -> QueryResult<()> {
    match conn {
        Conn::Pg(c) => upsert_postgres(c, rows),
        Conn::Sqlite(c) => upsert_sqlite(c, rows),
    }?;
    Ok(())
}

fn upsert_postgres(c: &mut PgConnection, rows: &[&CustomerPurchases]) -> QueryResult<usize> {
    sql_query(format!(
        "INSERT INTO customer_purchases ({COLUMNS})
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) {UPDATE_IF_LATER}"
    ))
    .bind::<Array<Text>, _>(column(rows, |row| row.customer.as_str()))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.version))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.purchases.as_deref()))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.begun_us))
    .bind::<Array<Integer>, _>(column(rows, |row| row.partition))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.message_offset))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.written_us))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.stored_us))
    .execute(c)
}

fn upsert_sqlite(c: &mut SqliteConnection, rows: &[&CustomerPurchases]) -> QueryResult<usize> {
    let rows: Vec<_> = rows.iter().map(|row| values(row)).collect();
    sql_query(format!(
        "INSERT INTO customer_purchases ({COLUMNS})
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                value ->> 6, value ->> 7
         FROM json_each(?) WHERE true {UPDATE_IF_LATER}"
    ))
    .bind::<Text, _>(json_list(&rows)?)
    .execute(c)
}

type Values<'a> = (&'a str, i64, Option<&'a str>, i64, i32, i64, i64, i64);

/// The values of [`COLUMNS`], in their order.
fn values(row: &CustomerPurchases) -> Values<'_> {
    (
        &row.customer,
        row.version,
        row.purchases.as_deref(),
        row.begun_us.micros(),
        row.partition,
        row.message_offset,
        row.written_us.micros(),
        row.stored_us.micros(),
    )
}
