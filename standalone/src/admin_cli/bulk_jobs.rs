//! `jobs` and `job`: bulk jobs, which are actions on many events, and what became of each event.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::{Column, grouped};

/// Skipped events that a result lists.
const SHOWN: usize = 20;
/// How often a job that is followed is asked for its progress.
const POLL_EVERY: Duration = Duration::from_millis(300);
const PROGRESS_STYLE: &str = "{elapsed_precise} {bar:30} {pos}/{len} events  {msg}";

/// A job in a list.
pub(super) const JOBS: &[Column] = &[
    Column::number("JOB", "seq"),
    Column::text("ACTION", "action"),
    Column::text("STATE", "state"),
    Column::number("EXPECTED", "expected"),
    Column::number("DONE", "done"),
    Column::number("SKIPPED", "skipped"),
    Column::age("AGE", "created_at"),
    Column::text("BY", "created_by"),
    Column::list("SELECTION", "selection"),
];

const JOB: &[Column] = &[
    Column::text("job", "seq"),
    Column::text("action", "action"),
    Column::list("selection", "selection"),
    Column::text("reason", "reason"),
    Column::text("more attempts", "attempts"),
    Column::text("state", "state"),
    Column::text("expected", "expected"),
    Column::text("done", "done"),
    Column::text("skipped", "skipped"),
    Column::text("created", "created_at"),
    Column::text("by", "created_by"),
    Column::text("started", "started_at"),
    Column::text("ended", "ended_at"),
    Column::text("ended by", "ended_by"),
];

const ITEMS: &[Column] = &[Column::text("EVENT", "event_id"), Column::text("SKIPPED", "skipped")];

#[derive(Args)]
pub(super) struct JobArgs {
    /// The job's number.
    seq: u64,
    /// Follow it to its end; the exit code is 3 if it skipped some.
    #[arg(long, group = "how")]
    follow: bool,
    /// Cancel it; what it has done stays done.
    #[arg(long, group = "how")]
    cancel: bool,
    /// List the events that it skipped, and why.
    #[arg(long, group = "how")]
    skipped: bool,
    /// List all events that it touched.
    #[arg(long, group = "how")]
    items: bool,
    #[command(flatten)]
    limit: ListLimit,
}

pub(super) async fn list(ctx: &CommandContext, limit: &ListLimit) -> anyhow::Result<Outcome> {
    let (query, when_empty) = (Query::default(), "There is no bulk job.");
    List { path: &["jobs"], query, columns: JOBS, when_empty }.show(ctx, limit).await
}

pub(super) async fn run(ctx: &CommandContext, args: JobArgs) -> anyhow::Result<Outcome> {
    let seq = args.seq.to_string();
    if args.follow {
        return follow(ctx, &seq).await;
    }
    if args.skipped || args.items {
        return items(ctx, &seq, args.skipped.then_some(true), &args.limit).await;
    }
    let raw = match args.cancel {
        true => ctx.client.send(Method::POST, &["jobs", &seq, "cancel"], None).await?,
        false => ctx.client.get(&["jobs", &seq], &Query::default()).await?,
    };
    ctx.print_response(&raw, |job| ctx.print_fields(JOB, job))?;
    Ok(Outcome::Done)
}

async fn items(
    ctx: &CommandContext,
    seq: &str,
    skipped: Option<bool>,
    limit: &ListLimit,
) -> anyhow::Result<Outcome> {
    let query = Query::default().and("skipped", skipped);
    let when_empty = "No event of this job matches.";
    let list = List { path: &["jobs", seq, "items"], query, columns: ITEMS, when_empty };
    list.show(ctx, limit).await
}

/// Shows a job's progress until it has ended, then its result.
pub(super) async fn follow(ctx: &CommandContext, seq: &str) -> anyhow::Result<Outcome> {
    ctx.remark(&format!("Job {seq} runs in the service; Ctrl-C leaves it running."));
    let bar = ProgressBar::new(0);
    // The template is a constant; should it ever be wrong, the default will do.
    bar.set_style(
        ProgressStyle::with_template(PROGRESS_STYLE)
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let raw = loop {
        let raw = ctx.client.get(&["jobs", seq], &Query::default()).await?;
        let job: Value = serde_json::from_str(&raw)?;
        let number = |name: &str| job[name].as_u64().unwrap_or(0);
        let so_far = number("done") + number("skipped");
        bar.set_length(number("expected").max(so_far));
        bar.set_position(so_far);
        bar.set_message(format!("{} skipped", grouped(number("skipped"))));
        if matches!(job["state"].as_str(), Some("done" | "cancelled")) {
            break raw;
        }
        tokio::time::sleep(POLL_EVERY).await;
    };
    bar.finish_and_clear();
    show_result(ctx, &raw).await
}

/// Shows the result of a job that has ended: how many events were done, and which were skipped and why.
async fn show_result(ctx: &CommandContext, raw: &str) -> anyhow::Result<Outcome> {
    let job: Value = serde_json::from_str(raw)?;
    let number = |name: &str| job[name].as_u64().unwrap_or(0);
    let (seq, skipped) = (job["seq"].as_str().unwrap_or_default(), number("skipped"));
    ctx.print_response(raw, |_| {
        let cancelled = if job["state"] == "cancelled" { ", and was cancelled" } else { "" };
        let (done, skipped) = (grouped(number("done")), grouped(skipped));
        ctx.print_line(&format!("Job {seq} has done {done} and skipped {skipped}{cancelled}."))
    })?;
    if skipped > 0 && !ctx.json {
        items(ctx, seq, Some(true), &ListLimit::first(SHOWN)).await?;
        ctx.remark(&format!(
            "`stockloop admin job {seq} --skipped --all` lists all skipped events."
        ));
    }
    Ok(match (job["state"].as_str(), skipped) {
        (Some("cancelled"), _) => Outcome::NotDone,
        (_, 0) => Outcome::Done,
        _ => Outcome::PartlyDone,
    })
}
