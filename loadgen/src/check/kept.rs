//! What retention and restores may have taken away: that it is not there proves nothing.

use std::time::Duration;

use anyhow::Result;
use common::clock::{Clock, SystemClock, Timestamp};
use common::db::Conn;
use common::ids::EventId;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable};

use super::Terms;
use super::finding::Side;
use super::reader::{Reader, maybe_number, number};

/// What is younger counts as kept; where a retention is set shorter, the caller has to say so.
const YOUNG: Duration = Duration::from_secs(12 * 60 * 60);

/// When the oldest order ended that would go if it were old enough: one with stock that is still promised, or with an open
/// command, stays however old it is, and shows nothing of others. The index of ended orders gives it.
const OLDEST_ORDER: &str = "SELECT changed_us AS number FROM orders o \
     WHERE status IN ('CONFIRMED', 'REJECTED', 'CANCELLED') \
     AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.order_id = o.id) \
     AND NOT EXISTS (SELECT 1 FROM outbox_event e WHERE e.key = CAST(o.id AS TEXT) \
       AND (EXISTS (SELECT 1 FROM outbox_pending w WHERE w.id = e.id) \
         OR EXISTS (SELECT 1 FROM outbox_sent w WHERE w.id = e.id) \
         OR EXISTS (SELECT 1 FROM outbox_failed w WHERE w.id = e.id))) \
     ORDER BY changed_us LIMIT 1";

/// So far may the clocks of those who write rows and of those who delete them be apart, or a row be older than its transaction.
const SLACK: Duration = Duration::from_secs(30);

/// Settled events that are looked at for a bound, the oldest first.
const OLDEST: i64 = 5_000;

/// What of one moment or later is there, if it ever was.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Events of product-service.
    pub(super) product_events: Timestamp,
    /// Events of order-service.
    pub(super) order_events: Timestamp,
    /// Adjustments of the stock.
    pub(super) adjustments: Timestamp,
    /// Orders at product-service.
    pub(super) records: Timestamp,
    /// Orders at order-service that have ended.
    pub(super) orders: Timestamp,
    /// Databases that came back from a backup: what happened meanwhile may be missing on one side.
    pub(super) restored: Vec<Restored>,
}

/// A time that a database may know nothing of.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(super) struct Restored {
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) since_us: Option<Timestamp>,
    #[diesel(sql_type = BigInt)]
    pub(super) found_us: Timestamp,
}

impl Kept {
    /// What both databases, in whatever order, say of it now. What is kept gets less with time, so this is asked again
    /// before anything is missed.
    pub(super) fn read(one: &mut Reader, other: &mut Reader, terms: &Terms) -> Result<Self> {
        let (product, order) = if one.side == Side::Product { (one, other) } else { (other, one) };
        let kept_from = |oldest| terms.kept_from(terms.time(), oldest);
        let events_from = |reader: &mut Reader| -> Result<Timestamp> {
            let now = terms.time();
            let (oldest, resolved) =
                reader.page(|conn| Ok((events(conn)?, resolved(conn, now)?)))?;
            let from = terms.kept_from(now, oldest);
            Ok(if terms.kept.is_some() { from } else { from.max(resolved) })
        };
        let mut restored = product.page(restorations)?;
        restored.extend(order.page(restorations)?);
        let oldest_adjustment = "SELECT at_us AS number FROM adjustment ORDER BY seq LIMIT 1";
        let forgotten = "SELECT up_to AS number FROM forgotten WHERE what = 'orders'";
        Ok(Self {
            product_events: events_from(product)?,
            order_events: events_from(order)?,
            adjustments: kept_from(product.page(|conn| maybe_number(conn, oldest_adjustment))?),
            orders: kept_from(order.page(|conn| maybe_number(conn, OLDEST_ORDER))?),
            // How far these went is noted.
            records: product
                .page(|conn| maybe_number(conn, forgotten))?
                .map_or(Timestamp::from_micros(i64::MIN), Timestamp::from_micros),
            restored,
        })
    }

    /// From when on all events of a service are there.
    pub(super) const fn events_of(&self, side: Side) -> Timestamp {
        match side {
            Side::Product => self.product_events,
            Side::Order => self.order_events,
        }
    }

    /// Whether what happened at `moment` with what `id` names, an event or an order, may be missing. Made in the lost time is
    /// enough: a reader that lags behind takes it from the topic after its sender has come back without it.
    pub(super) fn may_be_lost_of(&self, id: EventId, moment: Timestamp) -> bool {
        self.may_be_lost(moment) || self.may_be_lost(id.made_at())
    }

    /// Whether what happened at `moment` may be missing because a database came back from a backup.
    fn may_be_lost(&self, moment: Timestamp) -> bool {
        let lost = |one: &Restored| {
            moment <= one.found_us && one.since_us.is_none_or(|since| since <= moment)
        };
        self.restored.iter().any(lost)
    }
}

impl Terms {
    /// The time by the services' clocks.
    fn time(&self) -> Timestamp {
        SystemClock.now().after(self.ahead)
    }

    /// The moment from which on all is there `now`: what the caller says, or what an `oldest` row that is kept proves. Old
    /// ones go in the order of time, so nothing that is younger than one that is there has gone.
    fn kept_from(&self, now: Timestamp, oldest: Option<i64>) -> Timestamp {
        let proven = oldest.map_or(now, Timestamp::from_micros).min(now.before(YOUNG));
        self.kept.map_or(proven, |kept| now.before(kept)).after(SLACK)
    }
}

/// The earliest settlement among the oldest events: events go once they are made *and* settled before a moment, so each
/// that is kept shows that the moment lies before its settlement.
fn events(conn: &mut Conn) -> QueryResult<Option<i64>> {
    let sql = format!(
        "SELECT min(settled_us) AS number \
         FROM (SELECT settled_us FROM outbox_settled ORDER BY id LIMIT {OLDEST}) AS oldest"
    );
    maybe_number(conn, &sql)
}

/// The moment that all events that were EXHAUSTED and resolved, and are gone, were made before. They go by when they were
/// resolved, whatever is kept of others, and the earliest of those first; how many went is counted. None that is young has
/// gone, also where no resolved one is left that shows it.
fn resolved(conn: &mut Conn, now: Timestamp) -> QueryResult<Timestamp> {
    let gone =
        "SELECT CAST(sum(value) AS BIGINT) AS number FROM counter WHERE name = 'outbox.forgotten'";
    if number(conn, gone)? == 0 {
        return Ok(Timestamp::from_micros(i64::MIN));
    }
    let oldest = "SELECT min(resolved_us) AS number FROM outbox_failed \
                  WHERE resolved_us IS NOT NULL AND status = 2";
    let oldest = maybe_number(conn, oldest)?.map_or(now, Timestamp::from_micros);
    Ok(oldest.min(now.before(YOUNG)).after(SLACK))
}

fn restorations(conn: &mut Conn) -> QueryResult<Vec<Restored>> {
    let sql = "SELECT since_us, found_us FROM restoration ORDER BY seq DESC LIMIT 1000";
    on!(conn, c => sql_query(sql).load(c))
}

#[cfg(test)]
impl Kept {
    /// Everything of `moment` and later is there.
    pub(super) const fn from_all(moment: Timestamp) -> Self {
        Self {
            product_events: moment,
            order_events: moment,
            adjustments: moment,
            records: moment,
            orders: moment,
            restored: Vec::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::db::Url;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;

    use super::*;

    on_every_database!(std::convert::identity =>
        resolved_events_that_went_leave_what_is_young, an_order_that_stays_shows_nothing);

    async fn an_order_that_stays_shows_nothing(database: TestDatabase) {
        let db = database.open(&[common::db::ENGINE_MIGRATIONS]);
        let url = Url::from(database.url());
        // Those columns of order-service's tables that count here.
        let orders = "CREATE TABLE orders (id UUID PRIMARY KEY, status TEXT, changed_us BIGINT); \
             CREATE TABLE reservation (order_id UUID); \
             INSERT INTO orders VALUES ('00000000-0000-7000-8000-000000000001', 'CONFIRMED', 1), \
               ('00000000-0000-7000-8000-000000000002', 'PENDING', 2), \
               ('00000000-0000-7000-8000-000000000003', 'CANCELLED', 3); \
             INSERT INTO reservation VALUES ('00000000-0000-7000-8000-000000000001')";
        let written =
            db.write::<_, common::db::DbError>(move |conn| Ok(conn.batch_execute(orders)?));
        written.await.unwrap();
        let mut reader = Reader::open(Side::Order, &url, "orders").unwrap();
        let oldest = reader.page(|conn| maybe_number(conn, OLDEST_ORDER));
        assert_eq!(oldest.unwrap(), Some(3));
    }

    async fn resolved_events_that_went_leave_what_is_young(database: TestDatabase) {
        let db = database.open(&[common::db::ENGINE_MIGRATIONS]);
        let url = Url::from(database.url());
        let mut reader = Reader::open(Side::Product, &url, "service_state").unwrap();
        let now = Timestamp::from_micros(100 * DAY);
        let mut write = async |sql: &'static str| {
            db.write::<_, common::db::DbError>(move |conn| Ok(conn.batch_execute(sql)?))
                .await
                .unwrap();
            reader.page(|conn| resolved(conn, now)).unwrap()
        };
        let slack = |micros: i64| Timestamp::from_micros(micros).after(SLACK);
        let young = slack(100 * DAY - DAY / 2);
        assert_eq!(write("DELETE FROM counter").await, Timestamp::from_micros(i64::MIN));
        let one_went = "INSERT INTO counter (name, slot, value) VALUES ('outbox.forgotten', 3, 1)";
        assert_eq!(write(one_went).await, young);
        let one_is_there = "INSERT INTO outbox_failed (id, shard, status, attempt, attempt_limit, due_us, size, resolved_us) \
             VALUES ('00000000-0000-7000-8000-000000000001', 0, 2, 1, 1, 0, 1, 7)";
        assert_eq!(write(one_is_there).await, slack(7));
        let just_now = "UPDATE outbox_failed SET resolved_us = 8640000000000";
        assert_eq!(write(just_now).await, young);
    }

    const DAY: i64 = 86_400_000_000;

    /// What is kept at the end of a day, if the caller says so much and there is such an oldest row.
    fn kept_from(day: i64, kept: Option<Duration>, oldest: Option<i64>) -> Timestamp {
        let terms = Terms { kept, ..Terms::default() };
        terms.kept_from(Timestamp::from_micros(day * DAY), oldest)
    }

    #[test]
    fn what_is_young_is_there_and_the_caller_knows_better() {
        let slack = |micros: i64| Timestamp::from_micros(micros).after(SLACK);
        let young = slack(100 * DAY - DAY / 2);
        assert_eq!(kept_from(100, None, None), young);
        assert_eq!(kept_from(100, None, Some(100 * DAY - 1)), young);
        assert_eq!(kept_from(100, None, Some(7 * DAY)), slack(7 * DAY));
        let week = Some(Duration::from_secs(7 * 86_400));
        assert_eq!(kept_from(100, week, Some(1)), slack(93 * DAY));
        // It moves on with the clock.
        assert_eq!(kept_from(101, week, Some(1)), slack(94 * DAY));
    }
}
