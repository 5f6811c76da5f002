//! What most benchmarks measure, round by round, each case beside the others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::line::Cells;
use crate::bench::options::Relay;
use crate::process::Used;
use crate::report::{median, quantile};

/// What is measured, and what tells it from the others.
#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::bench) struct What {
    /// The benchmark.
    pub(in crate::bench) name: &'static str,
    pub(in crate::bench) relay: Relay,
    /// How many settled events the tables have beside the backlog.
    pub(in crate::bench) rows: Option<usize>,
    /// How many processes product-service has.
    pub(in crate::bench) instances: Option<usize>,
    /// What else goes on.
    pub(in crate::bench) beside: Option<&'static str>,
    /// How many events are in the backlog.
    pub(in crate::bench) events: Option<usize>,
    /// What its times end with.
    pub(in crate::bench) until: Option<&'static str>,
}

impl What {
    /// Of which nothing more is to be said.
    pub(in crate::bench) fn new(name: &'static str, relay: Relay) -> Self {
        Self { name, relay, rows: None, instances: None, beside: None, events: None, until: None }
    }

    /// What tells it from the others of its benchmark.
    pub(super) fn label(&self) -> String {
        let rows = self.rows.map(|rows| format!("{rows} rows"));
        let instances = self.instances.map(|instances| format!("{instances} instance(s)"));
        let beside = self.beside.map(|beside| format!("beside {beside}"));
        let events = self.events.map(|events| format!("{events} events"));
        let until = self.until.map(str::to_owned);
        let relay = Some(self.relay.to_string());
        let all = [relay, rows, instances, beside, events, until];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Whether the two are of one relay, and of the same thing.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.name, self.relay, self.until) == (other.name, other.relay, other.until)
    }

    /// What a table says of it.
    pub(super) fn cells(&self) -> Cells {
        vec![
            ("relay", Some(self.relay.to_string())),
            ("rows", self.rows.map(|rows| rows.to_string())),
            ("instances", self.instances.map(|instances| instances.to_string())),
            ("beside", self.beside.map(str::to_owned)),
            ("events", self.events.map(|events| events.to_string())),
            ("until", self.until.map(str::to_owned)),
        ]
    }
}

/// One round of a case; what was not measured is none.
#[derive(Debug, Clone, Default)]
pub(in crate::bench) struct Round {
    /// Events a second.
    pub(in crate::bench) rate_per_s: Option<f64>,
    /// Messages a second of the project's producer alone.
    pub(in crate::bench) limit_per_s: Option<f64>,
    /// Events a second of the relay's statements alone.
    pub(in crate::bench) sql_per_s: Option<f64>,
    /// Bytes by which the server's log grew.
    pub(in crate::bench) wal_bytes_per_event: Option<f64>,
    pub(in crate::bench) p50_ms: Option<f64>,
    pub(in crate::bench) p99_ms: Option<f64>,
    /// By program.
    pub(in crate::bench) used: BTreeMap<&'static str, Used>,
}

impl Round {
    /// Of which is known how many events a second there were, and by how many bytes the log grew for each.
    pub(in crate::bench) fn of_rate(rate_per_s: f64, wal_bytes_per_event: f64) -> Self {
        let (rate_per_s, wal_bytes_per_event) = (Some(rate_per_s), Some(wal_bytes_per_event));
        Self { rate_per_s, wal_bytes_per_event, ..Self::default() }
    }

    /// Of which is known how many ms each time took.
    pub(in crate::bench) fn of_times(took_ms: Vec<f64>) -> Self {
        Self {
            p50_ms: Some(quantile(took_ms.clone(), 0.5)),
            p99_ms: Some(quantile(took_ms, 0.99)),
            ..Self::default()
        }
    }
}

/// What is measured in each round, and what came of that.
#[derive(Debug)]
pub(in crate::bench) struct Case {
    pub(in crate::bench) what: What,
    pub(in crate::bench) rounds: Vec<Round>,
}

impl Case {
    /// Before its first round.
    pub(in crate::bench) fn of(what: What) -> Self {
        Self { what, rounds: Vec::new() }
    }

    /// What each process used: of CPU the median of the rounds, of memory the most.
    pub(super) fn processes(&self) -> BTreeMap<&'static str, Used> {
        let mut rounds: BTreeMap<&'static str, Vec<Used>> = BTreeMap::new();
        for (name, used) in self.rounds.iter().flat_map(|round| &round.used) {
            rounds.entry(*name).or_default().push(*used);
        }
        let of_all = |(name, used): (&'static str, Vec<Used>)| {
            let rss_mb = used.iter().map(|used| used.rss_mb).fold(0.0, f64::max);
            let cpu_s = median(used.into_iter().map(|used| used.cpu_s).collect());
            (name, Used { cpu_s: cpu_s.unwrap_or_default(), rss_mb })
        };
        rounds.into_iter().map(of_all).collect()
    }
}

/// All of `cases`, in every other round from behind: none of them always comes after the same one.
pub(in crate::bench) fn in_turn<T>(cases: &mut [T], round: usize) -> Vec<&mut T> {
    let mut cases: Vec<&mut T> = cases.iter_mut().collect();
    if round % 2 == 1 {
        cases.reverse();
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_measured_from_both_ends() {
        let order = |round| -> Vec<i32> {
            in_turn(&mut [1, 2, 3], round).into_iter().map(|case: &mut i32| *case).collect()
        };
        let rounds: Vec<Vec<i32>> = (0..3).map(order).collect();
        assert_eq!(rounds, [[1, 2, 3], [3, 2, 1], [1, 2, 3]]);
    }
}
