//! `stockloop demo`: a month of real sales through both services, with a fault on the way, and the proof that
//! every change arrived.

mod client;
mod orders;
mod play;
mod progress;
mod report;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Args;
use common::env::Env;
use service::cli::stop_signal;

use crate::dataset::{self, Source};
use crate::stack::{Ports, Stack, StackArgs, shorten_delays};
use client::Client;
use progress::Progress;
use report::Report;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Sales lines to replay instead of the bundled ones: a CSV file, plain or gzipped, with the columns
    /// InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    stack: StackArgs,
    /// Also write the summary to this file as JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Read only this many lines of the file.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Stop when it is done, instead of staying up for a look around.
    #[arg(long)]
    exit: bool,
}

/// Runs the demo; the exit code is 0 only if every change is PROCESSED and the copy equals the source.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_signal()?;
    let temporary = tempfile::tempdir().context("a temporary folder can't be made")?;
    let data_dir = args.stack.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&data_dir)
        .with_context(|| format!("the data folder {} can't be made", data_dir.display()))?;
    // A real broker may hold the events of earlier runs; the embedded one is empty.
    let run = Env::system().event_id();
    let suffix = match args.stack.brokers {
        Some(_) => format!(".demo-{}", run.uuid().simple()),
        None => String::new(),
    };
    let ports = Ports { product: 0, order: 0, mail_page: 0 };
    let stack = Stack::start(&args.stack, &data_dir, ports, &suffix, shorten_delays).await?;
    stack.print_addresses();
    let run = run.to_string();
    let report = tokio::select! {
        report = replay(&args, &stack, &run) => report,
        () = stop.cancelled() => Err(anyhow!("interrupted before the end; nothing was proved")),
    };
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            stack.stop().await?;
            return Err(error);
        }
    };
    print!("{report}");
    if let Some(file) = &args.report {
        report.write(file)?;
    }
    if !args.exit {
        println!("\nStill up for a look around; Ctrl-C stops.");
        stack.print_addresses();
        stop.cancelled().await;
    }
    stack.stop().await?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn replay(args: &DemoArgs, stack: &Stack, run: &str) -> anyhow::Result<Report> {
    let source = args.data.as_deref().map_or(Source::Bundled, Source::from);
    let limit = args.limit;
    let survey = {
        let source = source.clone();
        tokio::task::spawn_blocking(move || dataset::survey(&source, limit)).await??
    };
    let started = Instant::now();
    let client = Client::new(stack, run)?;
    let since = stack.product.engine().env.now();
    let total = survey.products.len() as u64 + survey.accepted;
    let progress = Progress::start(&client, total);
    play::warm_up(&client, stack, &survey, &progress).await?;
    play::put_products(&client, &survey, &progress).await?;
    let played = play::play_sales(&client, &source, limit, &survey, &progress).await?;
    let retried = play::end_quarantine(&client, stack, &played, &progress).await?;
    progress.note("Waiting until every change is PROCESSED.");
    play::wait_until_processed(&client, stack).await?;
    let orders = orders::place_orders(&client, stack, &source, limit, &progress).await?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    let findings = verify::verify(stack, since, &survey, &orders).await?;
    Ok(Report::new(&survey, &played, retried + orders.retried, findings, stack, seconds))
}
