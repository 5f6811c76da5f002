//! `stockloop demo`: a month of real sales through both services, with a fault on the way, and the proof that
//! every change arrived.

mod client;
mod orders;
mod play;
mod progress;
mod proof;
mod report;
mod verify;
mod views;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use common::env::Env;
use service::cli::stop_signal;

use crate::dataset::{self, Catalogue, Source};
use crate::stack::{Ports, Stack, StackArgs, shorten_delays};
use client::Client;
use progress::Progress;
use report::Report;
use views::{ComparedView, Views};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Sales lines to replay instead of the bundled ones: a CSV file or a pipe, plain or gzipped, with the columns
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
    /// Also play the lines as a till's, have Flink keep the views of deploy/flink, and compare those in the end. Needs a
    /// JDK 17, Maven and 2 GB of memory; without --brokers, a real Apache Kafka is started, too.
    #[arg(long)]
    views: bool,
    /// Stop when it is done, instead of staying up for a look around.
    #[arg(long)]
    exit: bool,
}

/// What a run that was stopped says.
const INTERRUPTED: &str = "interrupted before the end; nothing was proved";

/// Runs the demo; the exit code is 0 only if every change is PROCESSED, and the copy and the views equal the source.
pub(crate) async fn run(mut args: DemoArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_signal()?;
    if let Some(file) = &args.report {
        Report::try_place(file)?;
    }
    let temporary = tempfile::tempdir().context("a temporary folder can't be made")?;
    let (source, survey) = tokio::select! {
        read = read_sales(&args, temporary.path()) => read?,
        () = stop.cancelled() => bail!(INTERRUPTED),
    };
    let data_dir = args.stack.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&data_dir)
        .with_context(|| format!("the data folder {} can't be made", data_dir.display()))?;
    // A real broker may hold the events of earlier runs; the embedded one is empty.
    let run = Env::system().event_id();
    let suffix = match args.stack.brokers {
        Some(_) => format!(".demo-{}", run.uuid().simple()),
        None => String::new(),
    };
    let views = tokio::select! {
        views = prepare_views(&args, &suffix, temporary.path()) => views?,
        () = stop.cancelled() => bail!(INTERRUPTED),
    };
    if let Some(own) = views.as_ref().and_then(Views::own_brokers) {
        args.stack.brokers = Some(own);
    }
    let ports = Ports { product: 0, order: 0, search: 0, mail_page: 0 };
    let stack = Stack::start(&args.stack, &data_dir, ports, &suffix, shorten_delays).await?;
    stack.print_addresses();
    let run = run.to_string();
    let report = tokio::select! {
        report = replay(&source, args.limit, survey, &stack, &run, views.as_ref()) => report,
        () = stop.cancelled() => Err(anyhow!(INTERRUPTED)),
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

async fn prepare_views(
    args: &DemoArgs,
    suffix: &str,
    folder: &Path,
) -> anyhow::Result<Option<Views>> {
    if !args.views {
        return Ok(None);
    }
    Views::prepare(args.stack.brokers.as_deref(), suffix, folder).await.map(Some)
}

/// The source of the sales and what it holds; an error if that is nothing to play.
async fn read_sales(args: &DemoArgs, folder: &Path) -> anyhow::Result<(Source, Catalogue)> {
    let (data, limit, folder) = (args.data.clone(), args.limit, folder.to_owned());
    let read = move || {
        let source = match data {
            None => Source::Bundled,
            Some(path) => Source::at(&path, &folder)?,
        };
        let survey = dataset::survey(&source, limit)?;
        ensure!(survey.accepted > 0, nothing_to_play(&source, &survey));
        anyhow::Ok((source, survey))
    };
    tokio::task::spawn_blocking(read).await?
}

fn nothing_to_play(source: &Source, survey: &Catalogue) -> String {
    if survey.rows == 0 {
        return format!("nothing was played: no line below the header of {source} was read");
    }
    let examples: Vec<String> = survey.examples.iter().map(ToString::to_string).collect();
    let (rows, examples) = (survey.rows, examples.join("; "));
    format!("nothing was played: of the {rows} lines of {source}, none can be: {examples}")
}

async fn replay(
    source: &Source,
    limit: Option<u64>,
    mut survey: Catalogue,
    stack: &Stack,
    run: &str,
    views: Option<&Views>,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let client = Client::new(stack, run)?;
    let since = stack.product.engine().env.now();
    let total = survey.products.len() as u64 + survey.accepted;
    let progress = Progress::start(&client, total);
    let refused = play::put_products(&client, stack, &survey, &progress).await?;
    let opened = stack.product.engine().env.now();
    survey.products.retain(|product| !refused.contains_key(&product.sku));
    let played = play::play_sales(&client, source, limit, &survey, refused, &progress).await?;
    let retried = play::end_quarantine(&client, stack, &played, &progress).await?;
    progress.note("Waiting until every change is PROCESSED.");
    play::wait_until_processed(stack).await?;
    let orders = orders::place_orders(&client, stack, source, limit, &survey, &progress).await?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    let findings = verify::verify(stack, since, opened, &survey, &orders).await?;
    let mut verified = proof::verified(stack).await?;
    let others = verified.split_off(1.min(verified.len()));
    let first = verified.pop().context("nothing was verified")?;
    let report = Report::new(
        &survey,
        &played,
        retried + orders.retried,
        findings,
        (first, others),
        stack,
        seconds,
    );
    Ok(match views {
        Some(views) => {
            let lines = (source, limit);
            let compared = views.compare(&client, stack, lines, &survey, &orders).await;
            // What the loop has proved stands, whatever became of Flink.
            report.with_views(compared.unwrap_or_else(|error| vec![ComparedView::unknown(&error)]))
        }
        None => report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nothing_can_be_played_is_said() {
        let survey = Catalogue::default();
        let text = nothing_to_play(&Source::Bundled, &survey);
        let says = "nothing was played: no line below the header of the bundled data set was read";
        assert_eq!(text, says);
        let text = nothing_to_play(&Source::Bundled, &Catalogue { rows: 3, ..survey });
        assert!(text.contains("of the 3 lines"), "{text}");
    }
}
