//! All benchmarks, one after the other, into one file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::options::Options;
use super::svg::{self, Chart};
use super::{drain, figures, full_loop, http, idle, instances, rows, runs, verify};

/// Runs all benchmarks, one after the other, with their ordinary sizes: http, drain, loop, idle, rows, instances and
/// verify.
///
/// Each starts parts of its own, and prints its table when it is done; its own --help says what it measures, and how. The
/// files hold the figures of all of them; they are written after each, so that nothing is lost where a later one fails. With
/// --quick, http has three short rounds, the others one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench all --quick --json all.json
  stockloop-loadgen bench all --broker kafka --relay table --json all.json")]
pub(super) struct Arguments {
    /// The program of order-service [default: order-service beside this program]
    #[arg(long, value_name = "PATH")]
    order_service: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Measures all, prints the tables and writes the file.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { options, order_service } = arguments;
    // What would fail after minutes fails now.
    options.ensure_files()?;
    options.named_server()?;
    super::pair::Programs::find(options, order_service.as_deref())?;
    let one = || options.of_one();
    let mut all = All { options, rows: Vec::new(), charts: Vec::new() };

    let asked = http::Arguments::of(&one());
    let rows = http::measure(&asked).context("bench http")?;
    figures::print(&asked.title(), &rows);
    all.add(figures::chart(&asked.title(), &rows), &rows)?;

    let asked = drain::Arguments::of(one());
    let rows = drain::measure(&asked).context("bench drain")?;
    all.tell(&drain::title(&asked), &rows)?;

    let asked = full_loop::Arguments::of(one(), order_service.clone());
    let rows = full_loop::measure(&asked).context("bench loop")?;
    all.tell(&full_loop::title(&asked), &rows)?;

    let asked = idle::Arguments::of(one(), order_service.clone());
    let rows = idle::measure(&asked).context("bench idle")?;
    all.tell(&idle::title(&asked), &rows)?;

    let asked = rows::Arguments::of(one(), order_service.clone());
    let measured = rows::measure(&asked).context("bench rows")?;
    all.tell(&rows::title(&asked), &measured)?;

    let asked = instances::Arguments::of(one(), order_service.clone());
    let measured = instances::measure(&asked).context("bench instances")?;
    all.tell(&instances::title(&asked), &measured)?;

    let asked = verify::Arguments::of(one(), order_service.clone());
    let measured = verify::measure(&asked).context("bench verify")?;
    all.tell(&verify::title(&asked), &measured)
}

/// The figures so far, and where they go.
struct All<'a> {
    options: &'a Options,
    rows: Vec<Value>,
    charts: Vec<Chart>,
}

impl All<'_> {
    fn tell(&mut self, title: &str, rows: &[runs::Row]) -> Result<()> {
        println!("{}", runs::table(title, rows));
        self.add(runs::chart(title, rows), rows)
    }

    fn add(&mut self, chart: Chart, rows: &[impl Serialize]) -> Result<()> {
        self.charts.push(chart);
        for row in rows {
            self.rows.push(serde_json::to_value(row)?);
        }
        let Options { json, svg, .. } = self.options;
        json.as_deref().map_or(Ok(()), |file| runs::write(file, &self.rows))?;
        svg.as_deref().map_or(Ok(()), |file| svg::write(file, &self.charts))
    }
}
