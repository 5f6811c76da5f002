//! How long events took lately, from the newest that were settled.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable};
use serde::Serialize;
use utoipa::ToSchema;

/// The median and the 99th percentile of some durations, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Quantiles {
    /// Half of them took no longer.
    pub p50: f64,
    /// All but one in a hundred took no longer.
    pub p99: f64,
}

/// How long the stages took, each from the commit on; `None` where nothing was settled yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct Latencies {
    /// Until the attempt that was answered was sent.
    pub commit_to_sent: Option<Quantiles>,
    /// Until the consumer had handled it, by its clock.
    pub commit_to_applied: Option<Quantiles>,
    /// Until its answer was noted.
    pub commit_to_acknowledged: Option<Quantiles>,
}

#[derive(QueryableByName)]
struct Moments {
    #[diesel(sql_type = BigInt)]
    created_us: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    sent_us: Option<Timestamp>,
    #[diesel(sql_type = Nullable<BigInt>)]
    processed_us: Option<Timestamp>,
    #[diesel(sql_type = BigInt)]
    settled_us: Timestamp,
}

impl Latencies {
    /// Of the newest 1,000 events that are PROCESSED.
    pub(super) fn take(conn: &mut Conn) -> QueryResult<Self> {
        // The page is cut before the join, so that no plan joins all that was ever settled.
        let materialized = match conn {
            Conn::Pg(_) => "MATERIALIZED",
            Conn::Sqlite(_) => "",
        };
        let sql = format!(
            "WITH newest AS {materialized} (\
               SELECT id, sent_us, processed_us, settled_us FROM outbox_settled ORDER BY id DESC LIMIT 1000) \
             SELECT e.created_us, n.sent_us, n.processed_us, n.settled_us \
             FROM newest n JOIN outbox_event e ON e.id = n.id"
        );
        let events: Vec<Moments> =
            conn.read_by_index(|conn| on!(conn, c => sql_query(sql).load(c)))?;
        let stage = |end: fn(&Moments) -> Option<Timestamp>| {
            let spans = |event: &Moments| Some(end(event)?.since(event.created_us));
            Quantiles::of(events.iter().filter_map(spans).collect())
        };
        Ok(Self {
            commit_to_sent: stage(|event| event.sent_us),
            commit_to_applied: stage(|event| event.processed_us),
            commit_to_acknowledged: stage(|event| Some(event.settled_us)),
        })
    }
}

impl Quantiles {
    /// By the nearest rank; `None` of nothing.
    fn of(mut spans: Vec<Duration>) -> Option<Self> {
        spans.sort_unstable();
        let rank = |percent: usize| (spans.len() * percent).div_ceil(100).saturating_sub(1);
        let at = |percent| spans.get(rank(percent)).map(Duration::as_secs_f64);
        Some(Self { p50: at(50)?, p99: at(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let of = |ms: Vec<u64>| Quantiles::of(ms.into_iter().map(Duration::from_millis).collect());
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![7]), Some(Quantiles { p50: 0.007, p99: 0.007 }));
        assert_eq!(of((1..=200).rev().collect()), Some(Quantiles { p50: 0.1, p99: 0.198 }));
    }
}
