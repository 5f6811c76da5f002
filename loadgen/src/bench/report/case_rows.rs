//! What came of all rounds of a case: medians, spread, shares and ratios.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cases::{Case, Round, What};
use super::line::{Cells, Line, number, range};
use super::svg::{Bar, Chart};
use crate::bench::parts::CONNECT;
use crate::process::Used;
use crate::programs::{COPY, OWNER};
use crate::report::median;

/// A line of the table, and an element of the JSON.
#[derive(Debug, Clone, Serialize)]
pub(in crate::bench) struct CaseRow {
    #[serde(flatten)]
    what: What,
    /// The rate, or the p50 where there is none, divided by that of the first row that it is compared with.
    ratio: Option<f64>,
    rate_per_s: Option<f64>,
    /// Of the project's producer alone.
    limit_per_s: Option<f64>,
    /// The rate divided by the limit.
    share: Option<f64>,
    /// Of the relay's statements alone.
    sql_per_s: Option<f64>,
    /// By which the server's log grew.
    wal_bytes_per_event: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// The slowest and the fastest round.
    min_per_s: Option<f64>,
    max_per_s: Option<f64>,
    /// The least and the greatest median of a round.
    p50_min_ms: Option<f64>,
    p50_max_ms: Option<f64>,
    /// Of all processes together.
    cpu_s: Option<f64>,
    rss_mb: Option<f64>,
    /// Of each by itself.
    processes: BTreeMap<&'static str, Used>,
    /// How many were measured.
    rounds: usize,
}

/// The programs that a table has columns for: what each used of the processors, and of memory.
const PROGRAMS: [(&str, [&str; 2]); 3] = [
    (OWNER, ["product CPU s", "product peak MB"]),
    (COPY, ["order CPU s", "order peak MB"]),
    (CONNECT, ["Connect CPU s", "Connect peak MB"]),
];

/// A figure of a round.
type Figure = fn(&Round) -> Option<f64>;

impl CaseRow {
    /// The medians of all rounds of a case.
    pub(in crate::bench) fn of(case: &Case) -> Self {
        let values =
            |figure: Figure| -> Vec<f64> { case.rounds.iter().filter_map(figure).collect() };
        let middle = |figure: Figure| median(values(figure));
        let least = |figure: Figure| values(figure).into_iter().reduce(f64::min);
        let most = |figure: Figure| values(figure).into_iter().reduce(f64::max);
        let rate: Figure = |round| round.rate_per_s;
        let p50: Figure = |round| round.p50_ms;
        let (rate_per_s, limit_per_s) = (middle(rate), middle(|round| round.limit_per_s));
        let processes = case.processes();
        let sum = |figure: fn(&Used) -> f64| {
            (!processes.is_empty()).then(|| processes.values().map(figure).sum::<f64>())
        };
        Self {
            what: case.what,
            ratio: None,
            rate_per_s,
            limit_per_s,
            share: rate_per_s.zip(limit_per_s).map(|(rate, limit)| rate / limit),
            sql_per_s: middle(|round| round.sql_per_s),
            wal_bytes_per_event: middle(|round| round.wal_bytes_per_event),
            p50_ms: middle(p50),
            p99_ms: middle(|round| round.p99_ms),
            min_per_s: least(rate),
            max_per_s: most(rate),
            p50_min_ms: least(p50),
            p50_max_ms: most(p50),
            cpu_s: sum(|used| used.cpu_s),
            rss_mb: sum(|used| used.rss_mb),
            processes,
            rounds: case.rounds.len(),
        }
    }

    /// What rows are compared by.
    fn figure(&self) -> Option<f64> {
        self.rate_per_s.or(self.p50_ms)
    }
}

impl Line for CaseRow {
    fn cells(&self) -> Cells {
        let spread = range(self.min_per_s, self.max_per_s, 0);
        let mut cells = self.what.cells();
        cells.extend([
            ("service/s", number(self.rate_per_s, 0)),
            ("producer/s", number(self.limit_per_s, 0)),
            ("share", number(self.share, 2)),
            ("SQL/s", number(self.sql_per_s, 0)),
            ("WAL B/event", number(self.wal_bytes_per_event, 0)),
            ("p50 ms", number(self.p50_ms, 2)),
            ("p99 ms", number(self.p99_ms, 2)),
            ("ratio", number(self.ratio, 2)),
            ("spread", spread.or_else(|| range(self.p50_min_ms, self.p50_max_ms, 2))),
        ]);
        for (program, [cpu, peak]) in PROGRAMS {
            let used = self.processes.get(program);
            cells.push((cpu, number(used.map(|used| used.cpu_s), 1)));
            cells.push((peak, number(used.map(|used| used.rss_mb), 0)));
        }
        cells.push(("rounds", Some(self.rounds.to_string())));
        cells
    }

    /// The rates beside the limits; or, where only times are known, the p50 beside the p99.
    fn chart(title: &str, rows: &[Self]) -> Chart {
        let of_rates = rows.iter().any(|row| row.rate_per_s.is_some());
        let (bar, mark) = if of_rates { ("service/s", "producer/s") } else { ("p50 ms", "p99 ms") };
        let bars = rows.iter().filter_map(|row| {
            let (value, mark) = match of_rates {
                true => (row.rate_per_s, row.limit_per_s),
                false => (row.p50_ms, row.p99_ms),
            };
            Some(Bar { label: row.what.label(), value: value?, mark })
        });
        Chart { title: title.to_owned(), bar, mark, bars: bars.collect() }
    }
}

/// The rows of all cases, each compared with the first one that is like it.
pub(in crate::bench) fn compared(cases: &[Case]) -> Vec<CaseRow> {
    let rows: Vec<CaseRow> = cases.iter().map(CaseRow::of).collect();
    let ratio = |row: &CaseRow| {
        let first = rows.iter().find(|first| first.what.is_like(&row.what))?;
        Some(row.figure()? / first.figure()?)
    };
    rows.iter().map(|row| CaseRow { ratio: ratio(row), ..row.clone() }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::bench::options::Relay;

    fn drained(rate: f64, limit: f64, rss_mb: f64) -> Round {
        let used = BTreeMap::from([("product-service", Used { cpu_s: rate / 100.0, rss_mb })]);
        let (rate_per_s, limit_per_s) = (Some(rate), Some(limit));
        let wal_bytes_per_event = Some(rate * 2.0);
        Round { rate_per_s, limit_per_s, wal_bytes_per_event, used, ..Round::default() }
    }

    fn drain() -> What {
        What { events: Some(500), ..What::new("drain", Relay::Log) }
    }

    fn row(what: What, rounds: Vec<Round>) -> CaseRow {
        CaseRow::of(&Case { what, rounds })
    }

    #[test]
    fn a_row_has_the_medians_the_spread_and_the_share() {
        let rounds =
            [drained(300.0, 900.0, 7.0), drained(100.0, 800.0, 9.0), drained(200.0, 1_000.0, 8.0)];
        let row = serde_json::to_value(row(drain(), rounds.to_vec())).unwrap();
        for (name, figure) in [
            ("rate_per_s", 200.0),
            ("limit_per_s", 900.0),
            ("share", 200.0 / 900.0),
            ("min_per_s", 100.0),
            ("max_per_s", 300.0),
            ("wal_bytes_per_event", 400.0),
            ("rounds", 3.0),
            ("cpu_s", 2.0),
            ("rss_mb", 9.0),
        ] {
            assert_eq!(row[name].as_f64(), Some(figure), "{name}");
        }
        assert_eq!((row["relay"].as_str(), row["events"].as_u64()), (Some("log"), Some(500)));
        assert!(row["p50_ms"].is_null() && row["sql_per_s"].is_null(), "{row}");
        assert_eq!(row["processes"]["product-service"]["cpu_s"].as_f64(), Some(2.0));
    }

    #[test]
    fn a_chart_has_rates_or_else_times() {
        let rates = [row(drain(), vec![drained(100.0, 400.0, 5.0)])];
        let label = "log, 500 events".to_owned();
        let bars = vec![Bar { label, value: 100.0, mark: Some(400.0) }];
        assert_eq!(CaseRow::chart("Drained", &rates).bars, bars);
        let (p50_ms, p99_ms) = (Some(2.0), Some(9.0));
        let times = Round { p50_ms, p99_ms, ..Round::default() };
        let idle = What { until: Some("visible"), ..What::new("idle", Relay::Log) };
        let label = "log, visible".to_owned();
        let drawn = CaseRow::chart("Idle", &[row(idle, vec![times])]);
        assert_eq!(drawn.bars, [Bar { label, value: 2.0, mark: Some(9.0) }]);
        assert_eq!((drawn.bar, drawn.mark), ("p50 ms", "p99 ms"));
    }

    #[test]
    fn each_row_is_compared_with_the_first_that_is_like_it() {
        let rate = |what, per_s| Case { what, rounds: vec![drained(per_s, 1.0, 1.0)] };
        let beside = |rows| What { rows: Some(rows), ..drain() };
        let page = |rows, p50_ms| {
            let what = What { until: Some("a page"), ..beside(rows) };
            Case { what, rounds: vec![Round { p50_ms: Some(p50_ms), ..Round::default() }] }
        };
        let (few, many) = (rate(beside(10), 200.0), rate(beside(100), 150.0));
        let cases = [few, page(10, 4.0), many, page(100, 5.0)];
        let ratios: Vec<_> = compared(&cases).into_iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(1.0), Some(0.75), Some(1.25)]);
        let of_table = What { relay: Relay::Table, ..beside(10) };
        let cases = [rate(beside(10), 200.0), rate(of_table, 50.0)];
        let ratios: Vec<_> = compared(&cases).into_iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(1.0)]);
    }

    #[test]
    fn a_line_has_what_is_known_of_its_rounds_and_of_each_program() {
        let known = |round: Round| -> Vec<(&str, String)> {
            let cells = row(drain(), vec![round]).cells().into_iter();
            cells.filter_map(|(heading, cell)| Some((heading, cell?))).collect()
        };
        let of = |cells: &[(&'static str, &str)]| -> Vec<(&str, String)> {
            cells.iter().map(|(heading, cell)| (*heading, (*cell).to_owned())).collect()
        };
        let measured = of(&[
            ("relay", "log"),
            ("events", "500"),
            ("service/s", "100"),
            ("producer/s", "400"),
            ("share", "0.25"),
            ("WAL B/event", "200"),
            ("spread", "100–100"),
            ("product CPU s", "1.0"),
            ("product peak MB", "5"),
            ("rounds", "1"),
        ]);
        assert_eq!(known(drained(100.0, 400.0, 5.0)), measured);
        let (p50_ms, p99_ms) = (Some(2.0), Some(9.0));
        let timed = of(&[
            ("relay", "log"),
            ("events", "500"),
            ("p50 ms", "2.00"),
            ("p99 ms", "9.00"),
            ("spread", "2.00–2.00"),
            ("rounds", "1"),
        ]);
        assert_eq!(known(Round { p50_ms, p99_ms, ..Round::default() }), timed);
    }
}
