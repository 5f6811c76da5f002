//! `jobs` and `job`: actions on many events, and what became of each.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::Ending;
use super::bulk::{follow, grouped};
use super::client::Query;
use super::listing::{List, Window};
use super::session::Session;
use super::table::Column;

/// Skipped events that a result lists.
const SHOWN: usize = 20;

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
    Column::text("attempts more", "attempts"),
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
    /// Its number.
    seq: u64,
    /// Follow it to its end; the exit code is 3 if it skipped some.
    #[arg(long, group = "how")]
    follow: bool,
    /// End it before its time; what it has done stays done.
    #[arg(long, group = "how")]
    cancel: bool,
    /// List the events that it skipped, and why.
    #[arg(long, group = "how")]
    skipped: bool,
    /// List all events that it touched.
    #[arg(long, group = "how")]
    items: bool,
    #[command(flatten)]
    window: Window,
}

pub(super) async fn list(at: &Session, window: &Window) -> anyhow::Result<Ending> {
    let (query, none) = (Query::default(), "Nobody has acted on many events at once yet.");
    List { path: &["jobs"], query, columns: JOBS, none }.show(at, window).await
}

pub(super) async fn run(at: &Session, args: JobArgs) -> anyhow::Result<Ending> {
    let seq = args.seq.to_string();
    if args.follow {
        return follow(at, &seq).await;
    }
    if args.skipped || args.items {
        return items(at, &seq, args.skipped.then_some(true), &args.window).await;
    }
    let raw = match args.cancel {
        true => at.client.send(Method::POST, &["jobs", &seq, "cancel"], None).await?,
        false => at.client.get(&["jobs", &seq], &Query::default()).await?,
    };
    at.answer(&raw, |job| at.say_parts(JOB, job))?;
    Ok(Ending::Done)
}

async fn items(
    at: &Session,
    seq: &str,
    skipped: Option<bool>,
    window: &Window,
) -> anyhow::Result<Ending> {
    let query = Query::default().and("skipped", skipped);
    let none = "There is none.";
    List { path: &["jobs", seq, "items"], query, columns: ITEMS, none }.show(at, window).await
}

/// What came of a job that has ended: how many were done, and which were skipped and why.
pub(super) async fn result(at: &Session, raw: &str) -> anyhow::Result<Ending> {
    let job: Value = serde_json::from_str(raw)?;
    let number = |name: &str| job[name].as_u64().unwrap_or(0);
    let (seq, skipped) = (job["seq"].as_str().unwrap_or_default(), number("skipped"));
    at.answer(raw, |_| {
        let cancelled =
            if job["state"] == "cancelled" { ", and was ended before its time" } else { "" };
        let (done, skipped) = (grouped(number("done")), grouped(skipped));
        at.say(&format!("Job {seq} has done {done} and skipped {skipped}{cancelled}."))
    })?;
    if skipped > 0 && !at.json {
        items(at, seq, Some(true), &Window::first(SHOWN)).await?;
        at.remark(&format!(
            "`stockloop admin job {seq} --skipped --all` lists all that it skipped."
        ));
    }
    Ok(match (job["state"].as_str(), skipped) {
        (Some("cancelled"), _) => Ending::NotDone,
        (_, 0) => Ending::Done,
        _ => Ending::Partly,
    })
}
