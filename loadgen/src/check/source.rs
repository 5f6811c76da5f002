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
use super::finding::{Finding, Invariant, Kind, Side};
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
        rows.into_iter().filter(seems_wrong).for_each(|row| suspects.add(row));
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
        |row, kept| {
            let (kind, expected, found) = judge(row, kept.product_events)?;
            Some(Finding::new(kind, Side::Product, &row.product.sku, expected, found))
        },
    )
}

fn judge(row: &ToldRow, kept_from: Timestamp) -> Option<(Kind, String, String)> {
    let stored = State::of_row(&row.product);
    let is_young = row.product.updated_us > kept_from;
    let Some(payload) = &row.payload else {
        let expected = "an event that tells of it".to_owned();
        return is_young.then(|| (Kind::ChangeUntold, expected, format!("none; {stored}")));
    };
    let last = match State::read(payload) {
        Ok(last) => last,
        Err(error) => {
            let expected = "an event that can be read".to_owned();
            return Some((Kind::ChangeUntold, expected, format!("its last event: {error}")));
        }
    };
    if stored.version < last.version {
        return Some((Kind::VersionDown, last.to_string(), stored.to_string()));
    }
    if stored.version > last.version {
        let expected = format!("an event of version {}", stored.version);
        return is_young
            .then(|| (Kind::ChangeUntold, expected, format!("the last one has {last}")));
    }
    (!stored.has_content_of(&last))
        .then(|| (Kind::ChangeUntold, format!("{last}, by its last event"), stored.to_string()))
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
        judge(row, Timestamp::default()).map(|(kind, ..)| kind)
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
