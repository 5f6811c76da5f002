//! The first pass: which products a sales file holds, and the stock they need to start with.

use std::collections::{BTreeMap, HashMap};

use super::reader::{playable_lines, unless_fatal};
use super::refusal::Refused;
use super::sale::SalesLine;
use super::source::{DatasetError, Source};
use super::tally::Tally;

/// How many refused lines of each category are kept as examples.
pub(crate) const EXAMPLES: u64 = 3;

/// A product as the sales lines describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Product {
    /// The code as it stands in the file, case included.
    pub(crate) sku: String,
    /// What most of its lines with a price call it (lines without one hold remarks such as "damages"); the SKU
    /// itself where no line says.
    pub(crate) description: String,
    /// Its most frequent price in pence; 0 where it was never sold for money.
    pub(crate) unit_price_minor: i64,
    /// The least stock at the start with which no played line takes the stock below 0. Never negative.
    pub(crate) opening_stock: i64,
    /// What the played lines add up to; negative where more was sold than returned.
    pub(crate) net_delta: i64,
}

/// What one pass over a file found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Catalogue {
    /// Every product with at least one playable line, in order of SKU.
    pub(crate) products: Vec<Product>,
    /// Lines read, without the header.
    pub(crate) rows: u64,
    /// Lines that can be played.
    pub(crate) accepted: u64,
    /// Lines that can't, counted by [`category`](super::refusal::Reason::category).
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// The first [`EXAMPLES`] refused lines of each category, in the file's order.
    pub(crate) examples: Vec<Refused>,
}

/// Passes over a source once and collects its products.
///
/// `limit` is the number of lines to read, the header not counted; `None` reads them all. Memory grows with the
/// number of products, not with the number of lines.
///
/// # Errors
/// [`DatasetError`] if the source can't be opened, has no proper header, or breaks off.
pub(crate) fn survey(source: &Source, limit: Option<u64>) -> Result<Catalogue, DatasetError> {
    let mut catalogue = Catalogue::default();
    let mut stats = HashMap::new();
    for line in playable_lines(source, limit)? {
        match line {
            Ok(line) => count_line(&mut stats, line, &mut catalogue.accepted),
            Err(refused) => catalogue.refuse(source, refused)?,
        }
        catalogue.rows += 1;
    }
    catalogue.products = stats.into_iter().map(ProductStats::finish).collect();
    catalogue.products.sort_by(|a, b| a.sku.cmp(&b.sku));
    Ok(catalogue)
}

impl Catalogue {
    fn refuse(&mut self, source: &Source, refused: Refused) -> Result<(), DatasetError> {
        let refused = unless_fatal(source, refused)?;
        let count = self.refused.entry(refused.reason.category()).or_default();
        *count += 1;
        if *count <= EXAMPLES {
            self.examples.push(refused);
        }
        Ok(())
    }
}

/// What is known of a product so far.
#[derive(Debug, Default)]
struct ProductStats {
    sold_as: Tally<String>,
    otherwise_called: Tally<String>,
    prices: Tally<i64>,
    balance: i64,
    lowest: i64,
}

fn count_line(stats: &mut HashMap<String, ProductStats>, line: SalesLine, accepted: &mut u64) {
    *accepted += 1;
    let delta = line.delta();
    let product = stats.entry(line.sku).or_default();
    product.balance += delta;
    product.lowest = product.lowest.min(product.balance);
    let priced = line.unit_price_minor > 0;
    if priced {
        product.prices.add(line.unit_price_minor);
    }
    if let Some(description) = line.description {
        let names = if priced { &mut product.sold_as } else { &mut product.otherwise_called };
        names.add(description);
    }
}

impl ProductStats {
    fn finish((sku, stats): (String, Self)) -> Product {
        let called = stats.sold_as.top().or(stats.otherwise_called.top());
        Product {
            description: called.unwrap_or(&sku).clone(),
            unit_price_minor: stats.prices.top().copied().unwrap_or(0),
            opening_stock: -stats.lowest,
            net_delta: stats.balance,
            sku,
        }
    }
}
