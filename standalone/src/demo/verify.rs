//! The proof, read from the two databases: both inventory tables row by row, and how every event ended.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::Context;
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::ids::EventId;
use common::on;
use common::schema::{outbox_event, outbox_open, outbox_settled};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use hdrhistogram::Histogram;

use super::orders::PlacedOrders;
use crate::dataset::Catalogue;
use crate::stack::Stack;

/// What the databases say.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Changes that this run committed.
    pub(crate) changes: u64,
    /// Those of them that are PROCESSED.
    pub(crate) processed: u64,
    /// Events of any run and of either service that are not settled.
    pub(crate) open: u64,
    /// SKUs that differ between the tables, the first few of them.
    pub(crate) differences: Vec<String>,
    /// Rows compared.
    pub(crate) products: usize,
    /// This run's orders by their final status.
    pub(crate) orders: BTreeMap<String, u64>,
    /// SKUs whose stock is not what opening stock, adjustments and confirmed orders make, the first few of them.
    pub(crate) stock_differences: Vec<String>,
    /// Commit → acknowledged, in microseconds, but for the opening stock, which waited until the consumers had joined.
    pub(crate) latency: Histogram<u64>,
}

#[derive(Debug, PartialEq, Eq, QueryableByName)]
struct InventoryRow {
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = BigInt)]
    quantity: i64,
    #[diesel(sql_type = BigInt)]
    unit_price_minor: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

/// Looks at both databases; `since` is when the run began, `opened` when the opening stock had arrived.
pub(crate) async fn verify(
    stack: &Stack,
    since: Timestamp,
    opened: Timestamp,
    survey: &Catalogue,
    placed: &PlacedOrders,
) -> anyhow::Result<Findings> {
    let source =
        inventory(&stack.product.engine().db).await.context("product-service's inventory")?;
    let copy = inventory(&stack.order.engine().db).await.context("order-service's inventory")?;
    let differences = differences(&source, &copy);
    let db = &stack.product.engine().db;
    let (changes, open, times) = db.read(move |conn| event_totals(conn, since)).await?;
    let (_, open_commands, _) =
        stack.order.engine().db.read(move |conn| event_totals(conn, since)).await?;
    let mut latency = Histogram::new(3).context("no histogram can be made")?;
    for (created, settled) in times.iter().filter(|(created, _)| *created >= opened) {
        latency.record(u64::try_from(settled.since(*created).as_micros())?)?;
    }
    Ok(Findings {
        changes,
        processed: times.len() as u64,
        open: open + open_commands,
        differences,
        products: source.len(),
        orders: orders_by_status(&stack.order.engine().db, placed).await?,
        stock_differences: stock_differences(stack, since, survey, &source).await?,
        latency,
    })
}

#[derive(QueryableByName)]
struct NamedNumber {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

async fn numbers_by_name(db: &Db, sql: String) -> anyhow::Result<BTreeMap<String, i64>> {
    let rows: Vec<NamedNumber> =
        db.read(move |conn| anyhow::Ok(on!(conn, c => sql_query(sql).load(c))?)).await?;
    Ok(rows.into_iter().map(|row| (row.name, row.number)).collect())
}

/// The final states of the orders that were placed, read one by one: all of them must be there.
async fn orders_by_status(db: &Db, placed: &PlacedOrders) -> anyhow::Result<BTreeMap<String, u64>> {
    let cast = "CAST(id AS TEXT) AS name";
    let statuses =
        ["PENDING", "CONFIRMED", "REJECTED", "CANCELLING", "CANCELLED", "NEEDS_ATTENTION"];
    let mut found: BTreeMap<String, &str> = BTreeMap::new();
    for status in statuses {
        let sql = format!(
            "SELECT {cast}, CAST(1 AS BIGINT) AS number FROM orders WHERE status = '{status}'"
        );
        found.extend(numbers_by_name(db, sql).await?.into_keys().map(|id| (id, status)));
    }
    let mut orders: BTreeMap<String, u64> = BTreeMap::new();
    for id in &placed.ids {
        let status = found.get(id).with_context(|| format!("the order {id} is lost"))?;
        *orders.entry((*status).to_owned()).or_default() += 1;
    }
    Ok(orders)
}

/// Opening stock + adjustments − confirmed orders must be the stock of every product.
async fn stock_differences(
    stack: &Stack,
    since: Timestamp,
    survey: &Catalogue,
    source: &[InventoryRow],
) -> anyhow::Result<Vec<String>> {
    let since = since.micros();
    let adjusted = numbers_by_name(
        &stack.product.engine().db,
        format!(
            "SELECT sku AS name, CAST(sum(delta) AS BIGINT) AS number FROM adjustment WHERE at_us >= {since} GROUP BY sku"
        ),
    );
    let confirmed = numbers_by_name(
        &stack.order.engine().db,
        format!(
            "SELECT l.sku AS name, CAST(sum(l.quantity) AS BIGINT) AS number FROM order_line l \
             JOIN orders o ON o.id = l.order_id \
             WHERE o.status = 'CONFIRMED' AND o.placed_us >= {since} GROUP BY l.sku"
        ),
    );
    let (adjusted, confirmed) = (adjusted.await?, confirmed.await?);
    let stock: BTreeMap<&str, i64> =
        source.iter().map(|row| (row.sku.as_str(), row.quantity)).collect();
    let of = |numbers: &BTreeMap<String, i64>, sku: &str| numbers.get(sku).copied().unwrap_or(0);
    let wrong = survey.products.iter().filter_map(|product| {
        let sku = product.sku.as_str();
        let expected = product.opening_stock + of(&adjusted, sku) - of(&confirmed, sku);
        let there = stock.get(sku).copied();
        (there != Some(expected)).then(|| format!("{sku}: {there:?} instead of {expected}"))
    });
    Ok(wrong.collect())
}

async fn inventory(db: &Db) -> anyhow::Result<Vec<InventoryRow>> {
    let sql = "SELECT sku, description, quantity, unit_price_minor, version FROM inventory";
    let mut rows: Vec<InventoryRow> =
        db.read(move |conn| anyhow::Ok(on!(conn, c => sql_query(sql).load(c))?)).await?;
    // Sorted here: the two databases may collate differently.
    rows.sort_unstable_by(|a, b| a.sku.cmp(&b.sku));
    Ok(rows)
}

/// When each event was created and when it was settled.
type Times = Vec<(Timestamp, Timestamp)>;

/// Events made since `since`, events that are open, and the times of the settled ones.
fn event_totals(conn: &mut Conn, since: Timestamp) -> anyhow::Result<(u64, u64, Times)> {
    let first = EventId::first_at(since);
    let (changes, open, times): (i64, i64, Times) = on!(conn, c => (
        outbox_event::table.filter(outbox_event::id.ge(first)).count().get_result(c)?,
        outbox_open::table.count().get_result(c)?,
        outbox_event::table
            .inner_join(outbox_settled::table.on(outbox_settled::id.eq(outbox_event::id)))
            .filter(outbox_event::id.ge(first))
            .select((outbox_event::created_us, outbox_settled::settled_us))
            .load(c)?,
    ));
    Ok((u64::try_from(changes)?, u64::try_from(open)?, times))
}

/// The SKUs whose rows are not the same on both sides; both are sorted by SKU.
fn differences(source: &[InventoryRow], copy: &[InventoryRow]) -> Vec<String> {
    let (mut source, mut copy) = (source.iter().peekable(), copy.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (source.peek(), copy.peek()) {
            (Some(a), Some(b)) => a.sku.cmp(&b.sku),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return found,
        };
        let left = if order.is_le() { source.next() } else { None };
        let right = if order.is_ge() { copy.next() } else { None };
        if left != right {
            found.push(format!("source {left:?}, copy {right:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sku: &str, quantity: i64) -> InventoryRow {
        InventoryRow {
            sku: sku.to_owned(),
            description: String::new(),
            quantity,
            unit_price_minor: 1,
            version: 1,
        }
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let source = [row("A", 1), row("B", 2), row("D", 4)];
        assert!(differences(&source, &[row("A", 1), row("B", 2), row("D", 4)]).is_empty());
        assert_eq!(differences(&source, &[row("A", 1), row("B", 3), row("D", 4)]).len(), 1);
        assert_eq!(differences(&source, &[row("A", 1), row("C", 2)]).len(), 3);
        assert_eq!(differences(&[], &[row("A", 1)]).len(), 1);
    }
}
