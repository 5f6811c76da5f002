//! `export`: a whole list as a file, of any size.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, ProgressBar};

use super::client::Query;
use super::context::CommandContext;
use super::error::CommandError;
use super::outcome::Outcome;
use super::transport::ServiceResponse;

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin export events --where status=EXHAUSTED --format csv -o exhausted.csv
  stockloop admin export audit --where since=2026-01-01T00:00:00Z --format ndjson | jq .
  stockloop admin export job-items --job 7 -o job-7.csv
  stockloop admin export differences --verification latest -o differences.csv

--where takes the parameters of the list in the API; /api/docs/ of the service lists them.")]
pub(super) struct ExportArgs {
    /// The list.
    list: ExportList,
    /// The format. In CSV, no cell is a formula to a spreadsheet.
    #[arg(long, default_value = "csv")]
    format: Format,
    /// Begin a CSV file with a byte order mark, by which Excel knows UTF-8.
    #[arg(long)]
    bom: bool,
    /// The file, which appears once it is complete; by default standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only items that match; may be repeated.
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// The job whose items, or whose skipped keys, are exported.
    #[arg(long, value_name = "SEQ",
          required_if_eq_any([("list", "job-items"), ("list", "resync-skipped")]))]
    job: Option<u64>,
    /// The verification whose differences are exported: its number, or `latest`.
    #[arg(long, value_name = "SEQ", required_if_eq("list", "differences"))]
    verification: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportList {
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
    Verifications,
    Differences,
    Resyncs,
    ResyncSkipped,
    Bootstraps,
    LostCommands,
    Consumers,
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

pub(super) async fn run(ctx: &CommandContext, args: ExportArgs) -> anyhow::Result<Outcome> {
    if args.output.is_none() && io::stdout().is_terminal() {
        let text = "an export is not for the terminal: name a file with -o, or use a pipe";
        return Err(CommandError::Usage(text.to_owned()).into());
    }
    let job = args.job.unwrap_or_default().to_string();
    let verification = args.verification.clone().unwrap_or_default();
    let list = name(args.list);
    let path: Vec<&str> = match args.list {
        ExportList::JobItems => vec!["jobs", &job, "items", "export"],
        ExportList::ResyncSkipped => vec!["resyncs", &job, "skipped", "export"],
        ExportList::Differences => {
            vec!["verifications", &verification, "differences", "export"]
        }
        _ => vec![&list, "export"],
    };
    let query = Query::default()
        .and("format", Some(name(args.format)))
        .and("bom", args.bom.then_some(true));
    let query =
        args.parameters.iter().fold(query, |query, (name, value)| query.and(name, Some(value)));
    let response = ctx.client.stream(&path, &query).await?;
    match &args.output {
        Some(file) => to_file(response, file).await?,
        None => drop(copy(response, &mut io::stdout().lock()).await?),
    }
    Ok(Outcome::Done)
}

/// Through a file beside it, so that an incomplete export is never taken for a complete one.
async fn to_file(response: ServiceResponse, file: &Path) -> anyhow::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let cannot_write = || format!("{} can't be written", file.display());
    let mut out = File::create(&part).with_context(cannot_write)?;
    let bytes = copy(response, &mut out).await?;
    out.sync_all().with_context(cannot_write)?;
    std::fs::rename(&part, file).with_context(cannot_write)?;
    eprintln!("{} written to {}", HumanBytes(bytes), file.display());
    Ok(())
}

async fn copy(mut response: ServiceResponse, out: &mut impl Write) -> anyhow::Result<u64> {
    let spinner = ProgressBar::new_spinner();
    let mut bytes = 0;
    while let Some(chunk) =
        response.chunk().await.context("the export broke off and is incomplete")?
    {
        out.write_all(&chunk)?;
        bytes += chunk.len() as u64;
        spinner.set_message(HumanBytes(bytes).to_string());
        spinner.tick();
    }
    out.flush()?;
    spinner.finish_and_clear();
    Ok(bytes)
}
