//! Pins what the bundled data set holds, counted independently beforehand.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::dataset::{Source, batches, survey};

#[test]
fn the_bundled_data_set_has_its_known_totals() {
    let catalogue = survey(&Source::Bundled, None).unwrap();
    assert_eq!((catalogue.rows, catalogue.accepted), (50_999, 50_469));
    let refused = BTreeMap::from([("internal entry", 296), ("not a product", 234)]);
    assert_eq!(catalogue.refused, refused);
    assert_eq!(catalogue.products.len(), 2_851);
    let opening: i64 = catalogue.products.iter().map(|p| p.opening_stock).sum();
    let net: i64 = catalogue.products.iter().map(|p| p.net_delta).sum();
    assert_eq!((opening, net), (431_720, -423_266));
}

#[test]
fn every_bundled_product_has_a_description() {
    let products = survey(&Source::Bundled, None).unwrap().products;
    let bare: Vec<_> = products.iter().filter(|p| p.description == p.sku).collect();
    assert!(bare.is_empty(), "{bare:?}");
    let free = products.iter().filter(|p| p.unit_price_minor == 0).count();
    assert_eq!(free, 0);
    let holder = products.iter().find(|p| p.sku == "85123A").unwrap();
    assert_eq!(holder.description, "WHITE HANGING HEART T-LIGHT HOLDER");
    assert_eq!(holder.unit_price_minor, 295);
    assert!(products.iter().any(|p| p.sku == "85123a"));
}

#[test]
fn playing_the_bundled_data_set_never_runs_out_of_stock() {
    let catalogue = survey(&Source::Bundled, None).unwrap();
    let opening = catalogue.products.into_iter().map(|p| (p.sku, p.opening_stock));
    let mut stock: HashMap<_, _> = opening.collect();
    let (mut played, mut invoices) = (0, HashSet::new());
    for batch in batches(&Source::Bundled, None).unwrap() {
        let batch = batch.unwrap();
        played += batch.lines.len();
        assert!(invoices.insert(batch.invoice), "an invoice is split");
        for line in batch.lines {
            let left = stock.get_mut(&line.sku).unwrap();
            *left += line.delta();
            assert!(*left >= 0, "line {} takes {} below zero", line.line, line.sku);
        }
    }
    assert_eq!((played, invoices.len()), (50_469, 2_162));
}
