//! What benchmarks tell: a table of each, and files with the figures of all.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::line::{Cells, Line};
use super::svg::{self, Chart};
use crate::bench::options::Files;
use crate::bench::time::Time;

/// What can be measured, on parts that are started for it or named.
pub(in crate::bench) trait Bench {
    /// What comes of one of its cases.
    type Line: Line;

    /// Where its figures go, beside the table.
    fn files(&self) -> &Files;

    /// What its table is called.
    fn title(&self) -> String;

    /// How long it may take.
    fn limit(&self) -> Duration;

    /// Measures all cases, in the time that there is.
    fn measure(&self, time: &Time) -> Result<Vec<Self::Line>>;
}

/// Measures, prints the table and writes the files.
pub(in crate::bench) fn run(bench: &impl Bench) -> Result<()> {
    Tables::to(bench.files())?.add(bench)
}

/// What was measured so far, and where it goes.
pub(in crate::bench) struct Tables<'a> {
    files: &'a Files,
    rows: Vec<Value>,
    charts: Vec<Chart>,
}

impl<'a> Tables<'a> {
    /// None yet. It fails now where a file could not be written after minutes.
    pub(in crate::bench) fn to(files: &'a Files) -> Result<Self> {
        files.ensure_writable()?;
        Ok(Self { files, rows: Vec::new(), charts: Vec::new() })
    }

    /// Measures, prints the table, and writes the files with the figures of all so far.
    pub(in crate::bench) fn add<B: Bench>(&mut self, bench: &B) -> Result<()> {
        let time = Time::begin(bench.limit());
        let (lines, title) = (bench.measure(&time)?, bench.title());
        println!("{}", table(&title, &lines));
        self.charts.push(B::Line::chart(&title, &lines));
        for line in &lines {
            self.rows.push(serde_json::to_value(line)?);
        }
        let json = serde_json::to_vec_pretty(&self.rows)?;
        self.files.write(&json, svg::draw(&self.charts).as_bytes())
    }
}

/// A table for people; it has no column in which nothing is known.
fn table(title: &str, lines: &[impl Line]) -> String {
    let lines: Vec<Cells> = lines.iter().map(Line::cells).collect();
    let columns = lines.first().map_or(0, Vec::len);
    let mut text = vec![String::new(); lines.len() + 1];
    for column in 0..columns {
        let cells: Vec<_> = lines.iter().filter_map(|line| line.get(column)).collect();
        let Some((heading, _)) = cells.first() else { continue };
        if cells.iter().all(|(_, cell)| cell.is_none()) {
            continue;
        }
        let below = cells.iter().map(|(_, cell)| cell.as_deref().unwrap_or("-"));
        let column: Vec<&str> = std::iter::once(*heading).chain(below).collect();
        let width = column.iter().map(|cell| cell.chars().count()).max().unwrap_or_default();
        for (line, cell) in text.iter_mut().zip(column) {
            let gap = if line.is_empty() { "" } else { "  " };
            line.push_str(gap);
            line.push_str(&format!("{cell:>width$}"));
        }
    }
    format!("{title}\n\n{}\n", text.join("\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::Cell;
    use std::path::PathBuf;

    use serde::Serialize;
    use tempfile::tempdir;

    use super::super::line::{number, range};
    use super::*;

    #[derive(Clone, Serialize)]
    struct Counted {
        events: u32,
        rate_per_s: Option<f64>,
    }

    impl Line for Counted {
        fn cells(&self) -> Cells {
            vec![
                ("events", Some(self.events.to_string())),
                ("service/s", number(self.rate_per_s, 0)),
                ("spread", range(self.rate_per_s, None, 0)),
            ]
        }

        fn chart(title: &str, _: &[Self]) -> Chart {
            let (bar, mark) = ("service/s", "producer/s");
            Chart { title: title.to_owned(), bar, mark, bars: Vec::new() }
        }
    }

    /// A benchmark of which these lines come.
    struct Known {
        files: Files,
        lines: Vec<Counted>,
        is_measured: Cell<bool>,
    }

    impl Known {
        fn of(lines: Vec<Counted>, files: &Files) -> Self {
            Self { files: files.clone(), lines, is_measured: Cell::new(false) }
        }
    }

    impl Bench for Known {
        type Line = Counted;

        fn files(&self) -> &Files {
            &self.files
        }

        fn title(&self) -> String {
            format!("{} lines", self.lines.len())
        }

        fn limit(&self) -> Duration {
            Duration::from_secs(60)
        }

        fn measure(&self, _: &Time) -> Result<Vec<Counted>> {
            self.is_measured.set(true);
            Ok(self.lines.clone())
        }
    }

    fn lines() -> Vec<Counted> {
        let line = |events, rate_per_s| Counted { events, rate_per_s };
        vec![line(500, Some(100.0)), line(50_000, None)]
    }

    #[test]
    fn a_table_has_the_columns_of_which_something_is_known() {
        let expected = "Counted

events  service/s
   500        100
 50000          -
";
        assert_eq!(table("Counted", &lines()), expected);
    }

    #[test]
    fn nothing_is_measured_where_a_file_can_not_be_written() {
        let nowhere = || Some(PathBuf::from("no/such/file"));
        for files in [
            Files { json: nowhere(), ..Files::default() },
            Files { svg: nowhere(), ..Files::default() },
        ] {
            let bench = Known::of(lines(), &files);
            let error = run(&bench).unwrap_err().to_string();
            assert_eq!(error, "cannot write no/such/file");
            assert!(!bench.is_measured.get());
        }
    }

    #[test]
    fn files_have_the_figures_of_all_that_was_measured_so_far() {
        let folder = tempdir().unwrap();
        let file = |name: &str| Some(folder.path().join(name));
        let files = Files { json: file("all.json"), svg: file("all.svg") };
        let mut tables = Tables::to(&files).unwrap();
        let told = || {
            let rows = std::fs::read(files.json.as_ref().unwrap()).unwrap();
            let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
            let drawn = std::fs::read_to_string(files.svg.as_ref().unwrap()).unwrap();
            let events: Vec<_> = rows.iter().map(|row| row["events"].as_u64().unwrap()).collect();
            (events, drawn.matches("lines</tspan>").count())
        };
        tables.add(&Known::of(lines(), &Files::default())).unwrap();
        assert_eq!(told(), (vec![500, 50_000], 1));
        tables.add(&Known::of(lines(), &Files::default())).unwrap();
        assert_eq!(told(), (vec![500, 50_000, 500, 50_000], 2));
    }
}
