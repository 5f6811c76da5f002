//! The replay: opening stock, every sales line in order, a fault on the way and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use engine::stats::Sample;
use futures::{StreamExt, TryStreamExt, stream};

use super::client::{Client, Problem};
use super::progress::Progress;
use crate::dataset::{self, Catalogue, EXAMPLES, Product, SalesLine, Source};
use crate::stack::Stack;

/// Products that are put in at the same time: those that arrive together are committed together.
const PUTS_AT_ONCE: usize = 64;
/// Lines of one request, unless one invoice has more: each request waits for a commit, and the next one for that.
const LINES_AT_ONCE: usize = 250;
/// How long the demo waits for one thing before it gives up.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it looks meanwhile.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// What became of the sales lines.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// Lines that changed the stock.
    pub(crate) accepted: u64,
    /// Lines that product-service refused, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// The first few of each reason, with their line numbers.
    pub(crate) examples: Vec<String>,
    /// Products that it refused, and why: none of their lines is played.
    refused_products: RefusedProducts,
    /// The SKU that is in quarantine.
    pub(crate) quarantined: Option<String>,
}

/// SKUs that product-service refuses, and why.
pub(crate) type RefusedProducts = BTreeMap<String, Problem>;

impl Played {
    /// Nothing yet.
    pub(crate) fn new(refused_products: RefusedProducts) -> Self {
        Self { refused_products, ..Self::default() }
    }

    /// Leaves the lines of refused products out, and counts them.
    fn without_refused_products(&mut self, lines: Vec<SalesLine>) -> Vec<SalesLine> {
        let (refused, lines): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| self.refused_products.contains_key(&line.sku));
        self.refuse_lines_of_products(refused);
        lines
    }

    fn refuse_lines_of_products(&mut self, lines: Vec<SalesLine>) {
        for line in lines {
            if let Some(problem) = self.refused_products.get(&line.sku).cloned() {
                self.refuse(line.line, problem);
            }
        }
    }

    fn refuse(&mut self, line: u64, problem: Problem) {
        let count = self.refused.entry(problem.title).or_default();
        *count += 1;
        if *count <= EXAMPLES {
            self.examples.push(format!("line {line}: {}", problem.detail));
        }
    }
}

/// Puts every product in with its opening stock, and waits until all of them have gone round the loop; the products that are
/// refused. What follows measures the loop and not its start: the consumers join their groups meanwhile.
pub(crate) async fn put_products(
    client: &Client,
    stack: &Stack,
    survey: &Catalogue,
    progress: &Progress,
) -> anyhow::Result<RefusedProducts> {
    progress.note(&format!(
        "Putting in {} products with their opening stock, while the consumers join.",
        survey.products.len()
    ));
    let put: Vec<Option<(String, Problem)>> = stream::iter(&survey.products)
        .map(async |product| put_product(client, product, progress).await)
        .buffer_unordered(PUTS_AT_ONCE)
        .try_collect()
        .await?;
    progress.note("Waiting until all of them have gone all the way round.");
    wait_until_processed(stack).await?;
    Ok(put.into_iter().flatten().collect())
}

/// The product and why, if it is refused.
async fn put_product(
    client: &Client,
    product: &Product,
    progress: &Progress,
) -> anyhow::Result<Option<(String, Problem)>> {
    let refusal = client.put_product(product).await?;
    if refusal.is_none() {
        progress.committed(1);
    }
    Ok(refusal.map(|problem| (product.sku.clone(), problem)))
}

/// Plays every line, in order, some invoices in one request; a third of the way in, one SKU goes into quarantine.
pub(crate) async fn play_sales(
    client: &Client,
    source: &Source,
    limit: Option<u64>,
    survey: &Catalogue,
    refused_products: RefusedProducts,
    progress: &Progress,
) -> anyhow::Result<Played> {
    progress.note(&format!("Playing {} sales lines as stock adjustments.", survey.accepted));
    let mut played = Played::new(refused_products);
    let (mut read, mut together) = (0, Vec::new());
    for batch in dataset::batches(source, limit)? {
        let batch = batch?;
        let is_time = read >= survey.accepted / 3;
        read += batch.lines.len() as u64;
        let mut lines = played.without_refused_products(batch.lines);
        let is_quarantine = is_time && played.quarantined.is_none();
        if is_quarantine || together.len() + lines.len() > LINES_AT_ONCE {
            play_lines(client, &std::mem::take(&mut together), &mut played, progress).await?;
        }
        match lines.first() {
            Some(line) if is_quarantine => {
                let sku = line.sku.clone();
                play_in_quarantine(client, &lines, sku, &mut played, progress).await?;
            }
            _ => together.append(&mut lines),
        }
    }
    play_lines(client, &together, &mut played, progress).await?;
    Ok(played)
}

/// Plays lines with the SKU of the first one in quarantine, which stays there if that line changes its stock.
async fn play_in_quarantine(
    client: &Client,
    lines: &[SalesLine],
    sku: String,
    played: &mut Played,
    progress: &Progress,
) -> anyhow::Result<()> {
    client.quarantine(&sku).await?;
    if !play_lines(client, lines, played, progress).await? {
        return client.release(&sku).await;
    }
    progress.note(&format!(
        "order-service has {sku} in quarantine: its changes fail, are tried again, and in the end wait for a person."
    ));
    played.quarantined = Some(sku);
    Ok(())
}

/// Plays lines in one request; whether the first one changed the stock.
async fn play_lines(
    client: &Client,
    lines: &[SalesLine],
    played: &mut Played,
    progress: &Progress,
) -> anyhow::Result<bool> {
    let Some(first) = lines.first() else { return Ok(false) };
    let results = client.adjust(lines).await?;
    if results.len() != lines.len() {
        bail!(
            "{} lines were played from line {} on, but {} answers came",
            lines.len(),
            first.line,
            results.len()
        );
    }
    let accepted = results.iter().filter(|result| result.status == "accepted").count() as u64;
    let first_changed = results.iter().any(|result| result.line == 0 && result.problem.is_none());
    played.accepted += accepted;
    progress.committed(accepted);
    for result in results {
        if let (Some(problem), Some(line)) = (result.problem, lines.get(result.line)) {
            played.refuse(line.line, problem);
        }
    }
    Ok(first_changed)
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
    wait_for("everything else to arrive", stack, |sample| sample.waiting() == 0).await?;
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
pub(crate) async fn wait_until_processed(stack: &Stack) -> anyhow::Result<()> {
    wait_for("every change to be PROCESSED", stack, all_processed).await
}

/// The same, and retries what gives up meanwhile, as an operator would; how many that were.
pub(crate) async fn retry_until_processed(client: &Client, stack: &Stack) -> anyhow::Result<u64> {
    let mut retried = 0;
    wait_until("every change to be PROCESSED", async || {
        let sample = sample(stack).await?;
        if sample.exhausted + sample.resolved > 0 {
            retried += retry_exhausted(client).await?;
        }
        Ok(all_processed(&sample))
    })
    .await?;
    Ok(retried)
}

fn all_processed(sample: &Sample) -> bool {
    sample.waiting() + sample.exhausted + sample.resolved == 0
}

async fn wait_for(what: &str, stack: &Stack, done: impl Fn(&Sample) -> bool) -> anyhow::Result<()> {
    wait_until(what, async || Ok(done(&*sample(stack).await?))).await
}

/// How far the events of product-service are now: what its pages show may be a second old.
async fn sample(stack: &Stack) -> anyhow::Result<Arc<Sample>> {
    let engine = stack.product.engine();
    Ok(engine.sampler.run_once(&engine.db, &engine.env).await?)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: u64, sku: &str) -> SalesLine {
        SalesLine {
            line,
            invoice: "1".to_owned(),
            sku: sku.to_owned(),
            description: None,
            quantity: 1,
            sold_at: Default::default(),
            unit_price_minor: 1,
            customer: None,
        }
    }

    #[test]
    fn lines_of_a_refused_product_are_counted_and_named() {
        let problem =
            Problem { title: "A value is not allowed".to_owned(), detail: "too long".to_owned() };
        let mut played = Played::new(RefusedProducts::from([("B".to_owned(), problem)]));
        let lines = vec![line(2, "A"), line(3, "B"), line(4, "A"), line(5, "B")];
        let lines = played.without_refused_products(lines);
        let left: Vec<u64> = lines.iter().map(|line| line.line).collect();
        assert_eq!(left, [2, 4]);
        assert_eq!(played.refused, BTreeMap::from([("A value is not allowed".to_owned(), 2)]));
        assert_eq!(played.examples, ["line 3: too long", "line 5: too long"]);
    }
}
