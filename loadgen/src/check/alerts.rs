//! I5: each exhaustion has exactly one alert. That it has one is [`arrival`](super::arrival)'s; here are those of too many.
//!
//! An alert is raised and closed in the transaction that moves its event, so one page sees both.

use anyhow::Result;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable};

use super::finding::{Finding, Invariant, Kind, Side};
use super::reader::{PAGE, Reader};
use super::report::Report;

/// An alert about an exhaustion, and its event.
#[derive(Debug, Clone, QueryableByName)]
struct AlertRow {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Bool)]
    open: bool,
    #[diesel(sql_type = Nullable<EventIdSql>)]
    event_id: Option<EventId>,
    #[diesel(sql_type = Nullable<Integer>)]
    attempt: Option<i32>,
    /// The attempt at which its event is EXHAUSTED and waits for a person, if it does.
    #[diesel(sql_type = Nullable<Integer>)]
    waits_at: Option<i32>,
}

/// Looks at all alerts about exhaustions.
pub(super) fn check(reader: &mut Reader, report: &mut Report) -> Result<()> {
    let side = reader.side;
    let take = |rows: Vec<AlertRow>| {
        rows.iter().for_each(|row| report.tell_all(judge(row, side)));
        Ok(rows.last().map(|row| row.seq))
    };
    let rows = reader.walk("alerts", i64::MIN, alerts, take)?;
    report.looked(Invariant::I5, side, "alerts about exhaustions", rows);
    Ok(())
}

fn judge(row: &AlertRow, side: Side) -> Option<Finding> {
    let subject = format!("alert {}", row.seq);
    let (Some(event), Some(attempt)) = (row.event_id, row.attempt) else {
        let (expected, found) = ("an event and its attempt", "none");
        return Some(Finding::new(Kind::AlertForNothing, side, subject, expected, found));
    };
    if !row.open || row.waits_at == Some(attempt) {
        return None;
    }
    let found = format!("the alert is open, about attempt {attempt}");
    Some(match row.waits_at {
        Some(at) => {
            let expected = format!("one open alert, about attempt {at} of event {event}");
            Finding::new(Kind::AlertOfAnotherAttempt, side, subject, expected, found)
        }
        None => {
            let expected = format!("it is closed: event {event} is not EXHAUSTED, or is resolved");
            Finding::new(Kind::AlertForNothing, side, subject, expected, found)
        }
    })
}

fn alerts(conn: &mut Conn, after: &i64) -> QueryResult<Vec<AlertRow>> {
    let sql = "SELECT a.seq, a.closed_us IS NULL AS open, a.event_id, a.attempt, f.attempt AS waits_at \
         FROM (SELECT seq, closed_us, event_id, attempt FROM alert \
               WHERE kind = 'exhausted' AND seq > $1 ORDER BY seq LIMIT $2) a \
         LEFT JOIN outbox_failed f ON f.id = a.event_id AND f.status = 2 AND f.resolved_us IS NULL \
         ORDER BY a.seq";
    on!(conn, c => sql_query(sql).bind::<BigInt, _>(*after).bind::<BigInt, _>(PAGE).load(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_alert_is_about_an_event_that_waits() {
        let alert = |open, attempt, waits_at| {
            let event_id = Some(EventId::MAX);
            let row = AlertRow { seq: 1, open, event_id, attempt, waits_at };
            judge(&row, Side::Product).map(|finding| finding.kind)
        };
        assert_eq!(alert(true, Some(3), Some(3)), None);
        assert_eq!(alert(false, Some(3), None), None);
        assert_eq!(alert(true, Some(3), None), Some(Kind::AlertForNothing));
        assert_eq!(alert(true, Some(4), Some(3)), Some(Kind::AlertOfAnotherAttempt));
        assert_eq!(alert(false, None, None), Some(Kind::AlertForNothing));
    }
}
