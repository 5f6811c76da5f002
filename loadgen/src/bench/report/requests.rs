//! What came of single adjustments over HTTP, beside the limit: medians of several rounds.

use serde::Serialize;

use super::line::{Cells, Line, number, range};
use super::svg::{Bar, Chart};
use crate::bench::load::Figures;
use crate::bench::looks::Settled;
use crate::process::Used;
use crate::report::{median, quantile};

/// One round of a case.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct HttpRound {
    pub(in crate::bench) service: Figures,
    /// What was left to settle after it; none, where the service's database is not known.
    pub(in crate::bench) settled: Option<Settled>,
    /// None, where there was no database to measure it on.
    pub(in crate::bench) limit: Option<Figures>,
    /// What the service used, where its process is known.
    pub(in crate::bench) used: Option<Used>,
}

impl HttpRound {
    fn settled_per_s(&self) -> Option<f64> {
        self.settled.map(|settled| self.service.per_s_with(settled.took))
    }
}

/// What is measured in each round.
#[derive(Debug)]
pub(in crate::bench) struct HttpCase {
    pub(in crate::bench) name: &'static str,
    pub(in crate::bench) clients: u16,
    pub(in crate::bench) rounds: Vec<HttpRound>,
}

impl HttpCase {
    /// The medians of all rounds.
    pub(in crate::bench) fn row(&self) -> HttpRow {
        let rounds = &self.rounds;
        let of_service = |figure: fn(&Figures) -> f64| {
            quantile(rounds.iter().map(|round| figure(&round.service)).collect(), 0.5)
        };
        let rate_per_s = of_service(|figures| figures.per_s);
        let limit_per_s =
            median(rounds.iter().filter_map(|round| Some(round.limit?.per_s)).collect());
        let rates = || rounds.iter().map(|round| round.service.per_s);
        HttpRow {
            name: self.name,
            clients: self.clients,
            rate_per_s,
            settled_per_s: median(rounds.iter().filter_map(HttpRound::settled_per_s).collect()),
            open_at_end: median(
                rounds.iter().filter_map(|round| Some(round.settled?.open as f64)).collect(),
            ),
            limit_per_s,
            share: limit_per_s.map(|limit| rate_per_s / limit),
            p50_ms: of_service(|figures| figures.p50_ms),
            p99_ms: of_service(|figures| figures.p99_ms),
            min_per_s: rates().fold(f64::INFINITY, f64::min),
            max_per_s: rates().fold(0.0, f64::max),
            rss_mb: rounds.iter().filter_map(|round| Some(round.used?.rss_mb)).reduce(f64::max),
            cpu_s: median(rounds.iter().filter_map(|round| Some(round.used?.cpu_s)).collect()),
            rounds: rounds.len(),
        }
    }
}

/// A line of the table, and an element of the JSON.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct HttpRow {
    name: &'static str,
    clients: u16,
    rate_per_s: f64,
    /// Where the time until all was settled counts, too.
    settled_per_s: Option<f64>,
    /// Events that were not settled yet when the last change was answered.
    open_at_end: Option<f64>,
    /// With a transaction per adjustment.
    limit_per_s: Option<f64>,
    /// The service's rate divided by the limit: above 1 where grouping gains more than the service costs.
    share: Option<f64>,
    p50_ms: f64,
    p99_ms: f64,
    /// The slowest and the fastest round of the service.
    min_per_s: f64,
    max_per_s: f64,
    /// Since the service's start, not of this case alone.
    rss_mb: Option<f64>,
    cpu_s: Option<f64>,
    /// How many were measured.
    rounds: usize,
}

impl Line for HttpRow {
    fn cells(&self) -> Cells {
        vec![
            ("clients", Some(self.clients.to_string())),
            ("service/s", number(Some(self.rate_per_s), 0)),
            ("settled/s", number(self.settled_per_s, 0)),
            ("limit/s", number(self.limit_per_s, 0)),
            ("share", number(self.share, 2)),
            ("p50 ms", number(Some(self.p50_ms), 2)),
            ("p99 ms", number(Some(self.p99_ms), 2)),
            ("spread", range(Some(self.min_per_s), Some(self.max_per_s), 0)),
            ("CPU s", number(self.cpu_s, 1)),
            ("peak MB", number(self.rss_mb, 0)),
            ("rounds", Some(self.rounds.to_string())),
        ]
    }

    /// The rates beside the limits.
    fn chart(title: &str, rows: &[Self]) -> Chart {
        let bar = |row: &Self| Bar {
            label: format!("{} client(s)", row.clients),
            value: row.rate_per_s,
            mark: row.limit_per_s,
        };
        let bars = rows.iter().map(bar).collect();
        Chart { title: title.to_owned(), bar: "service/s", mark: "limit/s", bars }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn round(per_s: f64, limit: Option<f64>) -> HttpRound {
        let took = Duration::from_secs(1);
        let figures = |per_s: f64| Figures::of(vec![1.0; per_s as usize], took).unwrap();
        let used = Some(Used { cpu_s: per_s / 100.0, rss_mb: per_s });
        let settled = Some(Settled { open: 7, took });
        HttpRound { service: figures(per_s), settled, limit: limit.map(figures), used }
    }

    #[test]
    fn a_row_has_the_medians_and_the_spread_of_its_rounds() {
        let rounds =
            vec![round(300.0, Some(1_000.0)), round(100.0, Some(800.0)), round(200.0, Some(900.0))];
        let row = HttpCase { name: "http", clients: 4, rounds }.row();
        assert_eq!((row.rate_per_s, row.limit_per_s), (200.0, Some(900.0)));
        assert_eq!(row.share, Some(200.0 / 900.0));
        assert_eq!((row.settled_per_s, row.open_at_end), (Some(100.0), Some(7.0)));
        assert_eq!((row.min_per_s, row.max_per_s), (100.0, 300.0));
        assert_eq!((row.cpu_s, row.rss_mb, row.rounds), (Some(2.0), Some(300.0), 3));
    }

    #[test]
    fn what_was_not_measured_is_left_open() {
        let unknown = HttpRound { used: None, settled: None, ..round(100.0, None) };
        let row = HttpCase { name: "http", clients: 1, rounds: vec![unknown] }.row();
        assert_eq!(row.cells()[2..4], [("settled/s", None), ("limit/s", None)]);
        let json = serde_json::to_value(&row).unwrap();
        for name in ["settled_per_s", "open_at_end", "limit_per_s", "share", "cpu_s"] {
            assert!(json[name].is_null(), "{name}");
        }
    }
}
