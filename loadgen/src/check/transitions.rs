//! I4: only the transitions of the state tables, of events and of orders; the attempt never beyond its limit.
//!
//! What goes straight leaves no line in an event's history, what does not leaves one for each step, as long as the event is
//! kept. So the lines must fit each other, and an open row must be where the last of them led.

use anyhow::Result;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};

use super::finding::{Finding, Invariant, Kind, Side};
use super::reader::{PAGE, Reader};
use super::report::Report;

/// An event that was sent before and is open.
#[derive(Debug, Clone, QueryableByName)]
struct OpenRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    /// 0 PENDING, 1 SENT, 2 EXHAUSTED.
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    attempt_limit: i32,
    #[diesel(sql_type = Bool)]
    resolved: bool,
    /// The newest attempt that failed, by the history.
    #[diesel(sql_type = Nullable<Integer>)]
    failed: Option<i32>,
    /// The newest attempt that was a probe.
    #[diesel(sql_type = Nullable<Integer>)]
    probed: Option<i32>,
    /// Answers that count or not, whatever their attempt: what failed last can't be told then.
    #[diesel(sql_type = BigInt)]
    rejected: i64,
}

/// A line of an event's history.
#[derive(Debug, Clone, QueryableByName)]
struct Line {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = EventIdSql)]
    event_id: EventId,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Text)]
    what: String,
}

/// Looks at the open rows and at the histories of a service's events.
pub(super) fn check(reader: &mut Reader, report: &mut Report) -> Result<()> {
    check_open(reader, "outbox_sent", "CAST(1 AS SMALLINT) AS status, FALSE AS resolved", report)?;
    let failed = "o.status, o.resolved_us IS NOT NULL AS resolved";
    check_open(reader, "outbox_failed", failed, report)?;
    let side = reader.side;
    let mut history = History::default();
    let take = |lines: Vec<Line>| {
        let next = lines.last().map(|line| (line.event_id, line.seq));
        for line in &lines {
            if let Some(wrong) = history.step(line) {
                let found = format!("{} of attempt {} {wrong}", line.what, line.attempt);
                let expected = "a step that the state table allows";
                report.tell(Finding::new(
                    Kind::IllegalHistory,
                    side,
                    line.event_id,
                    expected,
                    found,
                ));
            }
        }
        Ok(next)
    };
    let rows = reader.walk("lines of histories", (EventId::NIL, 0), lines, take)?;
    report.looked(Invariant::I4, side, "lines of histories", rows);
    Ok(())
}

fn check_open(
    reader: &mut Reader,
    table: &'static str,
    columns: &str,
    report: &mut Report,
) -> Result<()> {
    let side = reader.side;
    let newest = |what: &str| {
        format!(
            "(SELECT max(h.attempt) FROM outbox_history h WHERE h.event_id = o.id AND h.what IN ({what}))"
        )
    };
    let sql = format!(
        "SELECT o.id, o.attempt, o.attempt_limit, {columns}, {} AS failed, {} AS probed, \
           (SELECT count(*) FROM outbox_history h WHERE h.event_id = o.id AND h.what = 'REJECTED') AS rejected \
         FROM {table} o WHERE o.id > $1 ORDER BY o.id LIMIT $2",
        newest("'FAILED', 'OVERDUE', 'UNPRODUCIBLE', 'RETRIED'"),
        newest("'PROBED'"),
    );
    let read = |conn: &mut Conn, after: &EventId| {
        on!(conn, c => sql_query(&sql)
            .bind::<EventIdSql, _>(*after)
            .bind::<BigInt, _>(PAGE)
            .load::<OpenRow>(c))
    };
    let take = |rows: Vec<OpenRow>| {
        rows.iter().for_each(|row| report.tell_all(judge_open(row, side)));
        Ok(rows.last().map(|row| row.id))
    };
    let rows = reader.walk(table, EventId::NIL, read, take)?;
    report.looked(Invariant::I4, side, table, rows);
    Ok(())
}

/// What is wrong with the row of an event that is open.
fn judge_open(row: &OpenRow, side: Side) -> Option<Finding> {
    let OpenRow { attempt, attempt_limit, .. } = *row;
    let illegal = |expected: String, found: String| {
        Some(Finding::new(Kind::IllegalAttempt, side, row.id, expected, found))
    };
    if attempt > attempt_limit || attempt < 1 {
        return illegal(
            "an attempt from 1 to its limit".to_owned(),
            format!("{attempt} of {attempt_limit}"),
        );
    }
    if row.resolved && row.status != 2 {
        return illegal(
            "only EXHAUSTED events are resolved".to_owned(),
            "a resolved one that waits".to_owned(),
        );
    }
    if row.rejected > 0 {
        return None;
    }
    let failed = row.failed.unwrap_or(0);
    let (name, led_to) = match row.status {
        // What failed is sent under the next number, and a probe has a number of its own.
        1 => ("SENT", (failed + 1).max(row.probed.unwrap_or(1))),
        2 => ("EXHAUSTED", failed),
        _ => ("PENDING", failed),
    };
    if led_to == attempt {
        return None;
    }
    let expected = match led_to {
        0 => "a line of the history that says what failed".to_owned(),
        _ => format!("attempt {led_to}, by its history"),
    };
    illegal(expected, format!("{name} at attempt {attempt}"))
}

fn lines(conn: &mut Conn, after: &(EventId, i64)) -> QueryResult<Vec<Line>> {
    let sql = "SELECT seq, event_id, attempt, what FROM outbox_history \
               WHERE (event_id, seq) > ($1, $2) ORDER BY event_id, seq LIMIT $3";
    on!(conn, c => sql_query(sql)
        .bind::<EventIdSql, _>(after.0)
        .bind::<BigInt, _>(after.1)
        .bind::<BigInt, _>(PAGE)
        .load(c))
}

/// How far the history of one event has come.
#[derive(Debug, Default)]
struct History {
    event: Option<EventId>,
    /// The newest attempt of a line that counts.
    attempt: i32,
    /// The newest attempt that failed.
    failed: i32,
    /// Whether it may wait for a person: something failed, and nobody has retried it since.
    may_wait: bool,
    resolved: bool,
}

impl History {
    /// Takes the next line; says what is wrong with it.
    fn step(&mut self, line: &Line) -> Option<&'static str> {
        if self.event != Some(line.event_id) {
            *self = Self { event: Some(line.event_id), ..Self::default() };
        }
        // Answers of attempts that nobody waits for change nothing; an older release says REJECTED of those, too.
        if matches!(line.what.as_str(), "LATE" | "REJECTED") {
            self.may_wait |= line.what == "REJECTED";
            return None;
        }
        let goes_back = line.attempt < self.attempt;
        self.attempt = self.attempt.max(line.attempt);
        let wrong = match line.what.as_str() {
            "FAILED" | "OVERDUE" | "UNPRODUCIBLE" => self.fail(line.attempt),
            "RETRIED" if !self.may_wait => {
                Some("comes though nothing failed that waits for a person")
            }
            "RETRIED" => {
                (self.may_wait, self.resolved) = (false, false);
                None
            }
            "RESOLVED" | "SUPERSEDED" if !self.may_wait => Some("comes though nothing failed"),
            "RESOLVED" | "SUPERSEDED" if self.resolved => {
                Some("comes though it is resolved already")
            }
            "RESOLVED" | "SUPERSEDED" => {
                self.resolved = true;
                None
            }
            "PROBED" | "LET_OFF" => None,
            _ => Some("is not known here: is this program older than the service?"),
        };
        wrong.or(goes_back.then_some("comes after a later attempt"))
    }

    fn fail(&mut self, attempt: i32) -> Option<&'static str> {
        let again = attempt <= self.failed;
        (self.failed, self.may_wait) = (self.failed.max(attempt), true);
        match (again, self.resolved) {
            (true, _) => Some("fails for the second time"),
            (_, true) => Some("fails though it is resolved, and nobody has retried it"),
            _ => None,
        }
    }
}

/// An order, and a step of its timeline; no step where it has none.
#[derive(Debug, Clone, QueryableByName)]
struct OrderRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    placement: String,
    #[diesel(sql_type = Nullable<Text>)]
    cancellation: Option<String>,
    #[diesel(sql_type = BigInt)]
    revision: i64,
    /// Steps, the least and the greatest revision among them, and the status of that one.
    #[diesel(sql_type = BigInt)]
    steps: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    first: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    last_status: Option<String>,
    /// Whether a step follows a final one with another status.
    #[diesel(sql_type = Bool)]
    came_back: bool,
    /// Whether an earlier step had its status already.
    #[diesel(sql_type = Bool)]
    stayed: bool,
}

/// Looks at the orders of order-service and their timelines.
pub(super) fn check_orders(reader: &mut Reader, report: &mut Report) -> Result<()> {
    let side = reader.side;
    let take = |rows: Vec<OrderRow>| {
        for row in &rows {
            if let Some((expected, found)) = judge_order(row) {
                report.tell(Finding::new(Kind::IllegalOrder, side, row.id, expected, found));
            }
        }
        Ok(rows.last().map(|row| row.id))
    };
    let rows = reader.walk("orders", EventId::NIL, orders, take)?;
    report.looked(Invariant::I4, side, "orders with their timelines", rows);
    Ok(())
}

fn orders(conn: &mut Conn, after: &EventId) -> QueryResult<Vec<OrderRow>> {
    let of_steps =
        |what: &str| format!("(SELECT {what} FROM order_step s WHERE s.order_id = o.id)");
    let sql = format!(
        "SELECT o.id, o.status, o.placement, o.cancellation, o.revision, {} AS steps, {} AS first, {} AS last, \
           (SELECT s.status FROM order_step s WHERE s.order_id = o.id ORDER BY s.revision DESC LIMIT 1) AS last_status, \
           EXISTS (SELECT 1 FROM order_step s JOIN order_step n ON n.order_id = s.order_id AND n.revision = s.revision + 1 \
                   WHERE s.order_id = o.id AND s.status IN ('REJECTED', 'CANCELLED') AND n.status <> s.status) AS came_back, \
           EXISTS (SELECT 1 FROM order_step s WHERE s.order_id = o.id AND s.revision < o.revision AND s.status = o.status) AS stayed \
         FROM orders o WHERE o.id > $1 ORDER BY o.id LIMIT $2",
        of_steps("count(*)"),
        of_steps("min(s.revision)"),
        of_steps("max(s.revision)"),
    );
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(*after).bind::<BigInt, _>(PAGE).load(c))
}

/// What is expected of an order and not so.
fn judge_order(row: &OrderRow) -> Option<(String, String)> {
    let OrderRow { status, placement, cancellation, revision, .. } = row;
    if row.came_back {
        let expected = "REJECTED and CANCELLED are final".to_owned();
        return Some((expected, "its timeline goes on to another status".to_owned()));
    }
    if (row.steps, row.first, row.last) != (*revision, Some(1), Some(*revision)) {
        let expected = format!("steps 1 to {revision}");
        let (first, last) = (row.first.unwrap_or(0), row.last.unwrap_or(0));
        return Some((expected, format!("{} steps, from {first} to {last}", row.steps)));
    }
    if row.last_status.as_ref() != Some(status) {
        let last = row.last_status.as_deref().unwrap_or("no status");
        return Some((format!("{last}, by its last step"), status.clone()));
    }
    let follows = follows(placement, cancellation.as_deref());
    // What comes after a final status leaves it as it is: late answers, and commands that are sent again.
    let is_final = matches!(status.as_str(), "REJECTED" | "CANCELLED");
    if status == follows || (is_final && row.stayed) {
        return None;
    }
    let cancellation = cancellation.as_deref().unwrap_or("none");
    let expected = format!("{follows}, with placing {placement} and cancellation {cancellation}");
    Some((expected, status.clone()))
}

/// The status that follows from how far an order's commands are.
fn follows(placement: &str, cancellation: Option<&str>) -> &'static str {
    match (placement, cancellation) {
        ("OPEN", None) => "PENDING",
        ("CONFIRMED", None) => "CONFIRMED",
        ("REJECTED", None | Some("RESOLVED")) | (_, Some("REJECTED")) => "REJECTED",
        (_, None | Some("EXHAUSTED")) => "NEEDS_ATTENTION",
        (_, Some("OPEN")) => "CANCELLING",
        (_, Some(_)) => "CANCELLED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(status: i16, attempt: i32, failed: Option<i32>, probed: Option<i32>) -> OpenRow {
        let (id, attempt_limit, resolved, rejected) = (EventId::MAX, 5, false, 0);
        OpenRow { id, status, attempt, attempt_limit, resolved, failed, probed, rejected }
    }

    #[test]
    fn an_open_row_is_where_its_history_led() {
        let legal = |row: &OpenRow| judge_open(row, Side::Product).is_none();
        for row in [
            open(1, 1, None, None),
            open(1, 3, Some(2), None),
            open(1, 2, None, Some(2)),
            open(0, 2, Some(2), Some(1)),
            open(2, 5, Some(5), None),
        ] {
            assert!(legal(&row), "{row:?}");
        }
        for row in [
            open(1, 2, None, None),
            open(1, 1, Some(1), None),
            open(0, 1, None, None),
            open(2, 5, Some(4), None),
            open(1, 6, Some(5), None),
            open(0, 0, None, None),
            OpenRow { resolved: true, ..open(0, 2, Some(2), None) },
        ] {
            assert!(!legal(&row), "{row:?}");
        }
    }

    /// Takes lines of one event, and returns whether each was legal.
    fn legal(lines: &[(&str, i32)]) -> Vec<bool> {
        let mut history = History::default();
        let mut step = |(seq, (what, attempt)): (i64, &(&str, i32))| {
            let (what, attempt) = ((*what).to_owned(), *attempt);
            history.step(&Line { seq, event_id: EventId::MAX, attempt, what }).is_none()
        };
        (1..).zip(lines).map(&mut step).collect()
    }

    #[test]
    fn lines_fit_each_other() {
        let straight = [("FAILED", 1), ("OVERDUE", 2), ("LATE", 1), ("FAILED", 3), ("RETRIED", 3)];
        assert!(legal(&straight).iter().all(|legal| *legal));
        let resolved = [
            ("PROBED", 2),
            ("FAILED", 2),
            ("SUPERSEDED", 2),
            ("RETRIED", 2),
            ("FAILED", 3),
            ("RESOLVED", 3),
        ];
        assert!(legal(&resolved).iter().all(|legal| *legal));
        for wrong in [
            [("FAILED", 1), ("FAILED", 1)],
            [("FAILED", 2), ("FAILED", 1)],
            [("PROBED", 2), ("RETRIED", 2)],
            [("PROBED", 2), ("RESOLVED", 2)],
            [("FAILED", 3), ("PROBED", 2)],
            [("PROBED", 2), ("EXPLODED", 2)],
        ] {
            assert_eq!(legal(&wrong), [true, false], "{wrong:?}");
        }
        assert_eq!(legal(&[("FAILED", 1), ("RESOLVED", 1), ("RESOLVED", 1)]), [true, true, false]);
        assert_eq!(legal(&[("FAILED", 1), ("RESOLVED", 1), ("FAILED", 2)]), [true, true, false]);
    }

    fn order(status: &str, placement: &str, cancellation: Option<&str>) -> OrderRow {
        OrderRow {
            id: EventId::MAX,
            status: status.to_owned(),
            placement: placement.to_owned(),
            cancellation: cancellation.map(str::to_owned),
            revision: 2,
            steps: 2,
            first: Some(1),
            last: Some(2),
            last_status: Some(status.to_owned()),
            came_back: false,
            stayed: false,
        }
    }

    #[test]
    fn an_orders_status_follows_from_its_commands() {
        for row in [
            order("PENDING", "OPEN", None),
            order("CONFIRMED", "CONFIRMED", None),
            order("REJECTED", "REJECTED", None),
            order("CANCELLING", "CONFIRMED", Some("OPEN")),
            order("CANCELLED", "OPEN", Some("DONE")),
            order("NEEDS_ATTENTION", "EXHAUSTED", None),
            OrderRow { stayed: true, ..order("CANCELLED", "CONFIRMED", Some("OPEN")) },
            OrderRow { stayed: true, ..order("CANCELLED", "REJECTED", None) },
        ] {
            assert_eq!(judge_order(&row), None, "{row:?}");
        }
        let whole = order("CONFIRMED", "CONFIRMED", None);
        for row in [
            order("CONFIRMED", "REJECTED", None),
            order("CANCELLED", "CONFIRMED", None),
            order("CANCELLED", "CONFIRMED", Some("OPEN")),
            OrderRow { stayed: true, ..order("NEEDS_ATTENTION", "CONFIRMED", None) },
            order("CONFIRMED", "CONFIRMED", Some("DONE")),
            OrderRow { steps: 1, ..whole.clone() },
            OrderRow { revision: 3, ..whole.clone() },
            OrderRow { last_status: Some("PENDING".to_owned()), ..whole.clone() },
            OrderRow { came_back: true, ..whole },
        ] {
            assert!(judge_order(&row).is_some(), "{row:?}");
        }
    }
}
