//! What a service's database says, in plain SQL that both databases understand.

use std::collections::BTreeMap;

use common::db::{Db, DbError};
use common::on;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;

use stockloop_tests::poll::eventually;

use super::{DEADLINE, TestService};

/// A row of the view `inventory`, which both services have.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct InventoryRow {
    #[diesel(sql_type = Text)]
    pub(crate) sku: String,
    #[diesel(sql_type = Text)]
    pub(crate) description: String,
    #[diesel(sql_type = BigInt)]
    pub(crate) quantity: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) unit_price_minor: i64,
    #[diesel(sql_type = Bool)]
    pub(crate) allow_backorder: bool,
    #[diesel(sql_type = BigInt)]
    pub(crate) version: i64,
}

/// A row of the table below the view, tombstones included.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct ProductRow {
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = BigInt)]
    quantity: i64,
    #[diesel(sql_type = Bool)]
    removed: bool,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    updated_us: i64,
}

/// A line of an event's history.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct HistoryRow {
    #[diesel(sql_type = Text)]
    pub(crate) key: String,
    #[diesel(sql_type = Integer)]
    pub(crate) attempt: i32,
    #[diesel(sql_type = Text)]
    pub(crate) what: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) error: Option<String>,
}

/// A message that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct DeadLetterRow {
    #[diesel(sql_type = Text)]
    pub(crate) topic: String,
    #[diesel(sql_type = Integer)]
    pub(crate) partition: i32,
    #[diesel(sql_type = Text)]
    pub(crate) error: String,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct StatusCountRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// The rows that `sql` selects.
async fn rows<T>(db: &Db, sql: impl Into<String>) -> Result<Vec<T>, DbError>
where
    T: QueryableByName<Pg> + QueryableByName<Sqlite> + Send + 'static,
{
    let sql = sql.into();
    db.read(move |conn| Ok::<_, DbError>(on!(conn, c => sql_query(sql).load::<T>(c))?)).await
}

/// The number `n` that `sql` selects.
pub(crate) async fn count(db: &Db, sql: &str) -> i64 {
    let rows: Vec<CountRow> = rows(db, sql).await.expect("rows can be counted");
    match &rows[..] {
        [row] => row.n,
        _ => panic!("one row was expected of {sql}"),
    }
}

impl TestService {
    /// Waits until its copy has all that there was at the owner: nothing is filled from then on.
    pub(crate) async fn wait_until_complete(&self) {
        let filled = "SELECT count(*) AS n FROM copy_state WHERE complete_us IS NOT NULL";
        eventually("the copy to be complete", DEADLINE, async || match self.count(filled).await {
            1 => Ok(()),
            n => Err(n),
        })
        .await;
    }

    /// Runs statements on the service's database, as its administrator may.
    pub(crate) async fn execute(&self, sql: &'static str) {
        let db = self.database();
        let done = db.write::<_, DbError>(move |conn| Ok(conn.batch_execute(sql)?));
        done.await.expect("statements can be run");
    }

    /// The products that there are, by SKU.
    pub(crate) async fn inventory(&self) -> Vec<InventoryRow> {
        let sql = "SELECT sku, description, quantity, unit_price_minor, allow_backorder, version \
                   FROM inventory";
        let rows = rows(&self.database(), sql).await;
        let mut rows: Vec<InventoryRow> = rows.expect("the inventory can be read");
        rows.sort_unstable_by(|a, b| a.sku.cmp(&b.sku));
        rows
    }

    /// The rows of `table`, tombstones included, by SKU.
    pub(crate) async fn product_rows(&self, table: &str) -> Vec<ProductRow> {
        let sql = format!("SELECT sku, quantity, removed, version, updated_us FROM {table}");
        let rows = rows(&self.database(), sql).await;
        let mut rows: Vec<ProductRow> = rows.expect("the table can be read");
        rows.sort_unstable_by(|a, b| a.sku.cmp(&b.sku));
        rows
    }

    /// Events that are not PROCESSED, by status.
    pub(crate) async fn open_events(&self) -> Result<BTreeMap<String, i64>, DbError> {
        let sql = "SELECT CASE status WHEN 0 THEN 'PENDING' WHEN 1 THEN 'SENT' ELSE 'EXHAUSTED' END \
                   AS name, count(*) AS n FROM outbox_open GROUP BY status";
        let rows: Vec<StatusCountRow> = rows(&self.database(), sql).await?;
        Ok(rows.into_iter().map(|row| (row.name, row.n)).collect())
    }

    /// The number `n` that `sql` selects.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        count(&self.database(), sql).await
    }

    /// What happened to events besides the straight way, the first hundred lines.
    pub(crate) async fn history(&self) -> Vec<HistoryRow> {
        let sql = "SELECT e.key, h.attempt, h.what, h.error FROM outbox_history h \
                   JOIN outbox_event e ON e.id = h.event_id ORDER BY h.seq LIMIT 100";
        rows(&self.database(), sql).await.expect("the history can be read")
    }

    /// Messages that could not be read, oldest first.
    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetterRow> {
        let sql = "SELECT topic, partition, error FROM dead_letter ORDER BY seq";
        rows(&self.database(), sql).await.expect("the dead letters can be read")
    }
}
