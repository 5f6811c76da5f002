//! What came of the statements of each step of the loop: medians of several rounds.

use serde::Serialize;

use super::line::{Cells, Line, number, range};
use super::svg::{Bar, Chart};
use crate::bench::limits::{Cost, Costs, Step};
use crate::report::median;

/// A line of the table, and an element of the JSON.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct StepRow {
    name: &'static str,
    step: Step,
    events: usize,
    /// Events a second.
    sql_per_s: Option<f64>,
    /// By which the server's log grew.
    wal_bytes_per_event: Option<f64>,
    /// The slowest and the fastest round.
    min_per_s: Option<f64>,
    max_per_s: Option<f64>,
    /// How many were measured.
    rounds: usize,
}

impl StepRow {
    /// Each step, then all of them, with so many events.
    pub(in crate::bench) fn all(events: usize, rounds: &[Costs]) -> Vec<Self> {
        let single =
            |place: usize| rounds.iter().filter_map(move |costs| costs.get(place).copied());
        let mut rows: Vec<Self> = Step::SINGLE
            .into_iter()
            .enumerate()
            .map(|(place, step)| Self::of(step, events, single(place).collect()))
            .collect();
        rows.push(Self::of(Step::All, events, rounds.iter().map(sum).collect()));
        rows
    }

    fn of(step: Step, events: usize, costs: Vec<Cost>) -> Self {
        let count = events as f64;
        let rates: Vec<f64> = costs.iter().map(|cost| count / cost.seconds).collect();
        Self {
            name: "sql-limit",
            step,
            events,
            min_per_s: rates.iter().copied().reduce(f64::min),
            max_per_s: rates.iter().copied().reduce(f64::max),
            sql_per_s: median(rates),
            wal_bytes_per_event: median(costs.iter().map(|cost| cost.bytes / count).collect()),
            rounds: costs.len(),
        }
    }
}

fn sum(costs: &Costs) -> Cost {
    Cost {
        seconds: costs.iter().map(|cost| cost.seconds).sum(),
        bytes: costs.iter().map(|cost| cost.bytes).sum(),
    }
}

impl Line for StepRow {
    fn cells(&self) -> Cells {
        vec![
            ("step", Some(self.step.name().to_owned())),
            ("events", Some(self.events.to_string())),
            ("SQL/s", number(self.sql_per_s, 0)),
            ("WAL B/event", number(self.wal_bytes_per_event, 0)),
            ("spread", range(self.min_per_s, self.max_per_s, 0)),
            ("rounds", Some(self.rounds.to_string())),
        ]
    }

    /// The rates beside those of the fastest rounds.
    fn chart(title: &str, rows: &[Self]) -> Chart {
        let bars = rows.iter().filter_map(|row| {
            let label = format!("{}, {} events", row.step.name(), row.events);
            Some(Bar { label, value: row.sql_per_s?, mark: row.max_per_s })
        });
        let (bar, mark) = ("SQL/s", "the fastest round");
        Chart { title: title.to_owned(), bar, mark, bars: bars.collect() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_medians_of_a_step_and_one_those_of_all_together() {
        let round = |seconds: f64| {
            [1.0, 2.0, 3.0, 4.0].map(|step| Cost { seconds: seconds * step, bytes: 100.0 * step })
        };
        let rows = StepRow::all(100, &[round(1.0), round(4.0), round(2.0)]);
        let json: Vec<_> = rows.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
        let of = |place: usize, name: &str| json[place][name].as_f64().unwrap();
        assert_eq!(json[1]["step"], "send");
        assert_eq!((of(1, "sql_per_s"), of(1, "wal_bytes_per_event")), (25.0, 2.0));
        assert_eq!((of(1, "min_per_s"), of(1, "max_per_s")), (12.5, 50.0));
        assert_eq!(json[4]["step"], "all");
        assert_eq!((of(4, "sql_per_s"), of(4, "wal_bytes_per_event")), (5.0, 10.0));
        assert_eq!(rows.len(), 5);
    }
}
