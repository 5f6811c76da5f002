//! I7 between the services: each order's stock was taken exactly once if it is CONFIRMED, given back if it is CANCELLED, and
//! not touched if it is REJECTED.
//!
//! An order's record at product-service changes only by its commands. So where none is on its way before and after the look
//! at the record, and the order has stayed as it was, what does not fit will not come to fit.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::Terms;
use super::finding::{Finding, Invariant, Kind, Side, Wrong};
use super::kept::Kept;
use super::reader::{PAGE, Reader, of_ids};
use super::report::Report;
use super::suspects::Suspects;

/// Looks at an order that seems wrong: it changes a few times in its life only.
const LOOKS: usize = 3;

/// An order as order-service has it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
struct OrderRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    cancellation: Option<String>,
    #[diesel(sql_type = BigInt)]
    revision: i64,
    #[diesel(sql_type = BigInt)]
    changed_us: Timestamp,
    /// Whether a command of it is on its way.
    #[diesel(sql_type = Bool)]
    on_its_way: bool,
    /// Whether it waits for its first answer and a line of it has no reservation.
    #[diesel(sql_type = Bool)]
    unpromised: bool,
    /// Whether the search for lost commands has found one of it that waits for a person.
    #[diesel(sql_type = Bool)]
    lost: bool,
    /// Whether a person has made good what such a command had done.
    #[diesel(sql_type = Bool)]
    made_good: bool,
}

/// An order as product-service has it.
#[derive(Debug, Clone, QueryableByName)]
struct RecordRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    handled_us: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    cancelled_us: Option<Timestamp>,
}

#[derive(Debug, Clone, QueryableByName)]
struct LineRow {
    #[diesel(sql_type = EventIdSql)]
    order_id: EventId,
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = BigInt)]
    quantity: i64,
    /// The product's version after the deduction, where it is known.
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
    /// Whether it was given back; never at order-service.
    #[diesel(sql_type = Bool)]
    returned: bool,
}

/// By SKU: how many pieces, and the product's version after the deduction, where it is known.
type Lines = BTreeMap<String, (i64, Option<i64>)>;

/// An order with what was ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ordered {
    row: OrderRow,
    lines: Lines,
}

/// An order with what was taken.
#[derive(Debug, Clone)]
struct Taken {
    row: RecordRow,
    lines: Lines,
    returned: bool,
}

/// Looks at all orders on both sides.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let (mut suspects, mut lost) = (Suspects::default(), 0_u64);
    let take = |rows: Vec<Ordered>| {
        let next = rows.last().map(|order| order.row.id);
        let ids: Vec<EventId> = rows.iter().map(|order| order.row.id).collect();
        let records = product.page(|conn| records(conn, &ids))?;
        for order in &rows {
            lost += u64::from(order.row.lost);
            if !judge_all(order, records.get(&order.row.id), terms, kept).is_empty() {
                suspects.add(order.row.id);
            }
        }
        Ok(next)
    };
    let read = |conn: &mut Conn, after: &EventId| {
        let rows = orders_after(conn, *after)?;
        with_lines(conn, rows)
    };
    let rows = order.walk("orders", EventId::NIL, read, take)?;
    report.looked(Invariant::I7, Side::Order, "orders, by what was taken for them", rows);
    let suspects = suspects.take(Invariant::I7, "orders", report);
    look_again(product, order, &suspects, terms, report)?;
    if lost > 0 {
        report.note(format!(
            "order-service: {lost} orders have commands whose effect was lost with a database: see `stockloop admin --order lost-commands`"
        ));
    }
    check_records(product, order, (terms, kept), report)
}

/// Looks at orders that seemed wrong once more, in the order that proves it.
fn look_again(
    product: &mut Reader,
    order: &mut Reader,
    suspects: &[EventId],
    terms: &Terms,
    report: &mut Report,
) -> Result<()> {
    let mut moved = 0;
    for ids in suspects.chunks(500) {
        let mut left = ids.to_vec();
        for _ in 0..LOOKS {
            left = look_at(product, order, &left, terms, report)?;
        }
        moved += left.len();
    }
    if moved > 0 {
        report.could_not_look(format!(
            "I7: {moved} orders that seemed wrong changed at each look: check again"
        ));
    }
    Ok(())
}

/// Returns those of `ids` that changed meanwhile.
fn look_at(
    product: &mut Reader,
    order: &mut Reader,
    ids: &[EventId],
    terms: &Terms,
    report: &mut Report,
) -> Result<Vec<EventId>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let before = order.page(|conn| orders_of(conn, ids))?;
    let records = product.page(|conn| records(conn, ids))?;
    let after = order.page(|conn| orders_of(conn, ids))?;
    let kept = Kept::read(product, order, terms)?;
    Ok(tell_what_stayed((&before, &after), &records, (terms, &kept), report))
}

/// Tells what is wrong with orders that are `after` a look at their records what they were `before`; returns those that seem
/// wrong and are not, of which nothing is proven.
fn tell_what_stayed(
    (before, after): (&BTreeMap<EventId, Ordered>, &BTreeMap<EventId, Ordered>),
    records: &BTreeMap<EventId, Taken>,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Vec<EventId> {
    let mut moved = Vec::new();
    for (id, order) in before {
        let wrong = judge_all(order, records.get(id), terms, kept);
        if !wrong.is_empty() && after.get(id) != Some(order) {
            moved.push(*id);
            continue;
        }
        let side = if records.contains_key(id) { Side::Product } else { Side::Order };
        report.tell_all(wrong.into_iter().map(|wrong| wrong.at(side, format!("order {id}"))));
    }
    moved
}

/// All that is wrong with an order.
fn judge_all(order: &Ordered, taken: Option<&Taken>, terms: &Terms, kept: &Kept) -> Vec<Wrong> {
    [judge(order, taken, terms, kept), promised(order, taken, kept)].into_iter().flatten().collect()
}

/// Whether what an order waits for is promised to it. A reservation may end before the answer has come, by the event of its
/// deduction, but not before that.
fn promised(Ordered { row, .. }: &Ordered, taken: Option<&Taken>, kept: &Kept) -> Option<Wrong> {
    let may_be_taken = match taken {
        Some(taken) => !taken.lines.is_empty(),
        None => row.id.made_at() <= kept.records || kept.may_be_lost_of(row.id, row.changed_us),
    };
    (row.unpromised && !may_be_taken).then(|| {
        let found = format!("{}, and a line without one", row.status);
        let expected = "a reservation of each line, until it is taken";
        Wrong::new(Kind::ReservationMissing, expected, found)
    })
}

/// What is wrong with an order, if there is something.
fn judge(order: &Ordered, taken: Option<&Taken>, terms: &Terms, kept: &Kept) -> Option<Wrong> {
    let row = &order.row;
    let is_undecided = matches!(row.status.as_str(), "PENDING" | "CANCELLING");
    if is_undecided && (terms.settled || !row.on_its_way) {
        let found = match row.on_its_way {
            true => format!("{}, since {}", row.status, row.changed_us),
            false => format!("{}, and no command of it is on its way", row.status),
        };
        return Some(Wrong::new(Kind::OrderUndecided, "an answer", found));
    }
    // By hand is by whatever hand; and who lost a command was told so.
    let by_hand = row.made_good || row.cancellation.as_deref() == Some("RESOLVED");
    if row.on_its_way || row.lost || by_hand || row.status == "NEEDS_ATTENTION" {
        return None;
    }
    let Some(taken) = taken else {
        let is_forgotten = row.id.made_at() <= kept.records;
        if is_forgotten || kept.may_be_lost_of(row.id, row.changed_us) {
            return None;
        }
        let confirmed = row.status == "CONFIRMED";
        let kind = if confirmed { Kind::ConfirmedNotDeducted } else { Kind::OrderContradicted };
        let expected = format!("a record of an order that is {}", row.status);
        return Some(Wrong::new(kind, expected, "product-service does not know it"));
    };
    let moment = taken.row.cancelled_us.unwrap_or(taken.row.handled_us);
    let contradiction = contradiction(&row.status, &taken.row.state);
    if let Some(kind) = contradiction {
        // One of the two may not know of the other's lost time.
        let lost = [row.changed_us, moment].iter().any(|at| kept.may_be_lost_of(row.id, *at));
        let expected = format!("{} at product-service", wanted(&row.status));
        let found = format!("{}, since {moment}", taken.row.state);
        return (!lost).then(|| Wrong::new(kind, expected, found));
    }
    lines(order, taken).filter(|_| !kept.may_be_lost_of(row.id, moment))
}

/// What of an order's record fits its status.
fn wanted(status: &str) -> &'static str {
    match status {
        "CONFIRMED" => "DEDUCTED",
        "CANCELLED" => "RETURNED, REFUSED or CANCELLED",
        _ => "REFUSED or CANCELLED",
    }
}

/// How the state of an order's record contradicts its status, which is a final one or CONFIRMED.
fn contradiction(status: &str, state: &str) -> Option<Kind> {
    match (status, state) {
        ("CONFIRMED", "DEDUCTED") => None,
        ("CONFIRMED", "REFUSED") => Some(Kind::ConfirmedNotDeducted),
        // Where its placing was REFUSED, nothing was taken, so there is nothing to give back.
        ("CANCELLED", "RETURNED" | "CANCELLED" | "REFUSED") => None,
        ("CANCELLED", "DEDUCTED") => Some(Kind::CancelledNotReturned),
        ("REJECTED", "REFUSED" | "CANCELLED") => None,
        ("REJECTED", "DEDUCTED") => Some(Kind::RejectedButDeducted),
        _ => Some(Kind::OrderContradicted),
    }
}

/// Whether what was taken is what was ordered.
fn lines(order: &Ordered, taken: &Taken) -> Option<Wrong> {
    let state = taken.row.state.as_str();
    let took = matches!(state, "DEDUCTED" | "RETURNED");
    let expected = if took { order.lines.clone() } else { Lines::new() };
    if !fit(&expected, &taken.lines) {
        return Some(Wrong::new(Kind::OrderLinesDiffer, words(&expected), words(&taken.lines)));
    }
    (taken.returned && state != "RETURNED").then(|| {
        let expected = format!("nothing is given back of an order that is {state}");
        Wrong::new(Kind::OrderContradicted, expected, "some of it was")
    })
}

/// Whether lines are about the same pieces, and the same versions where both sides know them.
fn fit(ordered: &Lines, taken: &Lines) -> bool {
    let fits = |(sku, (quantity, version)): (&String, &(i64, Option<i64>))| {
        taken.get(sku).is_some_and(|row| {
            let same_version = version.zip(row.1).is_none_or(|(line, row)| line == row);
            row.0 == *quantity && same_version
        })
    };
    ordered.len() == taken.len() && ordered.iter().all(fits)
}

fn words(lines: &Lines) -> String {
    if lines.is_empty() {
        return "nothing".to_owned();
    }
    let line = |(sku, (quantity, version)): (&String, &(i64, Option<i64>))| match version {
        Some(version) => format!("{quantity} × {sku} with version {version}"),
        None => format!("{quantity} × {sku}"),
    };
    lines.iter().take(20).map(line).collect::<Vec<_>>().join(", ")
}

/// Each order that product-service knows was placed by somebody.
fn check_records(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let mut suspects = Suspects::default();
    let take = |rows: Vec<RecordRow>| {
        let next = rows.last().map(|row| row.id);
        let ids: Vec<EventId> = rows.iter().map(|row| row.id).collect();
        let placed = order.page(|conn| placed(conn, &ids))?;
        let unknown = rows.into_iter().filter(|row| !placed.contains(&row.id));
        suspects.extend(unknown.filter(|row| judge_unknown(row, kept).is_some()));
        Ok(next)
    };
    let read = |conn: &mut Conn, after: &EventId| {
        let sql = "SELECT id, state, handled_us, cancelled_us FROM order_record \
                   WHERE id > $1 ORDER BY id LIMIT $2";
        on!(conn, c => sql_query(sql)
            .bind::<EventIdSql, _>(*after)
            .bind::<BigInt, _>(PAGE)
            .load::<RecordRow>(c))
    };
    let rows = product.walk("records of orders", EventId::NIL, read, take)?;
    report.looked(Invariant::I7, Side::Product, "records of orders, by their orders", rows);
    let what = (Invariant::I7, "records of orders");
    suspects.tell(what, report, || Kept::read(product, order, terms), judge_unknown)
}

/// What is wrong with the record of an order that order-service does not have.
fn judge_unknown(row: &RecordRow, kept: &Kept) -> Option<Finding> {
    let at = row.cancelled_us.unwrap_or(row.handled_us).max(row.handled_us);
    if at <= kept.orders || kept.may_be_lost_of(row.id, at) {
        return None;
    }
    let found = format!("{} at product-service, since {at}", row.state);
    let (subject, expected) = (format!("order {}", row.id), "order-service knows it");
    Some(Finding::new(Kind::OrderUnknown, Side::Product, subject, expected, found))
}

/// Columns of an order, and whether a command of it is on its way or was lost.
const ORDER: &str = "SELECT o.id, o.status, o.cancellation, o.revision, o.changed_us, \
     EXISTS (SELECT 1 FROM outbox_event e WHERE e.key = CAST(o.id AS TEXT) AND \
       (EXISTS (SELECT 1 FROM outbox_pending w WHERE w.id = e.id) \
        OR EXISTS (SELECT 1 FROM outbox_sent w WHERE w.id = e.id) \
        OR EXISTS (SELECT 1 FROM outbox_failed w WHERE w.id = e.id AND w.status = 0))) AS on_its_way, \
     o.status = 'PENDING' AND o.placement = 'OPEN' AND EXISTS \
       (SELECT 1 FROM order_line l WHERE l.order_id = o.id AND NOT EXISTS \
         (SELECT 1 FROM reservation r WHERE r.order_id = l.order_id AND r.sku = l.sku)) AS unpromised, \
     EXISTS (SELECT 1 FROM lost_command l WHERE l.key = CAST(o.id AS TEXT) AND l.state = 0) AS lost, \
     EXISTS (SELECT 1 FROM lost_command l WHERE l.key = CAST(o.id AS TEXT) AND l.state = 2) AS made_good \
     FROM orders o";

fn orders_after(conn: &mut Conn, after: EventId) -> QueryResult<Vec<OrderRow>> {
    let sql = format!("{ORDER} WHERE o.id > $1 ORDER BY o.id LIMIT $2");
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(after).bind::<BigInt, _>(PAGE).load(c))
}

fn orders_of(conn: &mut Conn, ids: &[EventId]) -> QueryResult<BTreeMap<EventId, Ordered>> {
    let rows = of_ids(conn, &format!("{ORDER} WHERE o.id {{in}}"), ids)?;
    let orders = with_lines(conn, rows)?;
    Ok(orders.into_iter().map(|order| (order.row.id, order)).collect())
}

fn with_lines(conn: &mut Conn, rows: Vec<OrderRow>) -> QueryResult<Vec<Ordered>> {
    let ids: Vec<EventId> = rows.iter().map(|row| row.id).collect();
    let sql = "SELECT order_id, sku, quantity, version, FALSE AS returned FROM order_line WHERE order_id {in}";
    let mut lines: BTreeMap<EventId, Lines> = BTreeMap::new();
    for line in of_ids::<LineRow>(conn, sql, &ids)? {
        lines.entry(line.order_id).or_default().insert(line.sku, (line.quantity, line.version));
    }
    let with = |row: OrderRow| Ordered { lines: lines.remove(&row.id).unwrap_or_default(), row };
    Ok(rows.into_iter().map(with).collect())
}

/// What product-service knows of the orders `ids`.
fn records(conn: &mut Conn, ids: &[EventId]) -> QueryResult<BTreeMap<EventId, Taken>> {
    let sql = "SELECT id, state, handled_us, cancelled_us FROM order_record WHERE id {in}";
    let rows: Vec<RecordRow> = of_ids(conn, sql, ids)?;
    let new = |row: RecordRow| (row.id, Taken { row, lines: Lines::new(), returned: false });
    let mut records: BTreeMap<EventId, Taken> = rows.into_iter().map(new).collect();
    let sql = "SELECT order_id, sku, quantity, version, returned_version IS NOT NULL AS returned \
               FROM order_deduction WHERE order_id {in}";
    for line in of_ids::<LineRow>(conn, sql, ids)? {
        if let Some(taken) = records.get_mut(&line.order_id) {
            taken.returned |= line.returned;
            taken.lines.insert(line.sku, (line.quantity, line.version));
        }
    }
    Ok(records)
}

/// Those of `ids` that order-service knows.
fn placed(conn: &mut Conn, ids: &[EventId]) -> QueryResult<BTreeSet<EventId>> {
    #[derive(QueryableByName)]
    struct IdRow {
        #[diesel(sql_type = EventIdSql)]
        id: EventId,
    }
    let rows: Vec<IdRow> = of_ids(conn, "SELECT id FROM orders WHERE id {in}", ids)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::db::Url;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;

    use super::*;

    const AT: Timestamp = Timestamp::from_micros(1_000_000);

    fn tea(quantity: i64) -> Lines {
        Lines::from([("TEA".to_owned(), (quantity, None))])
    }

    fn order(status: &str) -> Ordered {
        let cancellation = (status == "CANCELLED").then(|| "DONE".to_owned());
        let row = OrderRow {
            id: EventId::MAX,
            status: status.to_owned(),
            cancellation,
            revision: 2,
            changed_us: AT,
            on_its_way: false,
            unpromised: false,
            lost: false,
            made_good: false,
        };
        Ordered { row, lines: tea(3) }
    }

    fn taken(state: &str) -> Taken {
        let (id, state) = (EventId::MAX, state.to_owned());
        let took = matches!(state.as_str(), "DEDUCTED" | "RETURNED");
        let returned = state == "RETURNED";
        let row = RecordRow { id, state, handled_us: AT, cancelled_us: None };
        Taken { row, lines: if took { tea(3) } else { Lines::new() }, returned }
    }

    fn kept() -> Kept {
        Kept::from_all(Timestamp::from_micros(-1))
    }

    fn kind(order: &Ordered, taken: Option<&Taken>) -> Option<Kind> {
        judge(order, taken, &Terms::default(), &kept()).map(|wrong| wrong.kind)
    }

    #[test]
    fn each_order_ends_one_way_on_both_sides() {
        let state = |status: &str, state: &str| kind(&order(status), Some(&taken(state)));
        for (status, fits) in [
            ("CONFIRMED", "DEDUCTED"),
            ("CANCELLED", "RETURNED"),
            ("CANCELLED", "CANCELLED"),
            ("CANCELLED", "REFUSED"),
            ("REJECTED", "REFUSED"),
            ("REJECTED", "CANCELLED"),
        ] {
            assert_eq!(state(status, fits), None, "{status} {fits}");
        }
        assert_eq!(state("CONFIRMED", "REFUSED"), Some(Kind::ConfirmedNotDeducted));
        assert_eq!(state("CONFIRMED", "RETURNED"), Some(Kind::OrderContradicted));
        assert_eq!(state("CANCELLED", "DEDUCTED"), Some(Kind::CancelledNotReturned));
        assert_eq!(state("REJECTED", "DEDUCTED"), Some(Kind::RejectedButDeducted));
        assert_eq!(kind(&order("CONFIRMED"), None), Some(Kind::ConfirmedNotDeducted));
    }

    #[test]
    fn what_is_taken_is_what_was_ordered() {
        let other = Taken { lines: tea(2), ..taken("DEDUCTED") };
        assert_eq!(kind(&order("CONFIRMED"), Some(&other)), Some(Kind::OrderLinesDiffer));
        let at = |version| Lines::from([("TEA".to_owned(), (3, Some(version)))]);
        let answered = Ordered { lines: at(7), ..order("CONFIRMED") };
        assert_eq!(kind(&answered, Some(&taken("DEDUCTED"))), None);
        assert_eq!(kind(&answered, Some(&Taken { lines: at(7), ..taken("DEDUCTED") })), None);
        let other = Taken { lines: at(8), ..taken("DEDUCTED") };
        assert_eq!(kind(&answered, Some(&other)), Some(Kind::OrderLinesDiffer));
        let refused = Taken { lines: tea(3), ..taken("REFUSED") };
        assert_eq!(kind(&order("REJECTED"), Some(&refused)), Some(Kind::OrderLinesDiffer));
        let half = Taken { returned: true, ..taken("DEDUCTED") };
        assert_eq!(kind(&order("CONFIRMED"), Some(&half)), Some(Kind::OrderContradicted));
    }

    #[test]
    fn an_order_waits_only_for_a_command_that_is_on_its_way() {
        let mut pending = order("PENDING");
        assert_eq!(kind(&pending, None), Some(Kind::OrderUndecided));
        pending.row.on_its_way = true;
        assert_eq!(kind(&pending, None), None);
        let at_rest = Terms { settled: true, ..Terms::default() };
        let judged = judge(&pending, None, &at_rest, &kept()).map(|wrong| wrong.kind);
        assert_eq!(judged, Some(Kind::OrderUndecided));
    }

    #[test]
    fn an_order_that_waits_has_what_it_waits_for() {
        let mut pending = order("PENDING");
        (pending.row.on_its_way, pending.row.unpromised) = (true, true);
        let kinds = |order: &Ordered, taken: Option<&Taken>, kept: &Kept| -> Vec<Kind> {
            let wrong = judge_all(order, taken, &Terms::default(), kept);
            wrong.into_iter().map(|wrong| wrong.kind).collect()
        };
        assert_eq!(kinds(&pending, None, &kept()), [Kind::ReservationMissing]);
        assert_eq!(kinds(&pending, Some(&taken("REFUSED")), &kept()), [Kind::ReservationMissing]);
        // The deduction's event was faster than the answer.
        assert!(kinds(&pending, Some(&taken("DEDUCTED")), &kept()).is_empty());
        // It may have been taken, and the record is gone.
        assert!(kinds(&pending, None, &Kept::from_all(AT)).is_empty());
        pending.row.unpromised = false;
        assert!(kinds(&pending, None, &kept()).is_empty());
    }

    #[test]
    fn an_order_that_changed_between_the_looks_is_counted() {
        let of = |order: Ordered| BTreeMap::from([(EventId::MAX, order)]);
        let records = |state: &str| BTreeMap::from([(EventId::MAX, taken(state))]);
        let told = |before: Ordered, after: &BTreeMap<EventId, Ordered>, state: &str| {
            let (terms, mut report) = (Terms::default(), Report::new(1));
            let before = of(before);
            let looks = (&before, after);
            let moved = tell_what_stayed(looks, &records(state), (&terms, &kept()), &mut report);
            (moved.len(), report.kinds())
        };
        let confirmed = of(order("CONFIRMED"));
        let wrong = vec![(Kind::ConfirmedNotDeducted, 1)];
        assert_eq!(told(order("CONFIRMED"), &confirmed, "REFUSED"), (0, wrong));
        assert_eq!(told(order("REJECTED"), &confirmed, "DEDUCTED"), (1, vec![]));
        assert_eq!(told(order("REJECTED"), &BTreeMap::new(), "DEDUCTED"), (1, vec![]));
        // What seems right has not to stay.
        assert_eq!(told(order("CONFIRMED"), &BTreeMap::new(), "DEDUCTED"), (0, vec![]));
    }

    #[test]
    fn what_a_restore_explains_is_no_finding() {
        let restored = super::super::kept::Restored { since_us: None, found_us: AT };
        let kept = Kept { restored: vec![restored], ..kept() };
        let judged =
            |state: Option<&Taken>| judge(&order("CANCELLED"), state, &Terms::default(), &kept);
        assert!(judged(None).is_none() && judged(Some(&taken("DEDUCTED"))).is_none());
        let mut lost = order("CONFIRMED");
        lost.row.lost = true;
        assert_eq!(kind(&lost, None), None);
        let mut made_good = order("CONFIRMED");
        made_good.row.made_good = true;
        assert_eq!(kind(&made_good, None), None);
    }

    on_every_database!(std::convert::identity => only_a_lost_command_that_waits_or_was_made_good_explains);

    async fn only_a_lost_command_that_waits_or_was_made_good_explains(database: TestDatabase) {
        let db = database.open(&[common::db::ENGINE_MIGRATIONS]);
        let url = Url::from(database.url());
        // Those columns of order-service's tables that count here.
        let orders = "CREATE TABLE orders (id UUID PRIMARY KEY, status TEXT, placement TEXT, cancellation TEXT, \
               revision BIGINT, changed_us BIGINT); \
             CREATE TABLE order_line (order_id UUID, sku TEXT, quantity BIGINT, version BIGINT); \
             CREATE TABLE reservation (order_id UUID, sku TEXT)";
        let id = "00000000-0000-7000-8000-000000000001";
        let lost = format!(
            "INSERT INTO orders VALUES ('{id}', 'CONFIRMED', 'CONFIRMED', NULL, 2, 1); \
             INSERT INTO lost_command (event_id, found_by, event_type, key, payload, state, settled_us, found_us) \
             VALUES ('{id}', 1, 'stockloop.order.placed', '{id}', '', 0, 1, 1)"
        );
        let written = db.write::<_, common::db::DbError>(move |conn| {
            conn.batch_execute(orders)?;
            Ok(conn.batch_execute(&lost)?)
        });
        written.await.unwrap();
        let mut reader = Reader::open(Side::Order, &url, "orders").unwrap();
        for (state, expected) in [(0, (true, false)), (1, (false, false)), (2, (false, true))] {
            let sql = format!("UPDATE lost_command SET state = {state}");
            let written =
                db.write::<_, common::db::DbError>(move |conn| Ok(conn.batch_execute(&sql)?));
            written.await.unwrap();
            let rows = reader.page(|conn| orders_after(conn, EventId::NIL)).unwrap();
            let found: Vec<(bool, bool)> =
                rows.iter().map(|row| (row.lost, row.made_good)).collect();
            assert_eq!(found, [expected], "{state}");
        }
    }
}
