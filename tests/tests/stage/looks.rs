//! What a service's database says, in plain SQL that both databases understand.

use std::collections::BTreeMap;

use common::db::DbError;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};

use super::Service;

/// A row of the view `inventory`, which both services have.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct Item {
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

/// A row of the tables below the views, tombstones included.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct State {
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
pub(crate) struct Line {
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
pub(crate) struct DeadLetter {
    #[diesel(sql_type = Text)]
    pub(crate) topic: String,
    #[diesel(sql_type = Integer)]
    pub(crate) partition: i32,
    #[diesel(sql_type = Text)]
    pub(crate) error: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Group {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl Service {
    /// The products that there are, by SKU.
    pub(crate) async fn inventory(&self) -> Vec<Item> {
        let sql = "SELECT sku, description, quantity, unit_price_minor, allow_backorder, version \
                   FROM inventory";
        let mut items: Vec<Item> = self
            .database()
            .read(move |conn| Ok::<_, DbError>(on!(conn, c => sql_query(sql).load(c))?))
            .await
            .expect("the inventory can be read");
        items.sort_unstable_by(|a, b| a.sku.cmp(&b.sku));
        items
    }

    /// The rows of `table`, tombstones included, by SKU.
    pub(crate) async fn states(&self, table: &str) -> Vec<State> {
        let sql = format!("SELECT sku, quantity, removed, version, updated_us FROM {table}");
        let mut states: Vec<State> = self
            .database()
            .read(move |conn| Ok::<_, DbError>(on!(conn, c => sql_query(sql).load(c))?))
            .await
            .expect("the table can be read");
        states.sort_unstable_by(|a, b| a.sku.cmp(&b.sku));
        states
    }

    /// Events that are not PROCESSED, by status.
    pub(crate) async fn open_events(&self) -> Result<BTreeMap<String, i64>, DbError> {
        let sql = "SELECT CASE status WHEN 0 THEN 'PENDING' WHEN 1 THEN 'SENT' ELSE 'EXHAUSTED' END \
                   AS name, count(*) AS n FROM outbox_open GROUP BY status";
        let groups: Vec<Group> = self
            .database()
            .read(move |conn| Ok::<_, DbError>(on!(conn, c => sql_query(sql).load(c))?))
            .await?;
        Ok(groups.into_iter().map(|group| (group.name, group.n)).collect())
    }

    /// The number `n` that `sql` selects.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let sql = sql.to_owned();
        let number: Number = self
            .database()
            .read(move |conn| Ok::<_, DbError>(on!(conn, c => sql_query(sql).get_result(c))?))
            .await
            .expect("rows can be counted");
        number.n
    }

    /// What happened to events besides the straight way, the first hundred lines.
    pub(crate) async fn history(&self) -> Vec<Line> {
        let sql = "SELECT e.key, h.attempt, h.what, h.error FROM outbox_history h \
                   JOIN outbox_event e ON e.id = h.event_id ORDER BY h.seq LIMIT 100";
        self.database()
            .read(move |conn| Ok::<_, DbError>(on!(conn, c => sql_query(sql).load(c))?))
            .await
            .expect("the history can be read")
    }

    /// Messages that could not be read, oldest first.
    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let sql = "SELECT topic, partition, error FROM dead_letter ORDER BY seq";
        self.database()
            .read(move |conn| Ok::<_, DbError>(on!(conn, c => sql_query(sql).load(c))?))
            .await
            .expect("the dead letters can be read")
    }
}
