//! Products, their copies, and the events that are open between them.

use std::collections::BTreeMap;

use anyhow::Result;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, SmallInt, Text};

use crate::check::reader::{Reader, of_keys};
use crate::check::rows::{PRODUCT, ProductRow};

/// Events of a key that are looked through for one that is open, those of the newest versions.
const EVENTS: i64 = 256;

/// A product, or its copy.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(super) struct Row {
    #[diesel(embed)]
    pub(super) product: ProductRow,
    /// Of the copy; 0 at the source.
    #[diesel(sql_type = BigInt)]
    pub(super) epoch: i64,
}

/// An event of a key that is not PROCESSED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub(super) struct OpenEvent {
    #[diesel(sql_type = EventIdSql)]
    pub(super) id: EventId,
    /// 2: it waits for a person.
    #[diesel(sql_type = SmallInt)]
    pub(super) status: i16,
}

/// The status of one that waits for a person.
pub(super) const EXHAUSTED: i16 = 2;

impl OpenEvent {
    /// Whether it goes on by itself.
    pub(super) fn is_on_its_way(self) -> bool {
        self.status != EXHAUSTED
    }
}

/// The source's state of a key, and an open event of it: one that is on its way, if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) row: Option<Row>,
    pub(super) open: Option<OpenEvent>,
}

/// A table of products, and what the epoch of its rows is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    name: &'static str,
    epoch: &'static str,
}

pub(super) const SOURCE: Table = Table { name: "product", epoch: "CAST(0 AS BIGINT) AS epoch" };
pub(super) const COPY: Table = Table { name: "product_copy", epoch: "epoch" };

impl Table {
    /// What selects its [`Row`]s.
    pub(super) fn select(self) -> String {
        format!("SELECT {PRODUCT}, {} FROM {}", self.epoch, self.name)
    }
}

/// The states first: what is not on its way after that has brought them, or something newer.
pub(super) fn views(reader: &mut Reader, keys: &[String]) -> Result<BTreeMap<String, View>> {
    let mut views: BTreeMap<String, View> = BTreeMap::new();
    for (key, row) in rows_of(reader, SOURCE, keys)? {
        views.insert(key, View { row: Some(row), open: None });
    }
    for key in keys {
        let open = reader.page(|conn| open_event(conn, key))?;
        if open.is_some() {
            views.entry(key.clone()).or_default().open = open;
        }
    }
    Ok(views)
}

/// The rows of `keys`, by their keys.
pub(super) fn rows_of(
    reader: &mut Reader,
    table: Table,
    keys: &[String],
) -> Result<BTreeMap<String, Row>> {
    let sql = format!("{} WHERE sku {{in}}", table.select());
    let rows: Vec<Row> = reader.page(|conn| of_keys(conn, &sql, keys))?;
    Ok(rows.into_iter().map(|row| (row.product.sku.clone(), row)).collect())
}

fn open_event(conn: &mut Conn, key: &str) -> QueryResult<Option<OpenEvent>> {
    let sql = "SELECT e.id, CAST(CASE WHEN f.status = 2 THEN 2 ELSE 0 END AS SMALLINT) AS status \
         FROM (SELECT id FROM outbox_event WHERE key = $1 AND kind = 0 \
               ORDER BY version DESC, id DESC LIMIT $2) e \
         LEFT JOIN outbox_pending p ON p.id = e.id LEFT JOIN outbox_sent w ON w.id = e.id \
         LEFT JOIN outbox_failed f ON f.id = e.id \
         WHERE (p.id IS NOT NULL OR w.id IS NOT NULL OR f.id IS NOT NULL) AND f.resolved_us IS NULL";
    let open: Vec<OpenEvent> =
        on!(conn, c => sql_query(sql).bind::<Text, _>(key).bind::<BigInt, _>(EVENTS).load(c))?;
    Ok(open.into_iter().max_by_key(|event| (event.is_on_its_way(), event.id)))
}
