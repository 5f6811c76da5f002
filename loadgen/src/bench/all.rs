//! All benchmarks, one after the other, into the same files.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::options::Options;
use super::pair::Programs;
use super::tables::Tables;
use super::{drain, full_loop, http, idle, instances, rows, verify};

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

/// Measures all, prints the tables and writes the files.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { options, order_service } = arguments;
    // What would fail after minutes fails now.
    let mut tables = Tables::to(&options.files)?;
    options.named_server()?;
    Programs::find(options, order_service.as_deref())?;
    let (options, program) = (|| options.clone(), || order_service.clone());
    tables.add(&http::Arguments::of(&options())).context("bench http")?;
    tables.add(&drain::Arguments::of(options())).context("bench drain")?;
    tables.add(&full_loop::Arguments::of(options(), program())).context("bench loop")?;
    tables.add(&idle::Arguments::of(options(), program())).context("bench idle")?;
    tables.add(&rows::Arguments::of(options(), program())).context("bench rows")?;
    tables.add(&instances::Arguments::of(options(), program())).context("bench instances")?;
    tables.add(&verify::Arguments::of(options(), program())).context("bench verify")
}
