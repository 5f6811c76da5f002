//! Figures of several runs, as medians and ratios.

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use crate::progress::progress_bar;

/// Runs cases one after the other, and that again and again, on `place`; a run has `length` events.
pub(crate) async fn take_turns(
    place: &str,
    names: Vec<String>,
    repeat: usize,
    length: usize,
    run: impl AsyncFn(usize, &ProgressBar) -> Result<Vec<f64>>,
) -> Result<Vec<Case>> {
    let new = |name| Case { name, runs: Vec::new() };
    let mut cases: Vec<Case> = names.into_iter().map(new).collect();
    for round in 1..=repeat {
        for (number, case) in cases.iter_mut().enumerate() {
            let bar = progress_bar(format!("{round}/{repeat} {place} {}", case.name), length);
            case.runs.push(run(number, &bar).await.with_context(|| case.name.clone())?);
            bar.finish_and_clear();
        }
    }
    Ok(cases)
}

/// What is measured and compared with others, and the figures of its runs.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) runs: Vec<Vec<f64>>,
}

impl Case {
    /// Of one figure, over all runs.
    pub(crate) fn median(&self, figure: usize) -> f64 {
        quantile(self.runs.iter().filter_map(|run| run.get(figure).copied()).collect(), 0.5)
    }
}

/// The value that this part of all `values` lies below; NaN of none.
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len() as f64 * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The median; none of no values.
pub(crate) fn median(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| quantile(values, 0.5))
}

/// A table; columns have digits behind the point.
pub(crate) struct Report {
    pub(crate) title: String,
    pub(crate) columns: Vec<(&'static str, usize)>,
    pub(crate) lines: Vec<(String, Vec<f64>)>,
}

impl Report {
    /// The medians of each figure, each followed by its ratio to that of the first case.
    pub(crate) fn compared(
        title: String,
        figures: &[(&'static str, usize)],
        cases: &[Case],
    ) -> Self {
        let line = |case: &Case| {
            let compare = |figure| {
                let first = cases.first().map_or(f64::NAN, |first| first.median(figure));
                [case.median(figure), case.median(figure) / first]
            };
            (case.name.clone(), (0..figures.len()).flat_map(compare).collect())
        };
        let columns = figures.iter().flat_map(|figure| [*figure, ("ratio", 2)]).collect();
        Self { title, columns, lines: cases.iter().map(line).collect() }
    }

    pub(crate) fn print(&self) {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        println!("{}\n", self.title);
        print!("{:width$}", "case");
        self.columns.iter().for_each(|(heading, _)| print!(" {heading:>9}"));
        println!();
        for (name, figures) in &self.lines {
            print!("{name:width$}");
            for (&(_, digits), figure) in self.columns.iter().zip(figures) {
                print!(" {figure:>9.digits$}");
            }
            println!();
        }
        println!();
    }
}
