//! All benchmarks, one after the other, into the same files.

use anyhow::{Context, Result};
use clap::Args;

use super::options::LoopOptions;
use super::parts::Server;
use super::report::Tables;
use super::{drain, full_loop, http, idle, instances, rows, sql_limit, verify};

/// Runs all benchmarks, one after the other, with their ordinary sizes: http, sql-limit, drain, loop, idle, rows, instances
/// and verify.
///
/// Each starts parts of its own, and prints its table when it is done; its own --help says what it measures, and how. The
/// files hold the figures of all of them; they are written after each, so that nothing is lost where a later one fails. With
/// --quick, http has three short rounds, the others one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench all --quick --json all.json
  stockloop-loadgen bench all --broker kafka --relay table --json all.json")]
pub(super) struct Arguments {
    #[command(flatten)]
    both: LoopOptions,
}

/// Measures all, prints the tables and writes the files.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let LoopOptions { options, .. } = &arguments.both;
    // What would fail after minutes fails now.
    let mut tables = Tables::to(&options.files)?;
    options.refuse_external("all")?;
    Server::named_by(options)?;
    arguments.both.programs()?;
    let both = || arguments.both.clone();
    tables.add(&http::Arguments::of(options.clone())?).context("bench http")?;
    tables.add(&sql_limit::Arguments::of(options.clone())?).context("bench sql-limit")?;
    tables.add(&drain::Arguments::of(options.clone())?).context("bench drain")?;
    tables.add(&full_loop::Arguments::of(both())?).context("bench loop")?;
    tables.add(&idle::Arguments::of(both())?).context("bench idle")?;
    tables.add(&rows::Arguments::of(both())?).context("bench rows")?;
    tables.add(&instances::Arguments::of(both())?).context("bench instances")?;
    tables.add(&verify::Arguments::of(both())?).context("bench verify")
}
