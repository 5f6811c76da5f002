//! The tables `product` and `adjustment`: their rows and every statement on them.

use std::collections::BTreeSet;

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, Unnest, column, json_list};
use common::inventory::Sku;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text};

use crate::schema::{adjustment, product};

/// One product as stored, or the tombstone of a removed one.
#[derive(
    Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset, QueryableByName,
)]
#[diesel(table_name = product, primary_key(sku))]
pub struct Product {
    /// Which.
    pub sku: Sku,
    /// What it is.
    pub description: String,
    /// Pieces in stock; zero for a tombstone.
    pub quantity: i64,
    /// Price of one piece in minor units.
    pub unit_price_minor: i64,
    /// Whether the stock may go below zero.
    pub allow_backorder: bool,
    /// Whether this is a tombstone.
    pub removed: bool,
    /// 1 for the first state, or more where removed products were forgotten; each change, the removal too, is one more.
    pub version: i64,
    /// When it became so; never before the version before it.
    pub updated_us: Timestamp,
}

/// One accepted adjustment, to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = adjustment)]
pub struct NewAdjustment {
    /// Of which product.
    pub sku: Sku,
    /// Pieces that came or went.
    pub delta: i64,
    /// Pieces in stock after it.
    pub quantity: i64,
    /// The product's version after it.
    pub version: i64,
    /// Why.
    pub reason: String,
    /// What it belongs to.
    pub reference: Option<String>,
    /// When.
    pub at_us: Timestamp,
}

/// The product or tombstone of `sku`.
pub(super) fn find(conn: &mut Conn, sku: &Sku) -> QueryResult<Option<Product>> {
    on!(conn, c => product::table
        .find(sku)
        .select(Product::as_select())
        .first(c)
        .optional())
}

/// Up to `limit` products after `after` (all, if it is none), in the SKUs' bytewise order, without tombstones.
pub fn page(conn: &mut Conn, after: Option<&Sku>, limit: i64) -> QueryResult<Vec<Product>> {
    // No SKU is empty, so all of them are greater than the empty text.
    let after = after.map(Sku::as_str).unwrap_or_default();
    on!(conn, c => product::table
        .filter(product::sku.gt(after).and(product::removed.eq(false)))
        .order(product::sku)
        .limit(limit)
        .select(Product::as_select())
        .load(c))
}

/// As [`find`], and nobody else changes that row until this transaction ends.
pub(super) fn lock(conn: &mut Conn, sku: &Sku) -> QueryResult<Option<Product>> {
    match conn {
        Conn::Pg(c) => {
            product::table.find(sku).select(Product::as_select()).for_update().first(c).optional()
        }
        // SQLite has one writer, and this is it.
        Conn::Sqlite(_) => find(conn, sku),
    }
}

/// The rows of `skus` (sorted) that there are, locked in the SKUs' bytewise order, so that no two batches deadlock.
pub(crate) fn lock_all(conn: &mut Conn, skus: &[&str]) -> QueryResult<Vec<Product>> {
    match conn {
        // Not a kept plan: one made while the table was small would go on reading all of it.
        Conn::Pg(c) => sql_query(format!(
            "SELECT {COLUMNS} FROM product WHERE sku = ANY($1) ORDER BY sku FOR UPDATE"
        ))
        .bind::<Array<Text>, _>(skus)
        .load(c),
        // SQLite has one writer, and this is it; but it binds only so many values.
        Conn::Sqlite(c) => {
            let mut products = Vec::new();
            for skus in skus.chunks(ROWS_PER_INSERT) {
                let found = product::table
                    .filter(product::sku.eq_any(skus))
                    .order(product::sku)
                    .select(Product::as_select())
                    .load::<Product>(c)?;
                products.extend(found);
            }
            Ok(products)
        }
    }
}

/// As [`lock_all`], but waits for nobody: the SKUs of those that other transactions hold are returned, too.
pub(super) fn lock_free(
    conn: &mut Conn,
    skus: &[&str],
) -> QueryResult<(Vec<Product>, BTreeSet<Sku>)> {
    let Conn::Pg(c) = conn else {
        return Ok((lock_all(conn, skus)?, BTreeSet::new()));
    };
    let free: Vec<Product> = match skus {
        [only] => product::table
            .find(only)
            .select(Product::as_select())
            .for_update()
            .skip_locked()
            .load(c)?,
        _ => sql_query(format!(
            "SELECT {COLUMNS} FROM product WHERE sku = ANY($1) FOR UPDATE SKIP LOCKED"
        ))
        .bind::<Array<Text>, _>(skus)
        .load(c)?,
    };
    if free.len() == skus.len() {
        return Ok((free, BTreeSet::new()));
    }
    let found: BTreeSet<&str> = free.iter().map(|product| product.sku.as_str()).collect();
    let missing = skus.iter().copied().filter(|sku| !found.contains(sku));
    let held: Vec<Sku> = product::table
        .filter(product::sku.eq_any(missing.collect::<Vec<_>>()))
        .select(product::sku)
        .load(c)?;
    Ok((free, held.into_iter().collect()))
}

/// Adds a product, unless another transaction added it first: then `false`, and it is committed by now.
pub(super) fn insert(conn: &mut Conn, row: &Product) -> QueryResult<bool> {
    let inserted = on!(conn, c => diesel::insert_into(product::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}

/// Writes the stock of rows that this transaction has locked.
pub(crate) fn update_stock(conn: &mut Conn, rows: &[&Product]) -> QueryResult<()> {
    match conn {
        Conn::Pg(c) if rows.len() > 1 => sql_query(
            "UPDATE product SET quantity = n.quantity, version = n.version, updated_us = n.updated_us
             FROM unnest($1, $2, $3, $4) AS n (sku, quantity, version, updated_us)
             WHERE product.sku = n.sku",
        )
        .bind::<Array<Text>, _>(column(rows, |row| row.sku.as_str()))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.quantity))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.version))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.updated_us))
        .execute(c)
        .map(drop),
        _ => rows.iter().try_for_each(|row| {
            on!(conn, c => diesel::update(product::table.find(&row.sku))
                .set((
                    product::quantity.eq(row.quantity),
                    product::version.eq(row.version),
                    product::updated_us.eq(row.updated_us),
                ))
                .execute(c))
            .map(drop)
        }),
    }
}

const COLUMNS: &str =
    "sku, description, quantity, unit_price_minor, allow_backorder, removed, version, updated_us";

/// Writes rows that this transaction has locked, and others as new ones, each sorted by SKU; returns how many were
/// written. There are fewer where another transaction put one of the new ones in meanwhile.
pub(super) fn put_all(
    conn: &mut Conn,
    locked: &[&Product],
    new: &[&Product],
) -> QueryResult<usize> {
    match conn {
        Conn::Pg(c) => {
            // No upsert: it would wait for the lock of a row that it meets, and whoever holds that may wait for ours.
            Ok(update_postgres(c, locked)? + insert_postgres(c, new)?)
        }
        // SQLite has one writer, and this is it.
        Conn::Sqlite(c) => upsert_sqlite(c, &[locked, new].concat()),
    }
}

/// One row alone has a statement that is prepared.
fn update_postgres(c: &mut PgConnection, rows: &[&Product]) -> QueryResult<usize> {
    match rows {
        [] => Ok(0),
        [row] => diesel::update(product::table.find(&row.sku)).set(*row).execute(c),
        _ => sql_query(format!(
            "UPDATE product SET description = n.description, quantity = n.quantity,
                unit_price_minor = n.unit_price_minor, allow_backorder = n.allow_backorder,
                removed = n.removed, version = n.version, updated_us = n.updated_us
             FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS n ({COLUMNS})
             WHERE product.sku = n.sku"
        ))
        .bind::<Array<Text>, _>(column(rows, |row| row.sku.as_str()))
        .bind::<Array<Text>, _>(column(rows, |row| row.description.as_str()))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.quantity))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.unit_price_minor))
        .bind::<Array<Bool>, _>(column(rows, |row| row.allow_backorder))
        .bind::<Array<Bool>, _>(column(rows, |row| row.removed))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.version))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.updated_us))
        .execute(c),
    }
}

fn insert_postgres(c: &mut PgConnection, rows: &[&Product]) -> QueryResult<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    Unnest::of(
        "INSERT INTO product \
           (sku, description, quantity, unit_price_minor, allow_backorder, removed, version, updated_us) \
         SELECT * FROM unnest(…) ON CONFLICT DO NOTHING",
    )
    .column::<Text, _>(column(rows, |row| row.sku.as_str()))
    .column::<Text, _>(column(rows, |row| row.description.as_str()))
    .column::<BigInt, _>(column(rows, |row| row.quantity))
    .column::<BigInt, _>(column(rows, |row| row.unit_price_minor))
    .column::<Bool, _>(column(rows, |row| row.allow_backorder))
    .column::<Bool, _>(column(rows, |row| row.removed))
    .column::<BigInt, _>(column(rows, |row| row.version))
    .column::<BigInt, _>(column(rows, |row| row.updated_us))
    .execute(c)
}

fn upsert_sqlite(c: &mut SqliteConnection, rows: &[&Product]) -> QueryResult<usize> {
    let rows: Vec<_> = rows.iter().map(|row| values(row)).collect();
    sql_query(format!(
        "INSERT INTO product ({COLUMNS})
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                value ->> 6, value ->> 7
         FROM json_each(?) WHERE true
         ON CONFLICT (sku) DO UPDATE SET
            description = excluded.description, quantity = excluded.quantity,
            unit_price_minor = excluded.unit_price_minor, allow_backorder = excluded.allow_backorder,
            removed = excluded.removed, version = excluded.version, updated_us = excluded.updated_us"
    ))
    .bind::<Text, _>(json_list(&rows)?)
    .execute(c)
}

type Values<'a> = (&'a str, &'a str, i64, i64, bool, bool, i64, i64);

/// The values of [`COLUMNS`], in their order.
fn values(row: &Product) -> Values<'_> {
    (
        row.sku.as_str(),
        &row.description,
        row.quantity,
        row.unit_price_minor,
        row.allow_backorder,
        row.removed,
        row.version,
        row.updated_us.micros(),
    )
}

/// Keeps accepted adjustments, in order.
pub(super) fn insert_adjustments(conn: &mut Conn, rows: &[NewAdjustment]) -> QueryResult<()> {
    match conn {
        Conn::Pg(_) if rows.is_empty() => Ok(()),
        Conn::Pg(c) => Unnest::of(
            "INSERT INTO adjustment (sku, delta, quantity, version, reason, reference, at_us)
             SELECT * FROM unnest(…)",
        )
        .column::<Text, _>(column(rows, |row| row.sku.as_str()))
        .column::<BigInt, _>(column(rows, |row| row.delta))
        .column::<BigInt, _>(column(rows, |row| row.quantity))
        .column::<BigInt, _>(column(rows, |row| row.version))
        .column::<Text, _>(column(rows, |row| row.reason.as_str()))
        .column::<Nullable<Text>, _>(column(rows, |row| row.reference.as_deref()))
        .column::<BigInt, _>(column(rows, |row| row.at_us))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => rows.chunks(ROWS_PER_INSERT).try_for_each(|chunk| {
            diesel::insert_into(adjustment::table).values(chunk).execute(c).map(drop)
        }),
    }
}
