//! The other direction: real invoices placed as orders, some for more than there is, some cancelled again.

use std::collections::{BTreeMap, HashSet};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use order_service::orders::Customer;

use super::client::{Client, PlaceOutcome};
use super::play;
use super::progress::Progress;
use crate::dataset::{self, Batch, Catalogue, Source};
use crate::stack::Stack;

/// Invoices that are placed as orders.
const MAX_ORDERS: usize = 600;
/// Of those, how many want a product that sells out before their order arrives at its owner.
const LATE_ORDERS: usize = 12;
/// One order in this many is cancelled, right after it was placed.
const CANCEL_EVERY: usize = 40;
/// Orders that are placed at the same time: those that arrive together are committed together.
const AT_ONCE: usize = 32;
/// Lines of one delivery at the most.
const MAX_DELIVERY: usize = 1_000;

/// An invoice as an order: pieces by SKU, sales only.
#[derive(Debug, Clone)]
struct Invoice {
    /// Who has no name is named by the invoice.
    customer: String,
    pieces: BTreeMap<String, i64>,
}

/// Orders that have been placed.
#[derive(Debug, Default)]
pub(crate) struct PlacedOrders {
    /// Their ids.
    pub(crate) ids: Vec<String>,
    /// Events that gave up on the way and were retried.
    pub(crate) retried: u64,
}

/// Delivers what the invoices need, places them as orders, and waits until each has its answer.
pub(crate) async fn place_orders(
    client: &Client,
    stack: &Stack,
    source: &Source,
    limit: Option<u64>,
    survey: &Catalogue,
    progress: &Progress,
) -> anyhow::Result<PlacedOrders> {
    let invoices = invoices(source, limit, survey)?;
    let mut placed = PlacedOrders::default();
    let Some((last, _)) = invoices.split_last() else { return Ok(placed) };
    progress.note(&format!(
        "Delivering what {} invoices need, to place them as orders.",
        invoices.len()
    ));
    deliver(client, &invoices, progress).await?;
    play::wait_until_processed(stack).await?;
    let late = LATE_ORDERS.min(invoices.len() / 2);
    let (early, late) = invoices.split_at(invoices.len() - late);
    progress.note(&format!(
        "Placing {} orders; each {CANCEL_EVERY}th is cancelled at once.",
        early.len()
    ));
    placed.ids.extend(place(client, early).await?);
    let sku = last.pieces.keys().next().context("an invoice without lines")?;
    placed.ids.extend(sell_out(client, stack, sku, late, progress).await?);
    placed.retried = play::retry_until_processed(client, stack).await?;
    play::wait_for_answers(client).await?;
    Ok(placed)
}

/// The first invoices that sell something that there is.
fn invoices(
    source: &Source,
    limit: Option<u64>,
    survey: &Catalogue,
) -> anyhow::Result<Vec<Invoice>> {
    let skus: HashSet<&str> = survey.products.iter().map(|product| product.sku.as_str()).collect();
    let mut invoices = Vec::new();
    for batch in dataset::batches(source, limit)? {
        let mut invoice = Invoice::of(&batch?);
        invoice.pieces.retain(|sku, _| skus.contains(sku.as_str()));
        if !invoice.pieces.is_empty() {
            invoices.push(invoice);
        }
        if invoices.len() == MAX_ORDERS {
            break;
        }
    }
    Ok(invoices)
}

impl Invoice {
    fn of(batch: &Batch) -> Self {
        let mut pieces = BTreeMap::new();
        for line in batch.lines.iter().filter(|line| line.quantity > 0) {
            *pieces.entry(line.sku.clone()).or_insert(0) += line.quantity;
        }
        let named = batch.lines.iter().find_map(|line| line.customer.as_deref());
        // Spreadsheets make a number with a fraction of it.
        let named = named.map(|name| name.strip_suffix(".0").unwrap_or(name));
        let customer = named
            .filter(|name| Customer::try_from((*name).to_owned()).is_ok())
            .unwrap_or(&batch.invoice);
        Self { customer: customer.to_owned(), pieces }
    }
}

async fn deliver(client: &Client, invoices: &[Invoice], progress: &Progress) -> anyhow::Result<()> {
    let mut needed: BTreeMap<&str, i64> = BTreeMap::new();
    for (sku, pieces) in invoices.iter().flat_map(|invoice| &invoice.pieces) {
        *needed.entry(sku).or_default() += pieces;
    }
    let lines: Vec<(&str, i64)> = needed.into_iter().collect();
    for (number, lines) in lines.chunks(MAX_DELIVERY).enumerate() {
        client.deliver(lines, &format!("delivery {number}")).await?;
        progress.committed(lines.len() as u64);
    }
    Ok(())
}

async fn place(client: &Client, invoices: &[Invoice]) -> anyhow::Result<Vec<String>> {
    let placed: Vec<Option<String>> = stream::iter(invoices.iter().enumerate())
        .map(async |(number, invoice)| {
            let PlaceOutcome::Order(id) = client.place(&invoice.customer, &invoice.pieces).await?
            else {
                return Ok(None);
            };
            if number % CANCEL_EVERY == CANCEL_EVERY - 1 {
                client.cancel(&id).await?;
            }
            anyhow::Ok(Some(id))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(placed.into_iter().flatten().collect())
}

/// Sells a product out at its owner while the copy is in quarantine: orders for it are accepted here and rejected
/// there.
async fn sell_out(
    client: &Client,
    stack: &Stack,
    sku: &str,
    invoices: &[Invoice],
    progress: &Progress,
) -> anyhow::Result<Vec<String>> {
    play::wait_until_processed(stack).await?;
    play::wait_for_answers(client).await?;
    let Some(stock) = client.stock(sku).await?.filter(|stock| *stock > 0) else {
        return place(client, invoices).await;
    };
    progress.note(&format!(
        "{sku} sells out while the copy is cut off: orders for it are rejected by its owner."
    ));
    client.quarantine(sku).await?;
    client.deliver(&[(sku, -stock)], "sold out").await?;
    let wanted: Vec<Invoice> = invoices
        .iter()
        .map(|invoice| {
            let mut invoice = invoice.clone();
            invoice.pieces.entry(sku.to_owned()).or_insert(1);
            invoice
        })
        .collect();
    let ids = place(client, &wanted).await?;
    play::wait_for_answers(client).await?;
    client.release(sku).await?;
    Ok(ids)
}
