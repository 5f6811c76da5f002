//! The table `product_copy`: its row and every statement on it.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, column, json_list};
use common::inventory::Sku;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Text};
use engine::inbox::CopyVersion;

use crate::schema::product_copy;

/// One product as it has arrived here, or the tombstone of a removed one.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = product_copy)]
pub struct ProductCopy {
    /// Which.
    pub sku: Sku,
    /// What it is.
    pub description: String,
    /// Pieces in stock.
    pub quantity: i64,
    /// Price of one piece in minor units.
    pub unit_price_minor: i64,
    /// Whether the stock may go below zero.
    pub allow_backorder: bool,
    /// Whether this is a tombstone.
    pub removed: bool,
    /// The owner's epoch that the version belongs to.
    pub epoch: i64,
    /// The owner's version.
    pub version: i64,
    /// When it got this version, by the owner's clock.
    pub updated_us: Timestamp,
    /// When it arrived here, by our clock.
    pub applied_us: Timestamp,
    /// Pieces that orders were promised and that are not deducted in `quantity`.
    pub reserved: i64,
}

/// How far the copy of a product is.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = product_copy)]
pub(super) struct VersionRow {
    pub(super) sku: Sku,
    pub(super) epoch: i64,
    pub(super) version: i64,
}

#[derive(QueryableByName)]
#[diesel(table_name = product_copy)]
struct WrittenRow {
    sku: Sku,
}

impl ProductCopy {
    /// Pieces that may still be promised; below zero only with backorders or after a shortfall at the owner.
    pub fn available(&self) -> i64 {
        self.quantity.saturating_sub(self.reserved)
    }

    /// What decides which of two states of a product is newer.
    pub(crate) fn copy_version(&self) -> CopyVersion {
        CopyVersion { epoch: self.epoch, version: self.version }
    }
}

/// The copy or tombstone of `sku`.
pub fn find(conn: &mut Conn, sku: &Sku) -> QueryResult<Option<ProductCopy>> {
    on!(conn, c => product_copy::table
        .find(sku)
        .select(ProductCopy::as_select())
        .first(c)
        .optional())
}

/// Up to `limit` products after `after` (all, if it is none), in the SKUs' bytewise order, without tombstones.
pub fn page(conn: &mut Conn, after: Option<&Sku>, limit: i64) -> QueryResult<Vec<ProductCopy>> {
    // No SKU is empty, so all of them are greater than the empty text.
    let after = after.map(Sku::as_str).unwrap_or_default();
    on!(conn, c => product_copy::table
        .filter(product_copy::sku.gt(after).and(product_copy::removed.eq(false)))
        .order(product_copy::sku)
        .limit(limit)
        .select(ProductCopy::as_select())
        .load(c))
}

/// The copies of `skus` (sorted) that there are, locked in the SKUs' bytewise order until the transaction ends.
pub(crate) fn lock(conn: &mut Conn, skus: &[&str]) -> QueryResult<Vec<ProductCopy>> {
    match conn {
        Conn::Pg(c) => sql_query(format!(
            "SELECT {COLUMNS}, reserved FROM product_copy WHERE sku = ANY($1) ORDER BY sku FOR UPDATE"
        ))
        .bind::<Array<Text>, _>(skus)
        .load(c),
        // SQLite has one writer, and this is it; but it binds only so many values.
        Conn::Sqlite(c) => {
            let mut copies = Vec::new();
            for skus in skus.chunks(ROWS_PER_INSERT) {
                let found = product_copy::table
                    .filter(product_copy::sku.eq_any(skus))
                    .order(product_copy::sku)
                    .select(ProductCopy::as_select())
                    .load::<ProductCopy>(c)?;
                copies.extend(found);
            }
            Ok(copies)
        }
    }
}

/// As [`lock`], but waits for nobody: the SKUs of those that other transactions hold are returned, too.
pub(crate) fn lock_free(
    conn: &mut Conn,
    skus: &[&str],
) -> QueryResult<(Vec<ProductCopy>, BTreeSet<Sku>)> {
    let Conn::Pg(c) = conn else { return Ok((lock(conn, skus)?, BTreeSet::new())) };
    let free: Vec<ProductCopy> = match skus {
        [only] => product_copy::table
            .find(only)
            .select(ProductCopy::as_select())
            .for_update()
            .skip_locked()
            .load(c)?,
        _ => sql_query(format!(
            "SELECT {COLUMNS}, reserved FROM product_copy WHERE sku = ANY($1) FOR UPDATE SKIP LOCKED"
        ))
        .bind::<Array<Text>, _>(skus)
        .load(c)?,
    };
    if free.len() == skus.len() {
        return Ok((free, BTreeSet::new()));
    }
    let found: BTreeSet<&str> = free.iter().map(|copy| copy.sku.as_str()).collect();
    let missing = skus.iter().copied().filter(|sku| !found.contains(sku));
    let held: Vec<Sku> = product_copy::table
        .filter(product_copy::sku.eq_any(missing.collect::<Vec<_>>()))
        .select(product_copy::sku)
        .load(c)?;
    Ok((free, held.into_iter().collect()))
}

/// Adds to what is reserved of products that this transaction has locked; each comes once.
pub(crate) fn reserve(conn: &mut Conn, changes: &BTreeMap<Sku, i64>) -> QueryResult<()> {
    match conn {
        Conn::Pg(c) => sql_query(
            "UPDATE product_copy p SET reserved = p.reserved + n.delta
             FROM unnest($1, $2) AS n (sku, delta) WHERE p.sku = n.sku",
        )
        .bind::<Array<Text>, _>(changes.keys().map(Sku::as_str).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(changes.values().copied().collect::<Vec<_>>())
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => changes.iter().try_for_each(|(sku, delta)| {
            diesel::update(product_copy::table.find(sku))
                .set(product_copy::reserved.eq(product_copy::reserved + delta))
                .execute(c)
                .map(drop)
        }),
    }
}

/// How far the copies of `skus` are; those that there are.
pub(super) fn versions(conn: &mut Conn, skus: &[&str]) -> QueryResult<Vec<VersionRow>> {
    match conn {
        // Not a kept plan: one made while the table was small would go on reading all of it.
        Conn::Pg(c) => {
            sql_query("SELECT sku, epoch, version FROM product_copy WHERE sku = ANY($1)")
                .bind::<Array<Text>, _>(skus)
                .load(c)
        }
        Conn::Sqlite(c) => product_copy::table
            .filter(product_copy::sku.eq_any(skus))
            .select(VersionRow::as_select())
            .load(c),
    }
}

/// A newer (epoch, version) wins, anything else leaves the copy alone.
const UPDATE_IF_NEWER: &str = "
    ON CONFLICT (sku) DO UPDATE SET
        description = excluded.description, quantity = excluded.quantity,
        unit_price_minor = excluded.unit_price_minor, allow_backorder = excluded.allow_backorder,
        removed = excluded.removed, epoch = excluded.epoch, version = excluded.version,
        updated_us = excluded.updated_us, applied_us = excluded.applied_us
    WHERE (product_copy.epoch, product_copy.version) < (excluded.epoch, excluded.version)
    RETURNING sku";

const COLUMNS: &str = "sku, description, quantity, unit_price_minor, allow_backorder, removed, epoch, version, updated_us, applied_us";

/// Writes those of `rows` that are newer than their copies, and returns their SKUs.
///
/// `rows` has each SKU once, sorted: the database locks them in that order.
pub(super) fn upsert(conn: &mut Conn, rows: &[&ProductCopy]) -> QueryResult<BTreeSet<Sku>> {
    let written: Vec<WrittenRow> = match conn {
        Conn::Pg(c) => upsert_postgres(c, rows),
        Conn::Sqlite(c) => upsert_sqlite(c, rows),
    }?;
    Ok(written.into_iter().map(|row| row.sku).collect())
}

fn upsert_postgres(c: &mut PgConnection, rows: &[&ProductCopy]) -> QueryResult<Vec<WrittenRow>> {
    sql_query(format!(
        "INSERT INTO product_copy ({COLUMNS})
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) {UPDATE_IF_NEWER}"
    ))
    .bind::<Array<Text>, _>(column(rows, |row| row.sku.as_str()))
    .bind::<Array<Text>, _>(column(rows, |row| row.description.as_str()))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.quantity))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.unit_price_minor))
    .bind::<Array<Bool>, _>(column(rows, |row| row.allow_backorder))
    .bind::<Array<Bool>, _>(column(rows, |row| row.removed))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.epoch))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.version))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.updated_us))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.applied_us))
    .load(c)
}

fn upsert_sqlite(c: &mut SqliteConnection, rows: &[&ProductCopy]) -> QueryResult<Vec<WrittenRow>> {
    let rows: Vec<_> = rows.iter().map(|row| values(row)).collect();
    sql_query(format!(
        "INSERT INTO product_copy ({COLUMNS})
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
                value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9
         FROM json_each(?) WHERE true {UPDATE_IF_NEWER}"
    ))
    .bind::<Text, _>(json_list(&rows)?)
    .load(c)
}

type Values<'a> = (&'a str, &'a str, i64, i64, bool, bool, i64, i64, i64, i64);

/// The values of [`COLUMNS`], in their order.
fn values(row: &ProductCopy) -> Values<'_> {
    (
        row.sku.as_str(),
        &row.description,
        row.quantity,
        row.unit_price_minor,
        row.allow_backorder,
        row.removed,
        row.epoch,
        row.version,
        row.updated_us.micros(),
        row.applied_us.micros(),
    )
}
