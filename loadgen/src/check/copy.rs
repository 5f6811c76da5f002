//! I3 between the services: the copy equals its source, by key, version and content.
//!
//! Both tables are walked in the order of their keys, side by side. That finds the keys that may differ; each is then looked
//! at again in the order that proves it: the source, and whether an event of the key is on its way; the copy; the source
//! again. If nothing was on its way and the source stayed, the copy had what its consumer answered for, and differs.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, SmallInt, Text};
use indicatif::ProgressBar;

use super::Terms;
use super::finding::{Finding, Invariant, Kind, Side};
use super::reader::{PAGE, Reader, of_keys};
use super::report::Report;
use super::rows::{PRODUCT, ProductRow};
use super::stock::State;
use super::suspects::Suspects;
use crate::progress::rows_bar;

/// Keys of one look.
const LOOKED_AT: usize = 200;

/// Events of a key that are looked through for one that is open, those of the newest versions.
const EVENTS: i64 = 256;

/// Between two looks at what moves.
const PAUSE: Duration = Duration::from_secs(1);

/// A product, or its copy.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
struct Row {
    #[diesel(embed)]
    product: ProductRow,
    /// Of the copy; 0 at the source.
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

/// What the two services know of all keys.
#[derive(Debug, Clone, Copy)]
struct Facts {
    source: SourceFacts,
    copy: CopyFacts,
    role: Role,
}

/// What the copy's service is to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// No event is PROCESSED without its answer.
    Required,
    Watched,
    Retired,
    Unknown,
}

#[derive(Debug, Clone, Copy, QueryableByName)]
struct SourceFacts {
    #[diesel(sql_type = BigInt)]
    epoch: i64,
    /// The greatest version of a product that the source has forgotten.
    #[diesel(sql_type = BigInt)]
    forgotten_version: i64,
}

#[derive(Debug, Clone, Copy, QueryableByName)]
struct CopyFacts {
    /// Since when it has all of its source.
    #[diesel(sql_type = Nullable<BigInt>)]
    complete_us: Option<Timestamp>,
    /// Up to when it has forgotten removals.
    #[diesel(sql_type = BigInt)]
    removals_forgotten: i64,
}

/// A service that the source knows as a consumer.
#[derive(Debug, Clone, QueryableByName)]
struct ConsumerRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    required: bool,
    /// 0 active, 1 retired.
    #[diesel(sql_type = SmallInt)]
    state: i16,
}

/// An event of a key that is not PROCESSED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
struct OpenEvent {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    /// 2: it waits for a person.
    #[diesel(sql_type = SmallInt)]
    status: i16,
}

/// The source's state of a key, and an open event of it: one that is on its way, if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    row: Option<Row>,
    open: Option<OpenEvent>,
}

/// What is to be said of a key.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    /// It has to be looked at again.
    Moving,
    /// It differs, and its event waits for a person, who knows.
    Waiting(EventId),
    Differs(Kind),
}

/// Looks at all products and their copies; `consumer` is what the copy's service calls itself.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, consumer): (&Terms, &str),
    report: &mut Report,
) -> Result<()> {
    let facts = facts(product, order, consumer)?;
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

fn facts(product: &mut Reader, order: &mut Reader, consumer: &str) -> Result<Facts> {
    let forgotten =
        |what: &str| format!("COALESCE((SELECT up_to FROM forgotten WHERE what = '{what}'), 0)");
    let of_source = format!(
        "SELECT epoch, {} AS forgotten_version FROM service_state",
        forgotten("versions of products")
    );
    let of_copy = format!(
        "SELECT complete_us, {} AS removals_forgotten FROM copy_state",
        forgotten("removed products")
    );
    let consumers = "SELECT name, required, state FROM consumer";
    let (source, consumers): (_, Vec<ConsumerRow>) = product.page(|conn| {
        let source = on!(&mut *conn, c => sql_query(of_source).get_result(c))?;
        Ok((source, on!(conn, c => sql_query(consumers).load(c))?))
    })?;
    let copy = order.page(|conn| on!(conn, c => sql_query(of_copy).get_result(c)))?;
    Ok(Facts { source, copy, role: Role::of(&consumers, consumer) })
}

impl Role {
    /// That of the service `name` among all `consumers`.
    fn of(consumers: &[ConsumerRow], name: &str) -> Self {
        match consumers.iter().find(|one| one.name == name) {
            Some(one) if one.state != 0 => Self::Retired,
            Some(one) if one.required => Self::Required,
            Some(_) => Self::Watched,
            // Nobody is registered before the first start: then it is whoever the settings name.
            None if consumers.is_empty() => Self::Required,
            None => Self::Unknown,
        }
    }
}

impl Facts {
    /// Why the copy can't be compared, if it can't.
    fn hindrance(&self) -> Option<&'static str> {
        match self.role {
            // It says so itself, and takes no orders for what it lacks.
            Role::Required if self.copy.complete_us.is_none() => {
                Some("I3: the copy is not complete yet: see docs/PROOF.md#a-new-or-emptied-copy")
            }
            Role::Required => None,
            // Its answers are not waited for, so what it lacks may still be on its way.
            Role::Watched => {
                Some("I3: order-service is only watched: `stockloop verify` compares its copy")
            }
            Role::Retired => {
                Some("I3: order-service is retired as a consumer: its copy gets no changes")
            }
            Role::Unknown => Some(
                "I3: product-service knows no consumer of order-service's name: say --order-name",
            ),
        }
    }
}

/// Walks both tables in the order of their keys; returns how many rows each has.
fn compare(
    product: &mut Reader,
    order: &mut Reader,
    mut see: impl FnMut(Option<&Row>, Option<&Row>),
) -> Result<(u64, u64)> {
    let bar = rows_bar("products and copies, side by side".to_owned());
    let mut source = Pages::new(product, SOURCE, &bar);
    let mut copy = Pages::new(order, COPY, &bar);
    loop {
        let first = match (source.peek()?, copy.peek()?) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(copy)) => source.product.sku.cmp(&copy.product.sku),
        };
        let of_source = if first.is_le() { source.take() } else { None };
        let of_copy = if first.is_ge() { copy.take() } else { None };
        see(of_source.as_ref(), of_copy.as_ref());
    }
    bar.finish_and_clear();
    Ok((source.rows, copy.rows))
}

/// A table of products, and what the epoch of its rows is.
#[derive(Debug, Clone, Copy)]
struct Table {
    name: &'static str,
    epoch: &'static str,
}

const SOURCE: Table = Table { name: "product", epoch: "CAST(0 AS BIGINT) AS epoch" };
const COPY: Table = Table { name: "product_copy", epoch: "epoch" };

impl Table {
    /// What selects its [`Row`]s.
    fn select(self) -> String {
        format!("SELECT {PRODUCT}, {} FROM {}", self.epoch, self.name)
    }
}

/// The rows of one table in the order of their keys, bytewise on both databases.
struct Pages<'a> {
    reader: &'a mut Reader,
    table: Table,
    bar: &'a ProgressBar,
    after: String,
    page: VecDeque<Row>,
    at_end: bool,
    rows: u64,
}

impl<'a> Pages<'a> {
    fn new(reader: &'a mut Reader, table: Table, bar: &'a ProgressBar) -> Self {
        let (after, page) = (String::new(), VecDeque::new());
        Self { reader, table, bar, after, page, at_end: false, rows: 0 }
    }

    fn peek(&mut self) -> Result<Option<&Row>> {
        if self.page.is_empty() && !self.at_end {
            let sql = format!("{} WHERE sku > $1 ORDER BY sku LIMIT $2", self.table.select());
            let after = std::mem::take(&mut self.after);
            let rows: Vec<Row> = self.reader.page(|conn| {
                on!(conn, c => sql_query(sql)
                    .bind::<Text, _>(&after)
                    .bind::<BigInt, _>(PAGE)
                    .load(c))
            })?;
            self.at_end = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
            self.after = rows.last().map(|row| row.product.sku.clone()).unwrap_or_default();
            self.rows += rows.len() as u64;
            self.bar.inc(rows.len() as u64);
            self.page = rows.into();
        }
        Ok(self.page.front())
    }

    fn take(&mut self) -> Option<Row> {
        self.page.pop_front()
    }
}

/// How a copy differs from its source, whatever is on its way.
fn difference(facts: Facts, source: Option<&Row>, copy: Option<&Row>) -> Option<Kind> {
    match (source, copy) {
        (None, None) => None,
        // A removal that the copy may have forgotten.
        (Some(source), None)
            if source.product.removed
                && source.product.updated_us.micros() <= facts.copy.removals_forgotten =>
        {
            None
        }
        (Some(_), None) => Some(Kind::CopyMissing),
        // The source begins above it, should the product come again.
        (None, Some(copy)) if copy.product.removed && is_forgotten(facts, copy) => None,
        (None, Some(_)) => Some(Kind::CopyUnknown),
        // It would take no change of this epoch.
        (Some(_), Some(copy)) if copy.epoch > facts.source.epoch => Some(Kind::CopyNewer),
        (Some(source), Some(copy)) if source.product.version == copy.product.version => {
            (source.product != copy.product).then_some(Kind::CopyContent)
        }
        (Some(source), Some(copy)) => {
            let older =
                (copy.epoch, copy.product.version) < (facts.source.epoch, source.product.version);
            Some(if older { Kind::CopyOlder } else { Kind::CopyNewer })
        }
    }
}

fn is_forgotten(facts: Facts, copy: &Row) -> bool {
    (copy.epoch, copy.product.version) <= (facts.source.epoch, facts.source.forgotten_version)
}

/// Judges a key by what the source had `before` the look at the `copy`, and `after` it.
fn judge(facts: Facts, before: &View, copy: Option<&Row>, after: &View) -> Verdict {
    let Some(kind) = difference(facts, before.row.as_ref(), copy) else { return Verdict::Equal };
    let moves = |view: &View| view.open.is_some_and(|event| event.status != EXHAUSTED);
    if before.row != after.row || moves(before) || moves(after) {
        return Verdict::Moving;
    }
    match after.open.or(before.open) {
        Some(event) => Verdict::Waiting(event.id),
        None => Verdict::Differs(kind),
    }
}

const EXHAUSTED: i16 = 2;

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
            let facts = facts(product, order, consumer)?;
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

/// The states first: what is not on its way after that has brought them, or something newer.
fn views(reader: &mut Reader, keys: &[String]) -> Result<BTreeMap<String, View>> {
    let mut views: BTreeMap<String, View> = BTreeMap::new();
    for (key, row) in rows_of(reader, SOURCE, keys)? {
        views.insert(key, View { row: Some(row), open: None });
    }
    for key in keys {
        let open = reader.page(|conn| open_event(conn, key))?;
        if open.is_some() {
            views.entry(key.clone()).or_default().open = open;
        }
    }
    Ok(views)
}

fn rows_of(reader: &mut Reader, table: Table, keys: &[String]) -> Result<BTreeMap<String, Row>> {
    let sql = format!("{} WHERE sku {{in}}", table.select());
    let rows: Vec<Row> = reader.page(|conn| of_keys(conn, &sql, keys))?;
    Ok(rows.into_iter().map(|row| (row.product.sku.clone(), row)).collect())
}

fn open_event(conn: &mut Conn, key: &str) -> QueryResult<Option<OpenEvent>> {
    let sql = "SELECT e.id, CAST(CASE WHEN f.status = 2 THEN 2 ELSE 0 END AS SMALLINT) AS status \
         FROM (SELECT id FROM outbox_event WHERE key = $1 AND kind = 0 \
               ORDER BY version DESC, id DESC LIMIT $2) e \
         LEFT JOIN outbox_pending p ON p.id = e.id LEFT JOIN outbox_sent w ON w.id = e.id \
         LEFT JOIN outbox_failed f ON f.id = e.id \
         WHERE (p.id IS NOT NULL OR w.id IS NOT NULL OR f.id IS NOT NULL) AND f.resolved_us IS NULL";
    let open: Vec<OpenEvent> =
        on!(conn, c => sql_query(sql).bind::<Text, _>(key).bind::<BigInt, _>(EVENTS).load(c))?;
    Ok(open.into_iter().max_by_key(|event| (event.status != EXHAUSTED, event.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: i64, quantity: i64, epoch: i64) -> Row {
        let updated = Timestamp::from_micros(version);
        Row { product: ProductRow::tea(version, quantity, updated), epoch }
    }

    fn tombstone(version: i64, epoch: i64) -> Row {
        let Row { product, epoch } = row(version, 0, epoch);
        Row { product: ProductRow { removed: true, ..product }, epoch }
    }

    const FACTS: Facts = Facts {
        source: SourceFacts { epoch: 1, forgotten_version: 5 },
        copy: CopyFacts { complete_us: Some(Timestamp::from_micros(1)), removals_forgotten: 3 },
        role: Role::Required,
    };

    #[test]
    fn every_kind_of_difference_is_seen() {
        let source = row(4, 10, 0);
        let kind = |source: Option<&Row>, copy: Option<&Row>| difference(FACTS, source, copy);
        assert_eq!(kind(Some(&source), Some(&row(4, 10, 1))), None);
        assert_eq!(kind(Some(&source), Some(&row(4, 9, 1))), Some(Kind::CopyContent));
        assert_eq!(kind(Some(&source), Some(&row(3, 10, 1))), Some(Kind::CopyOlder));
        assert_eq!(kind(Some(&source), Some(&row(5, 10, 1))), Some(Kind::CopyNewer));
        assert_eq!(kind(Some(&source), Some(&row(1, 10, 2))), Some(Kind::CopyNewer));
        assert_eq!(kind(Some(&source), None), Some(Kind::CopyMissing));
        assert_eq!(kind(None, Some(&row(4, 10, 1))), Some(Kind::CopyUnknown));
        assert_eq!(kind(None, Some(&tombstone(5, 1))), None);
        assert_eq!(kind(None, Some(&tombstone(6, 1))), Some(Kind::CopyUnknown));
        assert_eq!(kind(Some(&tombstone(3, 0)), None), None);
        assert_eq!(kind(Some(&tombstone(4, 0)), None), Some(Kind::CopyMissing));
    }

    #[test]
    fn a_copy_that_was_emptied_meanwhile_is_not_compared() {
        assert_eq!(FACTS.hindrance(), None);
        let copy = CopyFacts { complete_us: None, ..FACTS.copy };
        assert!(Facts { copy, ..FACTS }.hindrance().is_some_and(|why| why.contains("complete")));
    }

    #[test]
    fn only_a_copy_whose_answers_are_waited_for_is_compared() {
        let consumer = |name: &str, required, state| {
            let name = name.to_owned();
            ConsumerRow { name, required, state }
        };
        let known = [consumer("a", true, 0), consumer("b", false, 0), consumer("c", true, 1)];
        let hindered = |consumers: &[ConsumerRow], name: &str| {
            Facts { role: Role::of(consumers, name), ..FACTS }.hindrance().is_some()
        };
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| hindered(&known, name)),
            [false, true, true, true]
        );
        assert!(!hindered(&[], "d"));
    }

    #[test]
    fn what_the_services_forgot_meanwhile_is_no_finding() {
        // Kept when the tables were walked, gone by the second look.
        let tombstone = tombstone(7, 0);
        let still = View { row: Some(tombstone.clone()), open: None };
        assert_eq!(judge(FACTS, &still, None, &still), Verdict::Differs(Kind::CopyMissing));
        let copy = CopyFacts { removals_forgotten: 7, ..FACTS.copy };
        assert_eq!(judge(Facts { copy, ..FACTS }, &still, None, &still), Verdict::Equal);
        let (gone, copied) = (View::default(), Row { epoch: 1, ..tombstone });
        let judged = |facts| judge(facts, &gone, Some(&copied), &gone);
        assert_eq!(judged(FACTS), Verdict::Differs(Kind::CopyUnknown));
        let source = SourceFacts { forgotten_version: 7, ..FACTS.source };
        assert_eq!(judged(Facts { source, ..FACTS }), Verdict::Equal);
    }

    #[test]
    fn what_moves_is_no_finding() {
        let view = |row: Row, status: Option<i16>| View {
            row: Some(row),
            open: status.map(|status| OpenEvent { id: EventId::MAX, status }),
        };
        let (still, copy) = (view(row(4, 10, 0), None), row(3, 10, 1));
        let judged = |before: &View, after: &View| judge(FACTS, before, Some(&copy), after);
        assert_eq!(judged(&still, &still), Verdict::Differs(Kind::CopyOlder));
        assert_eq!(judged(&view(row(4, 10, 0), Some(0)), &still), Verdict::Moving);
        assert_eq!(judged(&still, &view(row(5, 9, 0), None)), Verdict::Moving);
        let waits = view(row(4, 10, 0), Some(EXHAUSTED));
        assert_eq!(judged(&waits, &waits), Verdict::Waiting(EventId::MAX));
    }
}
