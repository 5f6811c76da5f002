//! The loop's course over time: a row about every ten seconds, kept for a week, read as points with rates.
//!
//! The counts in a row are the database's own, so restarts and changes of the writing instance leave no trace in
//! the rates.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::on;
use common::schema::trend;
use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use super::latency::Quantiles;
use super::sample::{Sample, Totals};
use super::sampler::Rates;

/// How far apart rows are at the least.
const EVERY: Duration = Duration::from_secs(10);
/// How long rows are kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Rows that one step deletes at the most.
const BATCH: i64 = 1_000;
/// Points of one answer at the most.
const MOST_POINTS: u32 = 240;

#[derive(Debug, Clone, Default, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = trend)]
struct TrendRow {
    at_us: Timestamp,
    committed: i64,
    sent: i64,
    processed: i64,
    failed: i64,
    waiting: i64,
    exhausted: i64,
    oldest_us: i64,
    sent_p50: Option<i64>,
    sent_p99: Option<i64>,
    applied_p50: Option<i64>,
    applied_p99: Option<i64>,
    acked_p50: Option<i64>,
    acked_p99: Option<i64>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrendOutcome {
    /// Whether a row was due, and written here.
    pub written: bool,
    /// Old rows that went.
    pub forgotten: usize,
}

/// Writes rows: one for all instances, by whichever comes first.
#[derive(Debug, Default)]
pub struct Trend {
    /// The newest row that this instance knows of.
    newest: Mutex<Option<Timestamp>>,
}

impl Trend {
    /// Writes `sample` as a row if the newest one is old enough; most calls find nothing due and ask nobody.
    ///
    /// # Errors
    /// When the database fails; the next step does what this one left.
    pub async fn run_once(&self, db: &Db, sample: &Sample) -> Result<TrendOutcome, DbError> {
        let known = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|newest| sample.as_of.since(newest) < EVERY) {
            return Ok(TrendOutcome::default());
        }
        let row = TrendRow::of(sample);
        let (outcome, newest) = db.write::<_, DbError>(move |conn| Ok(write(conn, row)?)).await?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
        Ok(outcome)
    }
}

/// Returns what was done, and the newest row's moment.
fn write(conn: &mut Conn, mut row: TrendRow) -> QueryResult<(TrendOutcome, Timestamp)> {
    let before: Option<TrendRow> = on!(conn, c => trend::table
        .order(trend::at_us.desc())
        .select(TrendRow::as_select())
        .first(c)
        .optional())?;
    if let Some(before) = before {
        if row.at_us.since(before.at_us) < EVERY {
            return Ok((TrendOutcome::default(), before.at_us));
        }
        // Latencies of events that an earlier row told of already are not news.
        if row.processed == before.processed {
            row = TrendRow { ..row.without_latencies() };
        }
    }
    // Two instances that both saw nothing leave two rows close by: rates come from the counts, so none is wrong.
    on!(conn, c => diesel::insert_into(trend::table)
        .values(&row)
        .on_conflict_do_nothing()
        .execute(c))?;
    let old = trend::table
        .filter(trend::at_us.lt(row.at_us.before(KEPT)))
        .order(trend::at_us)
        .select(trend::at_us)
        .limit(BATCH);
    let old: Vec<Timestamp> = on!(conn, c => old.load(c))?;
    let forgotten =
        on!(conn, c => diesel::delete(trend::table.filter(trend::at_us.eq_any(&old))).execute(c))?;
    Ok((TrendOutcome { written: true, forgotten }, row.at_us))
}

impl TrendRow {
    fn of(sample: &Sample) -> Self {
        let micros = |seconds: f64| (seconds * 1e6).round() as i64;
        let pair = |stage: Option<Quantiles>| {
            (stage.map(|stage| micros(stage.p50)), stage.map(|stage| micros(stage.p99)))
        };
        let (sent_p50, sent_p99) = pair(sample.latencies.commit_to_sent);
        let (applied_p50, applied_p99) = pair(sample.latencies.commit_to_applied);
        let (acked_p50, acked_p99) = pair(sample.latencies.commit_to_acknowledged);
        Self {
            at_us: sample.as_of,
            committed: sample.totals.committed,
            sent: sample.totals.sent,
            processed: sample.totals.processed,
            failed: sample.totals.failed,
            waiting: sample.waiting(),
            exhausted: sample.exhausted,
            oldest_us: i64::try_from(sample.oldest_age().as_micros()).unwrap_or(i64::MAX),
            sent_p50,
            sent_p99,
            applied_p50,
            applied_p99,
            acked_p50,
            acked_p99,
        }
    }

    fn without_latencies(self) -> Self {
        Self {
            sent_p50: None,
            sent_p99: None,
            applied_p50: None,
            applied_p99: None,
            acked_p50: None,
            acked_p99: None,
            ..self
        }
    }

    fn totals(&self) -> (Timestamp, Totals) {
        let Self { committed, sent, processed, failed, .. } = *self;
        (self.at_us, Totals { committed, sent, processed, failed })
    }

    /// Two rows of one point: the later counts and the worse of what may be worse.
    fn joined(self, later: Self) -> Self {
        Self {
            waiting: self.waiting.max(later.waiting),
            oldest_us: self.oldest_us.max(later.oldest_us),
            sent_p50: later.sent_p50.or(self.sent_p50),
            sent_p99: self.sent_p99.max(later.sent_p99),
            applied_p50: later.applied_p50.or(self.applied_p50),
            applied_p99: self.applied_p99.max(later.applied_p99),
            acked_p50: later.acked_p50.or(self.acked_p50),
            acked_p99: self.acked_p99.max(later.acked_p99),
            ..later
        }
    }
}

/// How far back a look goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Window {
    /// A quarter of an hour.
    Minutes15,
    /// An hour.
    #[default]
    Hour,
    /// Six hours.
    Hours6,
    /// A day.
    Day,
}

impl Window {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Minutes15, Self::Hour, Self::Hours6, Self::Day];

    /// As written in addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minutes15 => "15m",
            Self::Hour => "1h",
            Self::Hours6 => "6h",
            Self::Day => "24h",
        }
    }

    /// How long it is.
    pub const fn length(self) -> Duration {
        let minutes = match self {
            Self::Minutes15 => 15,
            Self::Hour => 60,
            Self::Hours6 => 6 * 60,
            Self::Day => 24 * 60,
        };
        Duration::from_secs(minutes * 60)
    }

    /// What one point stands for, at the most.
    pub(super) fn step(self) -> Duration {
        self.length() / MOST_POINTS
    }
}

impl FromStr for Window {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|window| window.name() == text);
        named.ok_or("there are 15m, 1h, 6h and 24h")
    }
}

/// The loop over a short while.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TrendPoint {
    /// The end of that while.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How fast things went.
    pub rates: Rates,
    /// PENDING and SENT events, at the most.
    pub waiting: i64,
    /// EXHAUSTED events that nobody has resolved.
    pub exhausted: i64,
    /// The age of the oldest event that waited, in seconds, at the most.
    pub oldest_seconds: f64,
    /// `null` where nothing was settled meanwhile; p99 is the worst of the while.
    pub commit_to_sent: Option<Quantiles>,
    /// The same, until the consumer had handled it.
    pub commit_to_applied: Option<Quantiles>,
    /// The same, until the answer was noted.
    pub commit_to_acknowledged: Option<Quantiles>,
}

/// The points of `window` up to `now`, oldest first, 240 at the most.
///
/// # Errors
/// When the statement fails.
pub fn points(conn: &mut Conn, now: Timestamp, window: Window) -> QueryResult<Vec<TrendPoint>> {
    let since = now.before(window.length());
    // The first rate needs a row from before.
    let from = since.before(window.step().max(3 * EVERY));
    let rows: Vec<TrendRow> = on!(conn, c => trend::table
        .filter(trend::at_us.gt(from))
        .order(trend::at_us)
        .select(TrendRow::as_select())
        .load(c))?;
    Ok(decimated(rows, since, window.step()))
}

/// One point for each `step`, from `since` on.
fn decimated(rows: Vec<TrendRow>, since: Timestamp, step: Duration) -> Vec<TrendPoint> {
    let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
    let slot = |row: &TrendRow| row.at_us.micros().div_euclid(step);
    let mut joined: Vec<TrendRow> = Vec::new();
    for row in rows {
        match joined.pop() {
            Some(last) if slot(&last) == slot(&row) => joined.push(last.joined(row)),
            last => joined.extend(last.into_iter().chain([row])),
        }
    }
    let pairs = joined.iter().zip(joined.iter().skip(1));
    let points = pairs.filter(|(_, row)| row.at_us > since).filter_map(|(b, row)| point(b, row));
    let mut points: Vec<TrendPoint> = points.collect();
    let most = usize::try_from(MOST_POINTS).unwrap_or(usize::MAX);
    points.drain(..points.len().saturating_sub(most));
    points
}

fn point(before: &TrendRow, row: &TrendRow) -> Option<TrendPoint> {
    let seconds = |micros: i64| micros as f64 / 1e6;
    let stage = |p50: Option<i64>, p99: Option<i64>| {
        Some(Quantiles { p50: seconds(p50?), p99: seconds(p99?) })
    };
    Some(TrendPoint {
        at: row.at_us,
        rates: Rates::between(before.totals(), row.totals())?,
        waiting: row.waiting,
        exhausted: row.exhausted,
        oldest_seconds: seconds(row.oldest_us),
        commit_to_sent: stage(row.sent_p50, row.sent_p99),
        commit_to_applied: stage(row.applied_p50, row.applied_p99),
        commit_to_acknowledged: stage(row.acked_p50, row.acked_p99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(second: i64, count: i64) -> TrendRow {
        let at_us = Timestamp::from_micros(second * 1_000_000);
        TrendRow {
            at_us,
            committed: count,
            processed: count,
            waiting: count % 7,
            ..TrendRow::default()
        }
    }

    #[test]
    fn points_are_few_and_lose_nothing() {
        let rows: Vec<TrendRow> = (0..8_640).map(|n| row(n * 10, n * 30)).collect();
        for window in Window::ALL {
            let now = Timestamp::from_micros(8_639 * 10_000_000);
            let since = now.before(window.length());
            let points = decimated(rows.clone(), since, window.step());
            assert!(points.len() <= 240 && points.len() >= 89, "{window:?}: {}", points.len());
            assert!(points.iter().all(|point| (point.rates.committed - 3.0).abs() < 1e-9));
            assert!(points.windows(2).all(|two| two[0].at < two[1].at));
            assert_eq!(points.last().map(|point| point.at), Some(now));
            let peak = points.iter().map(|point| point.waiting).max();
            assert_eq!(peak, Some(6), "{window:?} hides no peak");
        }
    }

    #[test]
    fn counts_that_went_back_give_no_negative_rate() {
        let points = decimated(
            vec![row(10, 100), row(20, 40), row(30, 50)],
            Timestamp::default(),
            Window::Minutes15.step(),
        );
        let rates: Vec<f64> = points.iter().map(|point| point.rates.acknowledged).collect();
        assert_eq!(rates, [0.0, 1.0]);
    }
}
