//! The first pass: which products a sales file holds, and the stock they need to start with.

use std::collections::{BTreeMap, HashMap};

use super::batches::take_rows;
use super::tally::Tally;
use super::{DatasetError, Reason, Refused, SalesLine, SalesLines, Source};

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
    /// Lines that can't, counted by [`Reason::category`].
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
    let mut sketches = HashMap::new();
    for line in take_rows(SalesLines::open(source)?, limit) {
        match line {
            Ok(line) => sketch(&mut sketches, line, &mut catalogue.accepted),
            Err(refused) => catalogue.refuse(source, refused)?,
        }
        catalogue.rows += 1;
    }
    catalogue.products = sketches.into_iter().map(Sketch::finish).collect();
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

/// Lets a refused line pass, and turns the end of a broken source into its error.
pub(super) fn unless_fatal(source: &Source, refused: Refused) -> Result<Refused, DatasetError> {
    match refused.reason {
        Reason::Unreadable { message } => {
            Err(DatasetError::Unreadable { origin: source.clone(), line: refused.line, message })
        }
        reason => Ok(Refused { reason, ..refused }),
    }
}

/// What is known of a product so far.
#[derive(Debug, Default)]
struct Sketch {
    sold_as: Tally<String>,
    otherwise_called: Tally<String>,
    prices: Tally<i64>,
    balance: i64,
    lowest: i64,
}

fn sketch(sketches: &mut HashMap<String, Sketch>, line: SalesLine, accepted: &mut u64) {
    *accepted += 1;
    let delta = line.delta();
    let product = sketches.entry(line.sku).or_default();
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

impl Sketch {
    fn finish((sku, sketch): (String, Self)) -> Product {
        let called = sketch.sold_as.top().or(sketch.otherwise_called.top());
        Product {
            description: called.unwrap_or(&sku).clone(),
            unit_price_minor: sketch.prices.top().copied().unwrap_or(0),
            opening_stock: -sketch.lowest,
            net_delta: sketch.balance,
            sku,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::sales::tests::{file_of, file_with, gzipped};
    use super::super::{COLUMNS, batches};
    use super::*;

    const AT: &str = "2010-12-01T08:26:00";

    #[test]
    fn a_product_is_called_what_its_priced_lines_call_it() {
        let (_file, source) = file_of(&[
            "1,22423,faulty,1,2010-12-01T08:26:00,0,7",
            "1,22423,faulty,1,2010-12-01T08:26:00,0,7",
            "1,22423,CAKESTAND,1,2010-12-01T08:26:00,10.95,7",
            "1,22423,,1,2010-12-01T08:26:00,12.75,7",
            "1,22423,CAKESTAND 3 TIER,1,2010-12-01T08:26:00,12.75,",
            "1,22423,CAKESTAND 3 TIER,1,2010-12-01T08:26:00,9,",
            "1,22424,GIFT,1,2010-12-01T08:26:00,0,7",
            "1,22425,,1,2010-12-01T08:26:00,1,7",
        ]);
        let products = survey(&source, None).unwrap().products;
        let found: Vec<_> = products
            .iter()
            .map(|p| (p.sku.as_str(), p.description.as_str(), p.unit_price_minor))
            .collect();
        let expected =
            [("22423", "CAKESTAND 3 TIER", 1275), ("22424", "GIFT", 0), ("22425", "22425", 100)];
        assert_eq!(found, expected);
    }

    #[test]
    fn opening_stock_covers_the_lowest_point_and_no_more() {
        let (_file, source) = file_of(&[
            &format!("1,22423,A,5,{AT},1,"),
            &format!("C2,22423,A,-4,{AT},1,"),
            &format!("3,22423,A,6,{AT},1,"),
            &format!("C4,22423,A,-20,{AT},1,"),
            &format!("C5,22424,B,-3,{AT},1,"),
        ]);
        let products = survey(&source, None).unwrap().products;
        let found: Vec<_> = products.iter().map(|p| (p.opening_stock, p.net_delta)).collect();
        assert_eq!(found, [(7, 13), (0, 3)]);
    }

    #[test]
    fn refused_lines_are_counted_and_shown() {
        let post = format!("1,POST,POSTAGE,1,{AT},18,7");
        let (_file, source) =
            file_of(&[&post, &post, "x", &post, &post, &format!("1,22423,A,1,{AT},1,")]);
        let catalogue = survey(&source, None).unwrap();
        assert_eq!((catalogue.rows, catalogue.accepted), (6, 1));
        let expected = BTreeMap::from([("not a product", 4), ("wrong number of columns", 1)]);
        assert_eq!(catalogue.refused, expected);
        let lines: Vec<_> = catalogue.examples.iter().map(|refused| refused.line).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
    }

    #[test]
    fn a_limit_counts_lines_read() {
        let good = format!("1,22423,A,1,{AT},1,");
        let (_file, source) = file_of(&["x", &good, &good, &good]);
        let catalogue = survey(&source, Some(3)).unwrap();
        assert_eq!((catalogue.rows, catalogue.accepted), (3, 2));
        assert_eq!(survey(&source, Some(0)).unwrap(), Catalogue::default());
    }

    #[test]
    fn a_cut_off_file_is_an_error_not_a_short_catalogue() {
        let text =
            format!("{}\n{}", COLUMNS.join(","), format!("1,22423,A,1,{AT},1,\n").repeat(500));
        let mut bytes = gzipped(text.as_bytes());
        bytes.truncate(bytes.len() - 9);
        let (_file, source) = file_with(&bytes);
        let error = survey(&source, None).unwrap_err().to_string();
        assert!(error.contains("can't be read beyond line"), "{error}");
        assert!(batches(&source, None).unwrap().any(|batch| batch.is_err()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_running_stock_never_goes_below_zero(
            sales in proptest::collection::vec((0u8..4, -50i64..50, 0u8..3), 0..200)
        ) {
            let lines: Vec<String> = sales
                .iter()
                .map(|(sku, quantity, invoice)| format!("{invoice},1000{sku},A,{quantity},{AT},1,"))
                .collect();
            let (_file, source) = file_of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let catalogue = survey(&source, None).unwrap();
            let mut stock: HashMap<String, i64> = catalogue
                .products
                .iter()
                .map(|product| (product.sku.clone(), product.opening_stock))
                .collect();
            let mut lowest = stock.clone();
            for batch in batches(&source, None).unwrap() {
                for line in batch.unwrap().lines {
                    let left = stock.get_mut(&line.sku).unwrap();
                    *left += line.delta();
                    prop_assert!(*left >= 0);
                    let low = lowest.get_mut(&line.sku).unwrap();
                    *low = (*low).min(*left);
                }
            }
            for product in &catalogue.products {
                prop_assert_eq!(stock[&product.sku], product.opening_stock + product.net_delta);
                prop_assert!(product.opening_stock == 0 || lowest[&product.sku] == 0);
            }
        }
    }
}
