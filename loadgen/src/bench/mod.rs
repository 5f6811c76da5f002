//! Benchmarks of a whole service on real parts, each beside the same work without the service.
//!
//! [`http`] measures requests, [`drain`] a backlog until it is SENT, [`full_loop`] one until it is PROCESSED, and [`idle`]
//! single changes; [`sql_limit`] what of that is the databases'. [`rows`] measures what was settled long ago takes from it,
//! [`instances`] what further processes add to it, and [`verify`] what a verification takes. [`all`] is one after the other.
//!
//! What they share lies in folders, on the way of a measurement, and each uses nothing but those before it:
//!
//! - [`options`] are what people choose;
//! - [`parts`] are what is started for that, from the server to the services;
//! - [`load`] is what is asked of the services;
//! - [`looks`] are how far events are;
//! - [`limits`] are what the parts do without a service;
//! - [`report`] is what came of it, and how it is told;
//! - [`pair`] is both services, with backlogs that go through all of that.
//!
//! Beside them, [`time`] is how long a benchmark may take, [`wait`] waits for what only shows to those who look, and
//! [`background`] works on a thread of its own.

mod all;
mod background;
mod drain;
mod full_loop;
mod http;
mod idle;
mod instances;
mod limits;
mod load;
mod looks;
mod options;
mod pair;
mod parts;
mod report;
mod rows;
mod sql_limit;
mod time;
mod verify;
mod wait;

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
    // The help of each is that of its arguments: words here would take their place.
    Http(http::Arguments),
    SqlLimit(sql_limit::Arguments),
    Drain(drain::Arguments),
    Loop(full_loop::Arguments),
    Idle(idle::Arguments),
    Rows(rows::Arguments),
    Instances(instances::Arguments),
    Verify(verify::Arguments),
    All(all::Arguments),
}

/// Measures, and prints a table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.benchmark {
        Benchmark::Http(arguments) => report::run(arguments),
        Benchmark::SqlLimit(arguments) => report::run(arguments),
        Benchmark::Drain(arguments) => report::run(arguments),
        Benchmark::Loop(arguments) => report::run(arguments),
        Benchmark::Idle(arguments) => report::run(arguments),
        Benchmark::Rows(arguments) => report::run(arguments),
        Benchmark::Instances(arguments) => report::run(arguments),
        Benchmark::Verify(arguments) => report::run(arguments),
        Benchmark::All(arguments) => all::run(arguments),
    }
}

/// Runs `work` on this thread alone, so that clients take as little of the processors as they can; what it spawned ends
/// with it.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
