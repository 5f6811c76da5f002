//! Figures of several runs, as medians and ratios.

/// What is measured and compared with others, and the figures of its runs.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) runs: Vec<Vec<f64>>,
}

impl Case {
    /// Of one figure, over all runs.
    pub(super) fn median(&self, figure: usize) -> f64 {
        quantile(self.runs.iter().filter_map(|run| run.get(figure).copied()).collect(), 0.5)
    }
}

/// The value that this part of all `values` lies below; NaN of none.
pub(super) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len() as f64 * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A table; columns have digits behind the point.
pub(super) struct Report {
    pub(super) title: String,
    pub(super) columns: Vec<(&'static str, usize)>,
    pub(super) lines: Vec<(String, Vec<f64>)>,
}

impl Report {
    /// The medians of each figure, each followed by its ratio to that of the first case.
    pub(super) fn compared(
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

    pub(super) fn print(&self) {
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
