//! What was measured, its medians, and how they are printed.

use std::collections::BTreeMap;

use serde::Serialize;

/// One figure of a run; µs are per event of the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Metric {
    /// Insert, small transactions.
    InsertSmall,
    /// Insert, large transactions.
    Insert,
    /// Relay: reading the pending events.
    Read,
    /// Relay: marking them SENT.
    Mark,
    /// Settling acknowledged events.
    Settle,
    /// Insert (large), read, mark and settle together.
    Total,
    /// CPU time of client and database in these phases, where it can be told.
    Cpu,
    /// Relay, first tenth of its batches.
    RelayFirst,
    /// Relay, last tenth of its batches.
    RelayLast,
    /// Settle, first tenth of its batches.
    SettleFirst,
    /// Settle, last tenth of its batches.
    SettleLast,
    /// WAL bytes per event, insert.
    WalInsert,
    /// WAL bytes per event, relay.
    WalRelay,
    /// WAL bytes per event, settle.
    WalSettle,
    /// WAL bytes per event, all phases.
    WalTotal,
    /// Percentage of updates that touched no index.
    Hot,
    /// Bytes of tables and indexes per event at the end.
    Size,
    /// Events that went through all phases.
    Events,
}

impl Metric {
    /// All, in the order of the table's columns, with their headings.
    const COLUMNS: [(Self, &'static str); 18] = [
        (Self::InsertSmall, "ins/25"),
        (Self::Insert, "insert"),
        (Self::Read, "read"),
        (Self::Mark, "mark"),
        (Self::Settle, "settle"),
        (Self::Total, "total"),
        (Self::Cpu, "cpu"),
        (Self::RelayFirst, "relay.1st"),
        (Self::RelayLast, "relay.end"),
        (Self::SettleFirst, "settl.1st"),
        (Self::SettleLast, "settl.end"),
        (Self::WalInsert, "wal.ins"),
        (Self::WalRelay, "wal.rel"),
        (Self::WalSettle, "wal.set"),
        (Self::WalTotal, "wal"),
        (Self::Hot, "hot%"),
        (Self::Size, "B/event"),
        (Self::Events, "events"),
    ];

    fn digits(self) -> usize {
        if self >= Self::WalInsert { 0 } else { 1 }
    }
}

/// The figures of one run.
pub(super) type Metrics = BTreeMap<Metric, f64>;

/// All runs of one case and their median.
#[derive(Debug, Serialize)]
pub(super) struct CaseResults {
    /// Database, layout and variant.
    pub(super) case: String,
    /// Median of each figure over the runs.
    pub(super) median: Metrics,
    /// Every run, in order.
    pub(super) runs: Vec<Metrics>,
}

impl CaseResults {
    /// A case without runs.
    pub(super) fn new(case: String) -> Self {
        Self { case, median: Metrics::new(), runs: Vec::new() }
    }

    /// Adds a run.
    pub(super) fn add(&mut self, run: Metrics) {
        self.runs.push(run);
        let metrics: Vec<Metric> = self.runs.iter().flat_map(|run| run.keys().copied()).collect();
        for metric in metrics {
            let mut values: Vec<f64> =
                self.runs.iter().filter_map(|run| run.get(&metric).copied()).collect();
            values.sort_by(f64::total_cmp);
            if let Some(median) = values.get(values.len() / 2) {
                self.median.insert(metric, *median);
            }
        }
    }
}

/// Prints the medians as a table.
pub(super) fn print(cases: &[CaseResults]) {
    let width = cases.iter().map(|results| results.case.len()).max().unwrap_or_default();
    print!("{:width$}", "case");
    for (_, heading) in Metric::COLUMNS {
        print!(" {heading:>9}");
    }
    println!();
    for results in cases {
        print!("{:width$}", results.case);
        for (metric, _) in Metric::COLUMNS {
            match results.median.get(&metric) {
                Some(value) => print!(" {value:>9.*}", metric.digits()),
                None => print!(" {:>9}", "-"),
            }
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_run_counts() {
        let mut results = CaseResults::new("case".to_owned());
        for value in [9.0, 1.0, 5.0] {
            results.add(Metrics::from([(Metric::Total, value)]));
        }
        assert_eq!(results.median.get(&Metric::Total), Some(&5.0));
    }
}
