//! The replay: opening stock, every sales line in order, a fault on the way and its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};

use super::client::{Client, Counts};
use super::progress::Progress;
use crate::dataset::{self, Batch, Catalogue, Source};
use crate::stack::Stack;

/// Products that are put in at the same time.
const PUTS_AT_ONCE: usize = 16;
/// How long the demo waits for one thing before it gives up.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it looks meanwhile.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// What became of the sales lines.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// Lines that changed the stock.
    pub(crate) accepted: u64,
    /// Lines that product-service refused, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// The first few of them, with their line numbers.
    pub(crate) examples: Vec<String>,
    /// The SKU that is in quarantine.
    pub(crate) quarantined: Option<String>,
}

/// Sends the first product round the loop, so that what follows measures the loop and not its start.
pub(crate) async fn warm_up(
    client: &Client,
    stack: &Stack,
    survey: &Catalogue,
    progress: &Progress,
) -> anyhow::Result<()> {
    let Some(product) = survey.products.first() else { return Ok(()) };
    progress
        .note("Waiting until the consumers have joined and one change has gone all the way round.");
    client.put_product(product).await?;
    progress.committed(1);
    wait_until_processed(client, stack).await
}

/// Puts every product but the first in with its opening stock.
pub(crate) async fn put_products(
    client: &Client,
    survey: &Catalogue,
    progress: &Progress,
) -> anyhow::Result<()> {
    progress
        .note(&format!("Putting in {} products with their opening stock.", survey.products.len()));
    stream::iter(survey.products.iter().skip(1))
        .map(async |product| {
            client.put_product(product).await?;
            progress.committed(1);
            Ok(())
        })
        .buffer_unordered(PUTS_AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

/// Plays every line, in order, invoice by invoice; a third of the way in, one SKU goes into quarantine.
pub(crate) async fn play_sales(
    client: &Client,
    source: &Source,
    limit: Option<u64>,
    survey: &Catalogue,
    progress: &Progress,
) -> anyhow::Result<Played> {
    progress.note(&format!("Playing {} sales lines as stock adjustments.", survey.accepted));
    let mut played = Played::default();
    let mut lines = 0;
    for batch in dataset::batches(source, limit)? {
        let batch = batch?;
        if played.quarantined.is_none() && lines >= survey.accepted / 3 {
            played.quarantined = Some(quarantine(client, &batch, progress).await?);
        }
        lines += batch.lines.len() as u64;
        play_batch(client, &batch, &mut played, progress).await?;
    }
    Ok(played)
}

async fn quarantine(client: &Client, batch: &Batch, progress: &Progress) -> anyhow::Result<String> {
    let line = batch.lines.first().context("an invoice without lines")?;
    client.quarantine(&line.sku).await?;
    progress.note(&format!(
        "order-service puts {} into quarantine: its changes fail, are tried again, and in the end wait for a person.",
        line.sku
    ));
    Ok(line.sku.clone())
}

async fn play_batch(
    client: &Client,
    batch: &Batch,
    played: &mut Played,
    progress: &Progress,
) -> anyhow::Result<()> {
    let results = client.adjust(batch).await?;
    if results.len() != batch.lines.len() {
        bail!(
            "invoice {} has {} lines, but {} answers came",
            batch.invoice,
            batch.lines.len(),
            results.len()
        );
    }
    let accepted = results.iter().filter(|result| result.status == "accepted").count() as u64;
    played.accepted += accepted;
    progress.committed(accepted);
    for result in results {
        let (Some(problem), Some(line)) = (result.problem, batch.lines.get(result.line)) else {
            continue;
        };
        *played.refused.entry(problem.title).or_default() += 1;
        if played.examples.len() < 3 {
            played.examples.push(format!("line {}: {}", line.line, problem.detail));
        }
    }
    Ok(())
}

/// Waits for the alert's mail, ends the quarantine and retries what gave up, as an operator would; how many that were.
pub(crate) async fn end_quarantine(
    client: &Client,
    stack: &Stack,
    played: &Played,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let Some(sku) = &played.quarantined else { return Ok(0) };
    wait_until("an alert mail", async || Ok(!stack.catcher.mails().is_empty())).await?;
    // All changes of that SKU have to give up first, so that there is something to retry whatever the timing.
    wait_for_counts("everything else to arrive", client, stack, |counts| {
        counts.pending + counts.sent == 0
    })
    .await?;
    progress.note(&format!("The operator has mail, and releases {sku}."));
    client.release(sku).await?;
    let retried = retry_exhausted(client).await?;
    progress.note(&format!("{retried} changes had given up and are retried."));
    Ok(retried)
}

/// Retries every EXHAUSTED event, as an operator would; how many needed it.
pub(crate) async fn retry_exhausted(client: &Client) -> anyhow::Result<u64> {
    let mut retried = 0;
    let mut after = None;
    loop {
        let page = client.exhausted(after.as_deref()).await?;
        for event in &page.items {
            retried += u64::from(client.retry(&event.id).await?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(retried);
        }
    }
}

/// Waits until every order has its answer.
pub(crate) async fn wait_for_answers(client: &Client) -> anyhow::Result<()> {
    wait_until("every order to be answered", async || {
        Ok(!client.any_order("PENDING").await? && !client.any_order("CANCELLING").await?)
    })
    .await
}

/// Waits until every change is PROCESSED.
pub(crate) async fn wait_until_processed(client: &Client, stack: &Stack) -> anyhow::Result<()> {
    wait_for_counts("every change to be PROCESSED", client, stack, |counts| {
        counts.pending + counts.sent + counts.exhausted + counts.resolved == 0
    })
    .await
}

/// Waits for counts that were taken after now: the overview shows a sample that may be a second old.
async fn wait_for_counts(
    what: &str,
    client: &Client,
    stack: &Stack,
    done: impl Fn(&Counts) -> bool,
) -> anyhow::Result<()> {
    let asked_at = stack.product.engine().env.now();
    wait_until(what, async || {
        let overview = client.overview().await?;
        Ok(overview.as_of > asked_at && done(&overview.events))
    })
    .await
}

async fn wait_until(
    what: &str,
    mut done: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !done().await? {
        if Instant::now() > deadline {
            bail!(
                "waited {} s for {what} in vain; the operators' pages show what is stuck and why",
                WAIT_TIMEOUT.as_secs()
            );
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    Ok(())
}
