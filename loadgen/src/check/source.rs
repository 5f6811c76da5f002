//! I1 and I3 at the source: each product is what its last event says, and versions only went up.
//!
//! An event is written in the transaction of its change, so one page sees both or neither.

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::Terms;
use super::finding::{Invariant, Kind, Side, Wrong};
use super::kept::Kept;
use super::reader::{PAGE, Reader, as_key};
use super::report::Report;
use super::rows::{PRODUCT, ProductRow};
use super::stock::State;
use super::suspects::Suspects;

/// A product, and the event of its greatest version.
#[derive(Debug, Clone, QueryableByName)]
struct ToldRow {
    #[diesel(embed)]
    product: ProductRow,
    #[diesel(sql_type = Nullable<Text>)]
    payload: Option<String>,
}

/// Looks at all products.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let mut suspects = Suspects::default();
    let take = |rows: Vec<ToldRow>| {
        let next = rows.last().map(|row| row.product.sku.clone());
        let seems_wrong = |row: &ToldRow| judge(row, kept.product_events).is_some();
        suspects.extend(rows.into_iter().filter(seems_wrong));
        Ok(next)
    };
    let read = |conn: &mut Conn, after: &String| products(conn, after);
    let rows = product.walk("products", String::new(), read, take)?;
    report.looked(Invariant::I3, Side::Product, "products, by their last events", rows);
    let what = (Invariant::I3, "products");
    suspects.tell(
        what,
        report,
        || Kept::read(product, order, terms),
        |row, kept| Some(judge(row, kept.product_events)?.at(Side::Product, &row.product.sku)),
    )
}

fn judge(row: &ToldRow, kept_from: Timestamp) -> Option<Wrong> {
    let stored = State::of_row(&row.product);
    let is_young = row.product.updated_us > kept_from;
    let Some(payload) = &row.payload else {
        return is_young.then(|| {
            Wrong::new(Kind::ChangeUntold, "an event that tells of it", format!("none; {stored}"))
        });
    };
    let last = match State::read(payload) {
        Ok(last) => last,
        Err(error) => {
            let found = format!("its last event: {error}");
            return Some(Wrong::new(Kind::ChangeUntold, "an event that can be read", found));
        }
    };
    if stored.version < last.version {
        return Some(Wrong::new(Kind::VersionDown, last.to_string(), stored.to_string()));
    }
    if stored.version > last.version {
        let expected = format!("an event of version {}", stored.version);
        let found = format!("the last one has {last}");
        return is_young.then(|| Wrong::new(Kind::ChangeUntold, expected, found));
    }
    (!stored.has_content_of(&last)).then(|| {
        let expected = format!("{last}, by its last event");
        Wrong::new(Kind::ChangeUntold, expected, stored.to_string())
    })
}

fn products(conn: &mut Conn, after: &str) -> QueryResult<Vec<ToldRow>> {
    let sql = format!(
        "SELECT p.*, (SELECT e.payload FROM outbox_event e \
           WHERE e.key = p.sku {} AND e.kind = 0 ORDER BY e.version DESC, e.id DESC LIMIT 1) AS payload \
         FROM (SELECT {PRODUCT} FROM product WHERE sku > $1 ORDER BY sku LIMIT $2) p ORDER BY p.sku",
        as_key(conn),
    );
    on!(conn, c => sql_query(sql).bind::<Text, _>(after).bind::<BigInt, _>(PAGE).load(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: i64, quantity: i64, told: Option<(i64, i64)>) -> ToldRow {
        let at = Timestamp::from_micros(1_000_000);
        let payload = told.map(|(version, quantity)| {
            format!(
                r#"{{"sku":"TEA","description":"Tea","quantity":{quantity},"unit_price_minor":255,"allow_backorder":false,"removed":false,"version":{version},"updated_at":"{at}"}}"#
            )
        });
        ToldRow { product: ProductRow::tea(version, quantity, at), payload }
    }

    fn kind(row: &ToldRow) -> Option<Kind> {
        judge(row, Timestamp::default()).map(|wrong| wrong.kind)
    }

    #[test]
    fn a_product_is_what_its_last_event_says() {
        assert_eq!(kind(&row(3, 7, Some((3, 7)))), None);
        assert_eq!(kind(&row(3, 8, Some((3, 7)))), Some(Kind::ChangeUntold));
        assert_eq!(kind(&row(4, 7, Some((3, 7)))), Some(Kind::ChangeUntold));
        assert_eq!(kind(&row(2, 7, Some((3, 7)))), Some(Kind::VersionDown));
        assert_eq!(kind(&row(1, 7, None)), Some(Kind::ChangeUntold));
    }

    #[test]
    fn what_retention_may_have_taken_proves_nothing() {
        let later = Timestamp::from_micros(2_000_000);
        assert!(judge(&row(1, 7, None), later).is_none());
        assert!(judge(&row(4, 7, Some((3, 7))), later).is_none());
    }
}
