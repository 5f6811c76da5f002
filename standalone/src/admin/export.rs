//! `export`: a whole list as a file, in whatever size.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, ProgressBar};

use super::Ending;
use super::client::Query;
use super::fault::Fault;
use super::session::Session;
use super::transport::Answer;

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin export events --where status=EXHAUSTED --format csv -o exhausted.csv
  stockloop admin export audit --where since=2026-01-01T00:00:00Z --format ndjson | jq .
  stockloop admin export job-items --job 7 -o job-7.csv

--where takes the parameters of the list in the API: /api/docs/ of the service has them.")]
pub(super) struct ExportArgs {
    /// The list.
    what: What,
    /// How it is written. In CSV, no cell is a formula to a spreadsheet.
    #[arg(long, default_value = "csv")]
    format: Format,
    /// The file; it is there once it is whole. Else standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only what matches; may be given several times.
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// The job whose items are wanted.
    #[arg(long, value_name = "SEQ", required_if_eq("what", "job-items"))]
    job: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Events,
    Alerts,
    Silences,
    Mails,
    Webhooks,
    DeadLetters,
    Quarantine,
    Pauses,
    Jobs,
    JobItems,
    Audit,
    Users,
    Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Ndjson,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as status=EXHAUSTED")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn name<T: ValueEnum>(value: T) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

pub(super) async fn run(at: &Session, args: ExportArgs) -> anyhow::Result<Ending> {
    if args.output.is_none() && io::stdout().is_terminal() {
        let words = "an export is not for the terminal: name a file with -o, or pipe it on";
        return Err(Fault::Usage(words.to_owned()).into());
    }
    let job = args.job.unwrap_or_default().to_string();
    let list = name(args.what);
    let path: Vec<&str> = match args.what {
        What::JobItems => vec!["jobs", &job, "items", "export"],
        _ => vec![&list, "export"],
    };
    let query = Query::default().and("format", Some(name(args.format)));
    let query =
        args.parameters.iter().fold(query, |query, (name, value)| query.and(name, Some(value)));
    let answer = at.client.stream(&path, &query).await?;
    match &args.output {
        Some(file) => to_file(answer, file).await?,
        None => drop(copy(answer, &mut io::stdout().lock()).await?),
    }
    Ok(Ending::Done)
}

/// Through a file beside it: one that broke off is never taken for the whole.
async fn to_file(answer: Answer, file: &Path) -> anyhow::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let unwritten = || format!("{} can't be written", file.display());
    let mut out = File::create(&part).with_context(unwritten)?;
    let bytes = copy(answer, &mut out).await?;
    out.sync_all().with_context(unwritten)?;
    std::fs::rename(&part, file).with_context(unwritten)?;
    eprintln!("{} written to {}", HumanBytes(bytes), file.display());
    Ok(())
}

async fn copy(mut answer: Answer, out: &mut impl Write) -> anyhow::Result<u64> {
    let spinner = ProgressBar::new_spinner();
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.context("the export broke off and is not whole")? {
        out.write_all(&chunk)?;
        bytes += chunk.len() as u64;
        spinner.set_message(HumanBytes(bytes).to_string());
        spinner.tick();
    }
    out.flush()?;
    spinner.finish_and_clear();
    Ok(bytes)
}
