//! I7 and I3 in the history of each product: stock is conserved from one version to the next.
//!
//! Every change of stock is an event with what caused it. So from version to version the stock differs by exactly the
//! adjustment, or by what the order took or gave back; opening + adjustments − deductions = quantity follows, wherever the
//! history begins. That the product is what its last event says is [`source`](super::source)'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::inventory::{CHANGED, REMOVED};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};
use serde::Deserialize;

use super::Terms;
use super::finding::{Finding, Invariant, Kind, Side, Wrong};
use super::kept::Kept;
use super::reader::{PAGE, Reader, of_ids};
use super::report::Report;
use super::rows::{DeductionRow, ProductRow};
use super::suspects::Suspects;

/// A product as an event tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct State {
    /// None of a row, and of what came before events named it.
    #[serde(default)]
    sku: Option<String>,
    description: String,
    quantity: i64,
    unit_price_minor: i64,
    allow_backorder: bool,
    removed: bool,
    pub(super) version: i64,
    updated_at: Timestamp,
    #[serde(default)]
    cause: Option<Cause>,
}

/// What it came from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Cause {
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    reference: Option<String>,
}

impl State {
    /// What an event's payload says.
    pub(super) fn read(payload: &str) -> serde_json::Result<Self> {
        serde_json::from_str(payload)
    }

    /// What a row says.
    pub(super) fn of_row(row: &ProductRow) -> Self {
        Self {
            sku: None,
            description: row.description.clone(),
            quantity: row.quantity,
            unit_price_minor: row.unit_price_minor,
            allow_backorder: row.allow_backorder,
            removed: row.removed,
            version: row.version,
            updated_at: row.updated_us,
            cause: None,
        }
    }

    /// In words, but for its version.
    pub(super) fn content(&self) -> String {
        let Self { quantity, description, unit_price_minor, updated_at, .. } = self;
        let removed = if self.removed { ", removed" } else { "" };
        format!("{quantity} × {description:?} at {unit_price_minor}{removed}, since {updated_at}")
    }

    /// Whether both say the same, whatever their names, versions and causes.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        let (sku, version, cause) = (other.sku.clone(), other.version, other.cause.clone());
        Self { sku, version, cause, ..self.clone() } == *other
    }

    /// What changed the stock.
    fn changed_by(&self) -> ChangedBy {
        let Some(cause) = &self.cause else { return ChangedBy::Unknown };
        let order = || cause.reference.as_deref().and_then(|id| id.parse().ok());
        match (cause.kind.as_str(), cause.reason.as_deref()) {
            ("put", _) => ChangedBy::Put,
            ("removal", _) => ChangedBy::Removal,
            ("adjustment", _) => ChangedBy::Adjustment,
            ("order", Some("placed")) => order().map_or(ChangedBy::Unknown, ChangedBy::Placed),
            ("order", Some("cancelled")) => {
                order().map_or(ChangedBy::Unknown, ChangedBy::Cancelled)
            }
            ("repair" | "resync" | "bootstrap" | "replay", _) => ChangedBy::Nothing,
            _ => ChangedBy::Unknown,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}: {}", self.version, self.content())
    }
}

/// What changes stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangedBy {
    Put,
    Removal,
    Adjustment,
    Placed(EventId),
    Cancelled(EventId),
    /// It is only told again.
    Nothing,
    /// A kind that came after this program.
    Unknown,
}

/// An event of a product, with what is noted of its cause.
#[derive(Debug, Clone)]
struct Step {
    row: EventRow,
    state: Result<State, String>,
    adjustment: Option<AdjustmentRow>,
    deduction: Option<DeductionRow>,
}

impl Step {
    /// The state, if it is of the version and the product that the event says.
    fn own_state(&self) -> Option<&State> {
        let is_own = |state: &&State| {
            state.version == self.row.version
                && state.sku.as_ref().is_none_or(|sku| *sku == self.row.key)
        };
        self.state.as_ref().ok().filter(is_own)
    }
}

#[derive(Debug, Clone, QueryableByName)]
struct EventRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Text)]
    event_type: String,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    payload: String,
    #[diesel(sql_type = BigInt)]
    created_us: Timestamp,
}

#[derive(Debug, Clone, QueryableByName)]
struct AdjustmentRow {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    delta: i64,
    #[diesel(sql_type = BigInt)]
    quantity: i64,
}

/// Where the walk over the events of all products is: key, version and id.
type Place = (String, i64, EventId);

/// Looks at the history of every product.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let (mut adjustments, mut suspects) = (Adjustments::default(), Suspects::default());
    let mut chain = Chain { kept, last: None };
    let read = |conn: &mut Conn, after: &Place| steps(conn, after, &mut adjustments);
    let take = |steps: Vec<Step>| {
        let next = steps.last().map(|Step { row, .. }| (row.key.clone(), row.version, row.id));
        suspects.extend(steps.into_iter().filter_map(|step| chain.take(step)));
        Ok(next)
    };
    let begin = (String::new(), i64::MIN, EventId::NIL);
    let rows = product.walk("states of products", begin, read, take)?;
    report.looked(Invariant::I7, Side::Product, "states of products, by their causes", rows);
    let what = (Invariant::I7, "states of products");
    suspects.tell(what, report, || Kept::read(product, order, terms), Suspect::judge)
}

/// The last state of the product that the walk is at.
struct Chain<'a> {
    kept: &'a Kept,
    last: Option<Link>,
}

#[derive(Debug, Clone)]
struct Link {
    key: String,
    state: State,
    /// When its version was made, by its first event; none where that is gone, and the version was only told again, or where
    /// what came behind it can't be read.
    made: Option<Timestamp>,
}

/// A state that seems wrong, and the one of its product before it.
#[derive(Debug)]
struct Suspect {
    last: Option<Link>,
    step: Step,
}

impl Suspect {
    fn judge(&self, kept: &Kept) -> Option<Finding> {
        find(kept, self.last.as_ref(), &self.step)
    }
}

impl Chain<'_> {
    fn take(&mut self, step: Step) -> Option<Suspect> {
        let last = self.last.as_ref().filter(|last| last.key == step.row.key);
        let seems_wrong = find(self.kept, last, &step).is_some();
        let before = last.filter(|_| seems_wrong).cloned();
        // What is told again is no new link, and what caused a version is said by its first event.
        if step.row.version > last.map_or(i64::MIN, |last| last.state.version) {
            match step.own_state() {
                Some(state) => {
                    let is_first = state.changed_by() != ChangedBy::Nothing;
                    let made = is_first.then_some(step.row.created_us);
                    let key = step.row.key.clone();
                    self.last = Some(Link { key, state: state.clone(), made });
                }
                // It is a version that can't be read, but no gap.
                None => {
                    let last = self.last.as_mut().filter(|last| last.key == step.row.key);
                    last.into_iter().for_each(|last| last.made = None);
                }
            }
        }
        seems_wrong.then_some(Suspect { last: before, step })
    }
}

fn find(kept: &Kept, last: Option<&Link>, step: &Step) -> Option<Finding> {
    let wrong = match &step.state {
        Ok(state) => judge(kept, last, step, state)?,
        Err(error) => {
            let found = format!("the payload of {} can't be read: {error}", step.row.id);
            Wrong::new(Kind::TwoContents, "a state of the product", found)
        }
    };
    Some(wrong.at(Side::Product, &step.row.key))
}

/// What is wrong with a state that follows another one of its product, if there is one.
fn judge(kept: &Kept, last: Option<&Link>, step: &Step, state: &State) -> Option<Wrong> {
    if state.version != step.row.version {
        let expected = format!("version {}, as its event says", step.row.version);
        return Some(Wrong::new(Kind::TwoContents, expected, state.to_string()));
    }
    if let Some(sku) = state.sku.as_ref().filter(|sku| **sku != step.row.key) {
        let expected = format!("a state of {}, as its event says", step.row.key);
        return Some(Wrong::new(Kind::TwoContents, expected, format!("one of {sku}: {state}")));
    }
    let event_type = if state.removed { REMOVED.name } else { CHANGED.name };
    if step.row.event_type != event_type {
        let expected = format!("{event_type}, as its payload says");
        return Some(Wrong::new(Kind::TwoContents, expected, &step.row.event_type));
    }
    if let Some(last) = last {
        if state.version == last.state.version {
            let same = state.has_content_of(&last.state);
            let wrong = || Wrong::new(Kind::TwoContents, last.state.to_string(), state.to_string());
            return (!same).then(wrong);
        }
        if state.updated_at < last.state.updated_at {
            let expected = format!("not before {}", last.state.updated_at);
            return Some(Wrong::new(Kind::VersionDown, expected, state.to_string()));
        }
    }
    noted(kept, step, state).or_else(|| amount(kept, last?, step, state))
}

/// Whether what caused the state is noted, and with the same version.
fn noted(kept: &Kept, step: &Step, state: &State) -> Option<Wrong> {
    let missing = |what: String, since: Timestamp| {
        let is_young = step.row.created_us > since && state.updated_at > since;
        is_young.then(|| Wrong::new(Kind::CauseMissing, what, format!("none; {state}")))
    };
    let version = state.version;
    let at = |order: EventId, noted: i64| {
        let expected = format!("the stock changed once, with version {noted}, for order {order}");
        (noted != version).then(|| Wrong::new(Kind::DeductedTwice, expected, state.to_string()))
    };
    match (state.changed_by(), &step.adjustment, &step.deduction) {
        (ChangedBy::Adjustment, None, _) => {
            missing(format!("an adjustment that made version {version}"), kept.adjustments)
        }
        (ChangedBy::Adjustment, Some(adjustment), _) if adjustment.quantity != state.quantity => {
            let expected = format!("{}, by the adjustment {}", adjustment.quantity, adjustment.seq);
            Some(Wrong::new(Kind::StockUnexplained, expected, state.to_string()))
        }
        (ChangedBy::Placed(order) | ChangedBy::Cancelled(order), _, None) => {
            let since = kept.records.max(kept.product_events);
            let is_known = order.made_at() > since;
            let what = format!("a deduction of order {order}");
            if is_known { missing(what, since) } else { None }
        }
        (ChangedBy::Placed(order), _, Some(taken)) => at(order, taken.version),
        (ChangedBy::Cancelled(order), _, Some(taken)) => {
            at(order, taken.returned_version.unwrap_or(0))
        }
        _ => None,
    }
}

/// Whether the stock changed by what its cause says.
fn amount(kept: &Kept, last: &Link, step: &Step, state: &State) -> Option<Wrong> {
    let (before, deducted) = (&last.state, step.deduction.as_ref().map(|taken| taken.quantity));
    let delta = match state.changed_by() {
        ChangedBy::Adjustment => step.adjustment.as_ref()?.delta,
        ChangedBy::Placed(_) => deducted?.checked_neg()?,
        ChangedBy::Cancelled(_) => deducted?,
        ChangedBy::Removal => before.quantity.checked_neg()?,
        // Its first event may have gone, or, by another clock, come behind.
        ChangedBy::Nothing => return None,
        ChangedBy::Put | ChangedBy::Unknown => 0,
    };
    if state.version != before.version + 1 {
        // A product that comes again after its tombstone went begins above all versions that went.
        if before.removed && state.changed_by() == ChangedBy::Put {
            return None;
        }
        // Retention may have taken what lies between, unless the one before it is younger than that.
        let expected = format!("an event of version {}", before.version + 1);
        let is_known = last.made.is_some_and(|made| made > kept.product_events);
        let found = format!("the next one is {state}");
        return is_known.then(|| Wrong::new(Kind::ChangeUntold, expected, found));
    }
    let expected = before.quantity.checked_add(delta);
    let is_any = matches!(state.changed_by(), ChangedBy::Put | ChangedBy::Unknown);
    (!is_any && expected != Some(state.quantity)).then(|| {
        let sum = format!("{} {delta:+} = {}", before.quantity, expected.unwrap_or_default());
        Wrong::new(Kind::StockUnexplained, sum, state.to_string())
    })
}

fn steps(
    conn: &mut Conn,
    (key, version, id): &Place,
    adjustments: &mut Adjustments,
) -> QueryResult<Vec<Step>> {
    let sql = "SELECT id, event_type, key, version, payload, created_us FROM outbox_event \
               WHERE kind = 0 AND (key, version, id) > ($1, $2, $3) \
               ORDER BY key, version, id LIMIT $4";
    let rows: Vec<EventRow> = on!(&mut *conn, c => sql_query(sql)
        .bind::<Text, _>(key)
        .bind::<BigInt, _>(*version)
        .bind::<EventIdSql, _>(*id)
        .bind::<BigInt, _>(PAGE)
        .load(c))?;
    let step = |row: EventRow| {
        let state = State::read(&row.payload).map_err(|error| error.to_string());
        Step { row, state, adjustment: None, deduction: None }
    };
    let mut steps: Vec<Step> = rows.into_iter().map(step).collect();
    adjustments.find(conn, &mut steps)?;
    find_deductions(conn, &mut steps)?;
    Ok(steps)
}

fn find_deductions(conn: &mut Conn, steps: &mut [Step]) -> QueryResult<()> {
    let orders: BTreeSet<EventId> = steps.iter().filter_map(order_of).collect();
    let orders: Vec<EventId> = orders.into_iter().collect();
    if orders.is_empty() {
        return Ok(());
    }
    let sql = "SELECT order_id, sku, quantity, version, returned_version \
               FROM order_deduction WHERE order_id {in}";
    let rows: Vec<DeductionRow> = of_ids(conn, sql, &orders)?;
    let rows: BTreeMap<(EventId, String), DeductionRow> =
        rows.into_iter().map(|row| ((row.order_id, row.sku.clone()), row)).collect();
    for step in steps {
        let order = order_of(step);
        step.deduction = order.and_then(|order| rows.get(&(order, step.row.key.clone()))).cloned();
    }
    Ok(())
}

fn order_of(step: &Step) -> Option<EventId> {
    match step.state.as_ref().ok()?.changed_by() {
        ChangedBy::Placed(order) | ChangedBy::Cancelled(order) => Some(order),
        _ => None,
    }
}

/// The adjustments of each product, read along with its events: both are in the order of its versions.
#[derive(Debug, Default)]
struct Adjustments {
    /// How far those of one product are read, the one that the last page ended with.
    read: Option<(String, i64)>,
}

/// What to read of one product's adjustments.
#[derive(Debug)]
struct Wanted {
    sku: String,
    after: i64,
    from_version: i64,
    many: i64,
}

impl Adjustments {
    fn find(&mut self, conn: &mut Conn, steps: &mut [Step]) -> QueryResult<()> {
        let wanted = self.wanted(steps);
        let rows = if wanted.is_empty() { Vec::new() } else { load(conn, &wanted)? };
        let rows: BTreeMap<(String, i64), AdjustmentRow> =
            rows.into_iter().map(|row| ((row.sku.clone(), row.version), row)).collect();
        for step in &mut *steps {
            if is_adjustment(step) {
                let found = rows.get(&(step.row.key.clone(), step.row.version)).cloned();
                if let Some(found) = &found {
                    self.read = Some((found.sku.clone(), found.seq));
                }
                step.adjustment = found;
            }
        }
        Ok(())
    }

    /// What to read for `steps`. So many adjustments as there are events of them lie one behind the other only where no
    /// version is missing in between; behind a gap the counting begins anew.
    fn wanted(&self, steps: &[Step]) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        // The last event, if it was the first one of its version, and whether the last of what is wanted goes on.
        let mut last: Option<(&str, i64)> = None;
        let mut goes_on = false;
        for step in steps {
            let (sku, version) = (step.row.key.as_str(), step.row.version);
            let changed_by = step.state.as_ref().map_or(ChangedBy::Unknown, State::changed_by);
            if changed_by == ChangedBy::Nothing && last == Some((sku, version)) {
                continue;
            }
            goes_on &= last == Some((sku, version.saturating_sub(1)));
            let is_first = !matches!(changed_by, ChangedBy::Nothing | ChangedBy::Unknown);
            last = is_first.then_some((sku, version));
            if changed_by != ChangedBy::Adjustment {
                continue;
            }
            match wanted.last_mut().filter(|_| goes_on) {
                Some(one) => one.many += 1,
                None => {
                    let read = self.read.as_ref().filter(|(read, _)| read == sku);
                    let after = read.map_or(i64::MIN, |(_, seq)| *seq);
                    wanted.push(Wanted {
                        sku: sku.to_owned(),
                        after,
                        from_version: version,
                        many: 1,
                    });
                }
            }
            goes_on = true;
        }
        wanted
    }
}

fn is_adjustment(step: &Step) -> bool {
    step.state.as_ref().is_ok_and(|state| state.changed_by() == ChangedBy::Adjustment)
}

fn load(conn: &mut Conn, wanted: &[Wanted]) -> QueryResult<Vec<AdjustmentRow>> {
    match conn {
        Conn::Pg(c) => sql_query(
            "SELECT a.seq, a.sku, a.version, a.delta, a.quantity \
             FROM unnest($1, $2, $3, $4) AS k (sku, after_seq, from_version, many) CROSS JOIN LATERAL \
               (SELECT * FROM adjustment o WHERE o.sku = k.sku AND o.seq > k.after_seq \
                  AND o.version >= k.from_version ORDER BY o.seq LIMIT k.many) a",
        )
        .bind::<Array<Text>, _>(wanted.iter().map(|one| one.sku.as_str()).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|one| one.after).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|one| one.from_version).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|one| one.many).collect::<Vec<_>>())
        .load(c),
        Conn::Sqlite(c) => {
            let mut rows = Vec::new();
            for one in wanted {
                let sql = "SELECT seq, sku, version, delta, quantity FROM adjustment \
                           WHERE sku = $1 AND seq > $2 AND version >= $3 ORDER BY seq LIMIT $4";
                let found: Vec<AdjustmentRow> = sql_query(sql)
                    .bind::<Text, _>(&one.sku)
                    .bind::<BigInt, _>(one.after)
                    .bind::<BigInt, _>(one.from_version)
                    .bind::<BigInt, _>(one.many)
                    .load(c)?;
                rows.extend(found);
            }
            Ok(rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_micros(1_000_000);

    fn kept() -> Kept {
        Kept::from_all(Timestamp::default())
    }

    fn state(version: i64, quantity: i64, cause: (&str, Option<&str>)) -> State {
        let (kind, reason) = (cause.0.to_owned(), cause.1.map(str::to_owned));
        let reference = Some(EventId::MAX.to_string());
        let cause = Some(Cause { kind, reason, reference });
        State { cause, ..State::of_row(&ProductRow::tea(version, quantity, AT)) }
    }

    fn step(state: State) -> Step {
        let row = EventRow {
            id: EventId::MAX,
            event_type: if state.removed { REMOVED.name } else { CHANGED.name }.to_owned(),
            key: "TEA".to_owned(),
            version: state.version,
            payload: String::new(),
            created_us: AT,
        };
        Step { row, state: Ok(state), adjustment: None, deduction: None }
    }

    fn adjusted(version: i64, quantity: i64, delta: i64) -> Step {
        let sku = "TEA".to_owned();
        let adjustment = Some(AdjustmentRow { seq: 1, sku, version, delta, quantity });
        Step { adjustment, ..step(state(version, quantity, ("adjustment", None))) }
    }

    fn taken(version: i64, quantity: i64, row: (i64, i64)) -> Step {
        let sku = "TEA".to_owned();
        let deduction = Some(DeductionRow {
            order_id: EventId::MAX,
            sku,
            quantity: row.0,
            version: row.1,
            returned_version: None,
        });
        Step { deduction, ..step(state(version, quantity, ("order", Some("placed")))) }
    }

    /// What is said of each of `steps`.
    fn kinds(steps: &[Step]) -> Vec<Option<Kind>> {
        let kept = kept();
        let mut chain = Chain { kept: &kept, last: None };
        let mut take = |step: &Step| chain.take(step.clone())?.judge(&kept);
        steps.iter().map(|step| take(step).map(|finding| finding.kind)).collect()
    }

    /// What is said of the last of `steps`, of the others nothing.
    fn kind(steps: &[Step]) -> Option<Kind> {
        let mut told = kinds(steps);
        let last = told.pop().flatten();
        assert!(told.iter().all(Option::is_none), "{told:?}");
        last
    }

    fn opening() -> Step {
        step(state(1, 10, ("put", None)))
    }

    #[test]
    fn stock_changes_by_what_its_cause_says() {
        assert_eq!(kind(&[opening(), adjusted(2, 7, -3), taken(3, 5, (2, 3))]), None);
        assert_eq!(kind(&[opening(), adjusted(2, 8, -3)]), Some(Kind::StockUnexplained));
        assert_eq!(kind(&[opening(), taken(2, 9, (2, 2))]), Some(Kind::StockUnexplained));
        let mut other = adjusted(2, 7, -3);
        other.adjustment = other.adjustment.map(|row| AdjustmentRow { quantity: 6, ..row });
        assert_eq!(kind(&[opening(), other]), Some(Kind::StockUnexplained));
    }

    #[test]
    fn what_is_told_again_changes_nothing() {
        let resync = step(state(1, 10, ("resync", None)));
        let repair = step(state(5, 10, ("repair", None)));
        assert_eq!(kind(&[opening(), resync, repair, adjusted(6, 9, -1)]), None);
        let other = step(state(1, 11, ("resync", None)));
        assert_eq!(kind(&[opening(), other]), Some(Kind::TwoContents));
    }

    #[test]
    fn a_cause_is_noted_once() {
        let missing = Step { adjustment: None, ..adjusted(2, 7, -3) };
        assert_eq!(kind(&[opening(), missing]), Some(Kind::CauseMissing));
        // The same order's deduction, once more.
        assert_eq!(
            kind(&[opening(), taken(2, 8, (2, 2)), taken(3, 6, (2, 2))]),
            Some(Kind::DeductedTwice)
        );
    }

    #[test]
    fn behind_a_gap_adjustments_are_counted_anew() {
        let by = |kind: &'static str| move |version| step(state(version, 1, (kind, None)));
        let (adjustment, put, replay) = (by("adjustment"), by("put"), by("replay"));
        let wanted = |steps: &[Step]| -> Vec<(i64, i64)> {
            let wanted = Adjustments::default().wanted(steps);
            wanted.iter().map(|one| (one.from_version, one.many)).collect()
        };
        assert_eq!(wanted(&[put(4), adjustment(5), put(6), adjustment(7)]), [(5, 2)]);
        assert_eq!(wanted(&[adjustment(5), adjustment(21), adjustment(22)]), [(5, 1), (21, 2)]);
        assert_eq!(wanted(&[adjustment(5), put(21), adjustment(22)]), [(5, 1), (22, 1)]);
        // The first event of version 6 is gone, and may have been an adjustment.
        assert_eq!(wanted(&[adjustment(5), replay(6), adjustment(7)]), [(5, 1), (7, 1)]);
        assert_eq!(wanted(&[adjustment(5), replay(5), adjustment(6)]), [(5, 2)]);
        let other =
            Step { row: EventRow { key: "MILK".to_owned(), ..adjustment(6).row }, ..adjustment(6) };
        assert_eq!(wanted(&[adjustment(5), other]), [(5, 1), (6, 1)]);
    }

    #[test]
    fn a_version_that_is_missing_is_a_change_that_nobody_was_told() {
        assert_eq!(kind(&[opening(), adjusted(3, 7, -3)]), Some(Kind::ChangeUntold));
    }

    #[test]
    fn a_product_that_comes_again_may_begin_anywhere() {
        let removed = State { removed: true, ..state(2, 0, ("removal", None)) };
        let again =
            |cause| kind(&[opening(), step(removed.clone()), step(state(9, 4, (cause, None)))]);
        assert_eq!(again("put"), None);
        assert_eq!(again("removal"), Some(Kind::ChangeUntold));
    }

    #[test]
    fn a_version_that_may_have_gone_proves_no_gap() {
        // Old, and told again a moment ago: when it was told says nothing of what came behind it.
        let replayed = step(state(1, 10, ("replay", None)));
        assert_eq!(kind(&[replayed, adjusted(3, 7, -3)]), None);
        let untold = Suspect {
            last: Some(Link {
                key: "TEA".to_owned(),
                state: state(1, 10, ("put", None)),
                made: Some(AT),
            }),
            step: adjusted(3, 7, -3),
        };
        assert!(untold.judge(&kept()).is_some());
        assert!(untold.judge(&Kept::from_all(AT)).is_none());
    }

    #[test]
    fn an_event_is_what_its_payload_says() {
        let named = |sku: &str| State { sku: Some(sku.to_owned()), ..state(1, 10, ("put", None)) };
        assert_eq!(kind(&[step(named("TEA"))]), None);
        assert_eq!(kind(&[step(named("MILK"))]), Some(Kind::TwoContents));
        let mut gone = opening();
        gone.row.event_type = REMOVED.name.to_owned();
        assert_eq!(kind(&[gone]), Some(Kind::TwoContents));
    }

    #[test]
    fn one_event_that_is_damaged_says_nothing_of_those_behind_it() {
        let damaged = |state: Result<State, String>| Step { state, ..adjusted(2, 7, -3) };
        let put = |version| state(version, 90, ("put", None));
        for bad in [
            damaged(Err("it is no JSON".to_owned())),
            damaged(Ok(put(1_000))),
            damaged(Ok(State { sku: Some("MILK".to_owned()), ..put(2) })),
        ] {
            let told = kinds(&[opening(), bad.clone(), adjusted(3, 5, -2), adjusted(4, 4, -1)]);
            assert_eq!(told, [None, Some(Kind::TwoContents), None, None], "{bad:?}");
            // What comes behind the next good one is judged again.
            let told = kinds(&[opening(), bad, adjusted(3, 5, -2), adjusted(5, 4, -1)]);
            assert_eq!(told.last(), Some(&Some(Kind::ChangeUntold)));
        }
    }

    #[test]
    fn time_goes_on_with_the_versions() {
        let mut early = adjusted(2, 7, -3);
        early.state = early.state.map(|state| State { updated_at: Timestamp::default(), ..state });
        assert_eq!(kind(&[opening(), early]), Some(Kind::VersionDown));
    }
}
