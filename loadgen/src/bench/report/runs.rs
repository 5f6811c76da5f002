//! What came of several rounds, each case beside the others: medians, spread, shares and ratios.

use std::collections::BTreeMap;

use serde::Serialize;

use super::line::{Cells, Line, number, range};
use super::svg::{Bar, Chart};
use crate::bench::options::Relay;
use crate::bench::parts::{CONNECT, Used};
use crate::programs::{COPY, OWNER};
use crate::report::{median, quantile};

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

/// What is measured in each round.
#[derive(Debug)]
pub(in crate::bench) struct Case {
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
    pub(in crate::bench) rounds: Vec<Round>,
}

impl Case {
    /// One of which nothing more is to be said, before its first round.
    pub(in crate::bench) fn new(name: &'static str, relay: Relay) -> Self {
        Self {
            name,
            relay,
            rows: None,
            instances: None,
            beside: None,
            events: None,
            until: None,
            rounds: Vec::new(),
        }
    }

    /// The medians of all rounds.
    pub(in crate::bench) fn row(&self) -> Row {
        let values = |figure: fn(&Round) -> Option<f64>| -> Vec<f64> {
            self.rounds.iter().filter_map(figure).collect()
        };
        let of = |figure: fn(&Round) -> Option<f64>| median(values(figure));
        let rates = values(|round| round.rate_per_s);
        let p50s = values(|round| round.p50_ms);
        let (rate_per_s, limit_per_s) =
            (of(|round| round.rate_per_s), of(|round| round.limit_per_s));
        let processes = self.processes();
        let sum = |figure: fn(&Used) -> f64| {
            (!processes.is_empty()).then(|| processes.values().map(figure).sum::<f64>())
        };
        Row {
            name: self.name,
            relay: self.relay,
            rows: self.rows,
            instances: self.instances,
            beside: self.beside,
            events: self.events,
            until: self.until,
            ratio: None,
            rate_per_s,
            limit_per_s,
            share: rate_per_s.zip(limit_per_s).map(|(rate, limit)| rate / limit),
            sql_per_s: of(|round| round.sql_per_s),
            wal_bytes_per_event: of(|round| round.wal_bytes_per_event),
            p50_ms: of(|round| round.p50_ms),
            p99_ms: of(|round| round.p99_ms),
            min_per_s: rates.iter().copied().reduce(f64::min),
            max_per_s: rates.iter().copied().reduce(f64::max),
            p50_min_ms: p50s.iter().copied().reduce(f64::min),
            p50_max_ms: p50s.iter().copied().reduce(f64::max),
            cpu_s: sum(|used| used.cpu_s),
            rss_mb: sum(|used| used.rss_mb),
            processes,
            rounds: self.rounds.len(),
        }
    }

    /// What each process used: of CPU the median of the rounds, of memory the most.
    fn processes(&self) -> BTreeMap<&'static str, Used> {
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

/// A line of the table, and an element of the JSON.
#[derive(Debug, Clone, Serialize)]
pub(in crate::bench) struct Row {
    name: &'static str,
    relay: Relay,
    /// How many settled events the tables have beside the backlog.
    rows: Option<usize>,
    /// How many processes product-service has.
    instances: Option<usize>,
    /// What else goes on.
    beside: Option<&'static str>,
    /// How many events are in the backlog.
    events: Option<usize>,
    /// What its times end with.
    until: Option<&'static str>,
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

impl Row {
    /// What tells it from the other rows of its benchmark.
    fn label(&self) -> String {
        let rows = self.rows.map(|rows| format!("{rows} rows"));
        let instances = self.instances.map(|instances| format!("{instances} instance(s)"));
        let beside = self.beside.map(|beside| format!("beside {beside}"));
        let events = self.events.map(|events| format!("{events} events"));
        let until = self.until.map(str::to_owned);
        let relay = Some(self.relay.to_string());
        let all = [relay, rows, instances, beside, events, until];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What rows are compared by.
    fn figure(&self) -> Option<f64> {
        self.rate_per_s.or(self.p50_ms)
    }

    /// Whether the two are of one relay, and of the same thing.
    fn is_like(&self, other: &Self) -> bool {
        (self.name, self.relay, self.until) == (other.name, other.relay, other.until)
    }
}

impl Line for Row {
    fn cells(&self) -> Cells {
        let spread = range(self.min_per_s, self.max_per_s, 0);
        let mut cells = vec![
            ("relay", Some(self.relay.to_string())),
            ("rows", self.rows.map(|rows| rows.to_string())),
            ("instances", self.instances.map(|instances| instances.to_string())),
            ("beside", self.beside.map(str::to_owned)),
            ("events", self.events.map(|events| events.to_string())),
            ("until", self.until.map(str::to_owned)),
            ("service/s", number(self.rate_per_s, 0)),
            ("producer/s", number(self.limit_per_s, 0)),
            ("share", number(self.share, 2)),
            ("SQL/s", number(self.sql_per_s, 0)),
            ("WAL B/event", number(self.wal_bytes_per_event, 0)),
            ("p50 ms", number(self.p50_ms, 2)),
            ("p99 ms", number(self.p99_ms, 2)),
            ("ratio", number(self.ratio, 2)),
            ("spread", spread.or_else(|| range(self.p50_min_ms, self.p50_max_ms, 2))),
        ];
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
            Some(Bar { label: row.label(), value: value?, mark })
        });
        Chart { title: title.to_owned(), bar, mark, bars: bars.collect() }
    }
}

/// The rows of all cases, each compared with the first one that is like it.
pub(in crate::bench) fn compared(cases: &[Case]) -> Vec<Row> {
    let rows: Vec<Row> = cases.iter().map(Case::row).collect();
    let ratio = |row: &Row| {
        let first = rows.iter().find(|first| first.is_like(row))?;
        Some(row.figure()? / first.figure()?)
    };
    rows.iter().map(|row| Row { ratio: ratio(row), ..row.clone() }).collect()
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
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn drained(rate: f64, limit: f64, rss_mb: f64) -> Round {
        let used = BTreeMap::from([("product-service", Used { cpu_s: rate / 100.0, rss_mb })]);
        let (rate_per_s, limit_per_s) = (Some(rate), Some(limit));
        let wal_bytes_per_event = Some(rate * 2.0);
        Round { rate_per_s, limit_per_s, wal_bytes_per_event, used, ..Round::default() }
    }

    fn case(rounds: Vec<Round>) -> Case {
        Case { events: Some(500), rounds, ..Case::new("drain", Relay::Log) }
    }

    #[test]
    fn a_row_has_the_medians_the_spread_and_the_share() {
        let rounds =
            [drained(300.0, 900.0, 7.0), drained(100.0, 800.0, 9.0), drained(200.0, 1_000.0, 8.0)];
        let row = serde_json::to_value(case(rounds.to_vec()).row()).unwrap();
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
    fn cases_are_measured_from_both_ends() {
        let order = |round| -> Vec<i32> {
            in_turn(&mut [1, 2, 3], round).into_iter().map(|case: &mut i32| *case).collect()
        };
        let rounds: Vec<Vec<i32>> = (0..3).map(order).collect();
        assert_eq!(rounds, [[1, 2, 3], [3, 2, 1], [1, 2, 3]]);
    }

    #[test]
    fn a_chart_has_rates_or_else_times() {
        let rates = [case(vec![drained(100.0, 400.0, 5.0)]).row()];
        let label = "log, 500 events".to_owned();
        let bars = vec![Bar { label, value: 100.0, mark: Some(400.0) }];
        assert_eq!(Row::chart("Drained", &rates).bars, bars);
        let (p50_ms, p99_ms) = (Some(2.0), Some(9.0));
        let times = Round { p50_ms, p99_ms, ..Round::default() };
        let idle = Case { events: None, until: Some("visible"), ..case(vec![times]) };
        let label = "log, visible".to_owned();
        let drawn = Row::chart("Idle", &[idle.row()]);
        assert_eq!(drawn.bars, [Bar { label, value: 2.0, mark: Some(9.0) }]);
        assert_eq!((drawn.bar, drawn.mark), ("p50 ms", "p99 ms"));
    }

    #[test]
    fn each_row_is_compared_with_the_first_that_is_like_it() {
        let rate = |rows, per_s| Case { rows: Some(rows), ..case(vec![drained(per_s, 1.0, 1.0)]) };
        let page = |rows, p50_ms| {
            let rounds = vec![Round { p50_ms: Some(p50_ms), ..Round::default() }];
            Case { rows: Some(rows), until: Some("a page"), ..case(rounds) }
        };
        let cases = [rate(10, 200.0), page(10, 4.0), rate(100, 150.0), page(100, 5.0)];
        let ratios: Vec<_> = compared(&cases).into_iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(1.0), Some(0.75), Some(1.25)]);
        let of_table = Case { relay: Relay::Table, ..rate(10, 50.0) };
        let ratios: Vec<_> =
            compared(&[rate(10, 200.0), of_table]).into_iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(1.0)]);
    }

    #[test]
    fn a_line_has_what_is_known_of_its_rounds_and_of_each_program() {
        let known = |round: Round| -> Vec<(&str, String)> {
            let cells = case(vec![round]).row().cells().into_iter();
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
