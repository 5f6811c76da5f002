//! `pause`, `resume` and `relay`: what is sent now, and by which instances.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::{Column, printable};

/// Paused keys that are shown below the relay's state.
const SHOWN: usize = 50;

const RELAY: &[Column] = &[
    Column::text("paused since", "paused.since"),
    Column::text("by", "paused.by"),
    Column::text("reason", "paused.reason"),
    Column::text("paused keys", "keys_paused"),
    Column::text("slot of the log", "log.slot"),
    Column::text("its state", "log.wal_status"),
    Column::number("log kept for it, bytes", "log.kept_bytes"),
    Column::number("bytes that it may grow by", "log.bytes_left"),
];

const INSTANCES: &[Column] = &[
    Column::text("INSTANCE", "owner"),
    Column::number("SHARDS", "shards"),
    Column::time("LEASE UNTIL (UTC)", "expires_at"),
];

const RECEIVING: &[Column] = &[
    Column::text("RECEIVES", "consumer"),
    Column::text("FROM", "topic"),
    Column::text("STATE", "state"),
    Column::time("SINCE (UTC)", "since"),
    Column::text("PROBLEM", "problem"),
    Column::text("WHAT TO DO", "advice"),
];

const TOPICS: &[Column] = &[
    Column::text("WRITES TO", "topic"),
    Column::number("PARTITIONS", "partitions"),
    Column::list("WHAT DOES NOT FIT", "faults"),
];

const PAUSES: &[Column] = &[
    Column::text("KEY", "key"),
    Column::time("SINCE (UTC)", "since"),
    Column::text("BY", "by"),
    Column::text("REASON", "reason"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin pause TEA --reason 'the shelf is being counted'
  stockloop admin pause --reason 'order-service is being moved'

Changes are still accepted, and their events wait as PENDING; what was sent already is still answered. Where another
program sends events for the first time (outbox.relay = \"external\"), only what is sent again waits.")]
pub(super) struct PauseArgs {
    /// The SKU or the order's id; without it, everything.
    key: Option<String>,
    /// Why; it is shown while it is paused.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args)]
pub(super) struct ResumeArgs {
    /// The SKU or the order's id; without it, everything but the keys that were paused one by one.
    key: Option<String>,
}

pub(super) async fn pause(ctx: &CommandContext, args: PauseArgs) -> anyhow::Result<Outcome> {
    let body = json!({ "reason": args.reason });
    let path = pause_path(args.key.as_deref());
    let raw = ctx.client.send(Method::PUT, &path, Some(&body)).await?;
    ctx.print_done(&raw, &format!("{} is paused.", subject(args.key.as_deref())))?;
    let paused: Value = serde_json::from_str(&raw)?;
    if let Some(warning) = paused["warning"].as_str() {
        ctx.remark(&format!("But {}.", printable(warning)));
    }
    Ok(Outcome::Done)
}

pub(super) async fn resume(ctx: &CommandContext, args: ResumeArgs) -> anyhow::Result<Outcome> {
    let raw = ctx.client.send(Method::DELETE, &pause_path(args.key.as_deref()), None).await?;
    ctx.print_done(&raw, &format!("{} is resumed.", subject(args.key.as_deref())))?;
    Ok(Outcome::Done)
}

pub(super) async fn show(ctx: &CommandContext) -> anyhow::Result<Outcome> {
    let raw = ctx.client.get(&["relay"], &Query::default()).await?;
    ctx.print_response(&raw, |relay| {
        match (relay["paused"].is_null(), relay["external"] == true) {
            (true, false) => ctx.print_line("The relay sends.")?,
            (true, true) => ctx.print_line(
                "Another program sends events for the first time; the relay sends them again.",
            )?,
            (false, true) => ctx.print_line(
                "Another program sends events for the first time, in spite of the pause.",
            )?,
            (false, false) => {}
        }
        ctx.print_fields(RELAY, relay)?;
        match relay["instances"].as_array() {
            Some(instances) if !instances.is_empty() => ctx.print_table(INSTANCES, instances, true),
            _ => ctx.print_line("No instance holds a lease."),
        }?;
        for (columns, name) in [(RECEIVING, "receiving"), (TOPICS, "topics")] {
            match relay[name].as_array() {
                Some(rows) if !rows.is_empty() => ctx.print_table(columns, rows, true)?,
                _ => {}
            }
        }
        Ok(())
    })?;
    if ctx.json {
        return Ok(Outcome::Done);
    }
    let (query, when_empty) = (Query::default(), "No single key is paused.");
    let list = List { path: &["pauses"], query, columns: PAUSES, when_empty };
    list.show(ctx, &ListLimit::first(SHOWN)).await
}

fn pause_path(key: Option<&str>) -> [&str; 2] {
    match key {
        Some(key) => ["pauses", key],
        None => ["relay", "pause"],
    }
}

fn subject(key: Option<&str>) -> String {
    key.map_or_else(|| "The relay".to_owned(), |key| format!("{key:?}"))
}
