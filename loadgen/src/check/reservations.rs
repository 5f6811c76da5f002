//! I7 at order-service: what is promised of each product is what its reservations say, and none outlives its order's deduction.
//!
//! A reservation ends in the transaction in which the copy comes to hold its deduction, or in which its order is told that
//! nothing is taken, so one page sees either. That an order that waits has its reservations is
//! [`orders`](super::orders)'s.

use anyhow::Result;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::finding::{Finding, Invariant, Kind, Side};
use super::reader::{PAGE, Reader};
use super::report::Report;

/// Looks at all that is promised.
pub(super) fn check(reader: &mut Reader, report: &mut Report) -> Result<()> {
    check_sums(reader, report)?;
    let take = |rows: Vec<ReservationRow>| {
        rows.iter().for_each(|row| report.tell_all(judge(row)));
        Ok(rows.last().map(|row| (row.order_id, row.sku.clone())))
    };
    let begin = (EventId::NIL, String::new());
    let rows = reader.walk("reservations", begin, reservations, take)?;
    report.looked(Invariant::I7, Side::Order, "reservations, by their orders", rows);
    Ok(())
}

/// What an order was promised, with the version of its deduction and that of the copy, and whether it is still needed.
#[derive(Debug, Clone, QueryableByName)]
struct ReservationRow {
    #[diesel(sql_type = EventIdSql)]
    order_id: EventId,
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = BigInt)]
    quantity: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    epoch: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    copy_epoch: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    copy_version: Option<i64>,
    /// The order's status, if it is there.
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    /// Whether a command of the order is on its way.
    #[diesel(sql_type = Bool)]
    on_its_way: bool,
}

/// What is wrong with a reservation.
fn judge(row: &ReservationRow) -> Option<Finding> {
    let ReservationRow { order_id, sku, quantity, .. } = row;
    let expected = format!("no reservation: {}", why_ended(row)?);
    let found = match row.version {
        Some(version) => format!("{quantity} × {sku}, deducted with version {version}"),
        None => format!("{quantity} × {sku}, with no version of a deduction"),
    };
    let subject = format!("order {order_id}");
    Some(Finding::new(Kind::ReservationLeft, Side::Order, subject, expected, found))
}

/// Why a reservation should have ended, if it should.
fn why_ended(row: &ReservationRow) -> Option<String> {
    if row.on_its_way {
        return None;
    }
    match row.status.as_deref() {
        None => Some("there is no such order".to_owned()),
        Some("REJECTED") => Some("the order is REJECTED, so nothing is taken for it".to_owned()),
        Some(status @ ("CONFIRMED" | "CANCELLED")) => {
            let Some(deducted) = row.epoch.zip(row.version) else {
                return Some(format!("the order is {status}, and no deduction is waited for"));
            };
            let copy = row.copy_epoch.zip(row.copy_version)?;
            (deducted <= copy)
                .then(|| format!("the copy has version {}, with the deduction in it", copy.1))
        }
        Some(_) => None,
    }
}

fn reservations(conn: &mut Conn, after: &(EventId, String)) -> QueryResult<Vec<ReservationRow>> {
    let sql = "SELECT r.order_id, r.sku, r.quantity, r.epoch, r.version, \
           p.epoch AS copy_epoch, p.version AS copy_version, \
           o.status, EXISTS \
             (SELECT 1 FROM outbox_event e WHERE e.key = CAST(r.order_id AS TEXT) AND \
               (EXISTS (SELECT 1 FROM outbox_pending w WHERE w.id = e.id) \
                OR EXISTS (SELECT 1 FROM outbox_sent w WHERE w.id = e.id) \
                OR EXISTS (SELECT 1 FROM outbox_failed w WHERE w.id = e.id AND w.status = 0))) AS on_its_way \
         FROM (SELECT order_id, sku, quantity, epoch, version FROM reservation \
               WHERE (order_id, sku) > ($1, $2) ORDER BY order_id, sku LIMIT $3) r \
         LEFT JOIN orders o ON o.id = r.order_id LEFT JOIN product_copy p ON p.sku = r.sku \
         ORDER BY r.order_id, r.sku";
    on!(conn, c => sql_query(sql)
        .bind::<EventIdSql, _>(after.0)
        .bind::<Text, _>(&after.1)
        .bind::<BigInt, _>(PAGE)
        .load(c))
}

/// A product's copy, and the sum of what is promised of it.
#[derive(Debug, QueryableByName)]
struct ReservedRow {
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = BigInt)]
    reserved: i64,
    #[diesel(sql_type = BigInt)]
    pieces: i64,
}

/// Looks at what is promised of all products, at order-service.
fn check_sums(reader: &mut Reader, report: &mut Report) -> Result<()> {
    let take = |rows: Vec<ReservedRow>| {
        for row in rows.iter().filter(|row| row.reserved != row.pieces) {
            let expected = format!("{}, the sum of its reservations", row.pieces);
            let found = row.reserved.to_string();
            report.tell(Finding::new(Kind::ReservedWrong, Side::Order, &row.sku, expected, found));
        }
        Ok(rows.last().map(|row| row.sku.clone()))
    };
    let read = |conn: &mut Conn, after: &String| {
        let sql = "SELECT p.sku, p.reserved, CAST(COALESCE((SELECT sum(r.quantity) FROM reservation r \
                     WHERE r.sku = p.sku), 0) AS BIGINT) AS pieces \
                   FROM product_copy p WHERE p.sku > $1 ORDER BY p.sku LIMIT $2";
        on!(conn, c => sql_query(sql)
            .bind::<Text, _>(after)
            .bind::<BigInt, _>(PAGE)
            .load::<ReservedRow>(c))
    };
    let rows = reader.walk("sums of reservations", String::new(), read, take)?;
    report.looked(Invariant::I7, Side::Order, "products, by their reservations", rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reservation_outlives_its_deduction() {
        let row = ReservationRow {
            order_id: EventId::MAX,
            sku: "TEA".to_owned(),
            quantity: 2,
            epoch: Some(1),
            version: Some(5),
            copy_epoch: Some(1),
            copy_version: Some(5),
            status: Some("CONFIRMED".to_owned()),
            on_its_way: false,
        };
        let kind = |row: &ReservationRow| judge(row).map(|finding| finding.kind);
        assert_eq!(kind(&row), Some(Kind::ReservationLeft));
        let in_status =
            |status: &str| ReservationRow { status: Some(status.to_owned()), ..row.clone() };
        for waits in [
            ReservationRow { copy_version: Some(4), ..row.clone() },
            ReservationRow { epoch: Some(2), ..row.clone() },
            ReservationRow { copy_version: None, ..row.clone() },
            ReservationRow { on_its_way: true, ..row.clone() },
            in_status("PENDING"),
        ] {
            assert_eq!(kind(&waits), None, "{waits:?}");
        }
        // These wait for no version.
        for unversioned in [
            row.clone(),
            in_status("CANCELLED"),
            in_status("REJECTED"),
            ReservationRow { status: None, ..row.clone() },
        ] {
            let unversioned = ReservationRow { epoch: None, version: None, ..unversioned };
            assert_eq!(kind(&unversioned), Some(Kind::ReservationLeft), "{unversioned:?}");
        }
        for never in [in_status("REJECTED"), ReservationRow { status: None, ..row.clone() }] {
            let never = ReservationRow { version: Some(6), ..never };
            assert_eq!(kind(&never), Some(Kind::ReservationLeft), "{never:?}");
        }
    }
}
