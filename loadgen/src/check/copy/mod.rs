//! I3 between the services: the copy equals its source, by key, version and content.
//!
//! Both tables are walked in the order of their keys, side by side. That finds the keys that may differ; each is then looked
//! at again in the order that proves it: the source, and whether an event of the key is on its way; the copy; the source
//! again. If nothing was on its way and the source stayed, the copy had what its consumer answered for, and differs.

mod facts;
mod judge;
mod rows;
mod walk;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use self::facts::Facts;
use self::judge::{Verdict, difference, judge};
use self::rows::{COPY, Row, View, rows_of, views};
use self::walk::compare;
use super::Terms;
use super::finding::{Finding, Invariant, Side};
use super::reader::Reader;
use super::report::Report;
use super::stock::State;
use super::suspects::Suspects;

/// Keys of one look.
const LOOKED_AT: usize = 200;

/// Between two looks at what moves.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks at all products and their copies; `consumer` is what the copy's service calls itself.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, consumer): (&Terms, &str),
    report: &mut Report,
) -> Result<()> {
    let facts = Facts::read(product, order, consumer)?;
    if let Some(why) = facts.hindrance() {
        report.could_not_look(why);
        return Ok(());
    }
    let mut suspects = Suspects::default();
    let compared = compare(product, order, |source, copy| {
        if difference(facts, source, copy).is_some()
            && let Some(row) = source.or(copy)
        {
            suspects.add(row.product.sku.clone());
        }
    })?;
    report.looked(Invariant::I3, Side::Product, "products, by their copies", compared.0);
    report.looked(Invariant::I3, Side::Order, "copies, by their products", compared.1);
    let suspects = suspects.take(Invariant::I3, "keys", report);
    look_again(product, order, suspects, (terms, consumer), report)
}

/// Looks at keys until nothing moves any more, or patience ends.
fn look_again(
    product: &mut Reader,
    order: &mut Reader,
    mut keys: Vec<String>,
    (terms, consumer): (&Terms, &str),
    report: &mut Report,
) -> Result<()> {
    let (began, mut waiting) = (Instant::now(), 0_u64);
    loop {
        let mut moving = Vec::new();
        for some in keys.chunks(LOOKED_AT) {
            let before = views(product, some)?;
            let copies = rows_of(order, COPY, some)?;
            let after = views(product, some)?;
            // What the services forgot, or emptied, up to the looks is known after them.
            let facts = Facts::read(product, order, consumer)?;
            if let Some(why) = facts.hindrance() {
                report.could_not_look(why);
                return Ok(());
            }
            for key in some {
                let (nothing, copy) = (View::default(), copies.get(key));
                let (before, after) =
                    (before.get(key).unwrap_or(&nothing), after.get(key).unwrap_or(&nothing));
                match judge(facts, before, copy, after) {
                    Verdict::Equal => {}
                    Verdict::Moving => moving.push(key.clone()),
                    Verdict::Waiting(_) => waiting += 1,
                    Verdict::Differs(kind) => {
                        let side = if copy.is_some() { Side::Order } else { Side::Product };
                        let (expected, found) = (words(after.row.as_ref()), words(copy));
                        report.tell(Finding::new(kind, side, key, expected, found));
                    }
                }
            }
        }
        keys = moving;
        if keys.is_empty() || terms.settled || began.elapsed() >= terms.patience {
            break;
        }
        sleep(PAUSE);
    }
    if !keys.is_empty() {
        let (many, key) = (keys.len(), keys.first().cloned().unwrap_or_default());
        report.could_not_look(format!(
            "I3: {many} keys differ and have events on their way, such as {key}: check again, or with a longer --patience"
        ));
    }
    if waiting > 0 {
        report.note(format!("order-service: {waiting} copies differ because their events are EXHAUSTED and wait for a person"));
    }
    Ok(())
}

fn words(row: Option<&Row>) -> String {
    let Some(row) = row else { return "nothing".to_owned() };
    let epoch = if row.epoch > 0 { format!(" of epoch {}", row.epoch) } else { String::new() };
    let state = State::of_row(&row.product);
    format!("version {}{epoch}: {}", state.version, state.content())
}
