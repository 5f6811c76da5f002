//! Benchmarks of a whole service on real parts, each beside the same work without the service.
//!
//! [`http`] is the first of them. What it shares with others: [`server`], [`broker`] and [`service`] are the parts,
//! [`answers`] stands in for who answers, [`client`] asks over HTTP for the [`changes`], [`limit`] does the same without
//! a service, [`process`] says what the service used, [`mounts`] whether a disk is measured, and [`figures`] what came of
//! it.

mod answers;
mod broker;
mod changes;
mod client;
mod figures;
mod http;
mod limit;
mod mounts;
mod process;
mod server;
mod service;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measures a whole service on real parts, beside the same work without it.
///
/// The service is the program itself, a child process with its ordinary settings, on a PostgreSQL that keeps what it has
/// committed and on a broker. docs/PERFORMANCE.md says how each figure is made and how to read it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    benchmark: Benchmark,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum Benchmark {
    // Its help is that of its arguments: words here would take their place.
    Http(http::Arguments),
}

/// Measures, and prints a table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.benchmark {
        Benchmark::Http(arguments) => http::run(arguments),
    }
}

/// Runs `work` on this thread alone, so that clients take as little of the processors as they can; what it spawned ends
/// with it.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
