//! The first pass over a file.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::{file_of, file_with, gzipped};
use crate::dataset::batches::batches;
use crate::dataset::catalogue::{Catalogue, survey};
use crate::dataset::source::COLUMNS;

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
    let text = format!("{}\n{}", COLUMNS.join(","), format!("1,22423,A,1,{AT},1,\n").repeat(500));
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
