//! `events`, `event` and `errors`: finding an event, and what happened to it.

use clap::Args;
use serde_json::Value;

use super::client::Query;
use super::context::CommandContext;
use super::filter::{EventFilter, FILTER_HEADING};
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::{Column, printable};

/// An event in a list.
pub(super) const EVENTS: &[Column] = &[
    Column::text("EVENT", "id"),
    Column::text("STATUS", "status"),
    Column::text("KEY", "key"),
    Column::number("VERSION", "version"),
    Column::number("ATTEMPT", "attempt"),
    Column::age("AGE", "created_at"),
    Column::text("LAST ERROR", "last_error"),
];

const EVENT: &[Column] = &[
    Column::text("event", "id"),
    Column::text("type", "type"),
    Column::text("key", "key"),
    Column::text("version", "version"),
    Column::text("epoch", "epoch"),
    Column::text("status", "status"),
    Column::text("outcome", "outcome"),
    Column::text("detail", "detail"),
    Column::text("attempts", "attempt"),
    Column::text("attempt limit", "attempt_limit"),
    Column::text("created", "created_at"),
    Column::text("sent", "sent_at"),
    Column::text("due", "due_at"),
    Column::text("settled", "settled_at"),
    Column::text("applied", "processed_at"),
    Column::text("by", "consumer"),
    Column::text("copy's version", "copy_version"),
    Column::text("resolved", "resolved_at"),
    Column::text("last error", "last_error"),
    Column::text("error class", "error_class"),
    Column::text("trace", "trace_id"),
    Column::text("partition", "partition"),
];

const TIMELINE: &[Column] = &[
    Column::time("AT (UTC)", "at"),
    Column::number("ATTEMPT", "attempt"),
    Column::text("OUTCOME", "outcome"),
    Column::text("BY", "by"),
    Column::text("JOB", "job"),
    Column::text("DETAIL", "detail"),
    Column::text("REASON", "reason"),
    Column::text("ERROR", "error"),
];

const PEER: &[Column] = &[
    Column::text("reachable", "reachable"),
    Column::text("service", "service"),
    Column::text("unreachable because", "reason"),
    Column::text("answered", "inbox.outcome"),
    Column::text("detail", "inbox.detail"),
    Column::text("version", "inbox.version"),
    Column::text("at", "inbox.processed_at"),
    Column::text("in quarantine since", "quarantine.since"),
    Column::text("because", "quarantine.reason"),
    Column::list("dead letters", "dead_letters"),
    Column::text("copy's epoch", "copy.epoch"),
    Column::text("copy's version", "copy.version"),
];

const ERRORS: &[Column] = &[
    Column::number("EVENTS", "count"),
    Column::age("NEWEST", "newest_at"),
    Column::text("FOR EXAMPLE", "example_event"),
    Column::text("CLASS", "class"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin events --status EXHAUSTED
  stockloop admin events --key TEA --all
  stockloop admin events --status PENDING --older-than 10m
  stockloop admin events --q TEXT                  an event's id, a SKU or an order's id
  stockloop admin events --status EXHAUSTED --json | jq -r .id")]
pub(super) struct EventsArgs {
    #[command(flatten)]
    filter: EventFilter,
    /// Covered by this bulk job.
    #[arg(long, value_name = "SEQ", help_heading = FILTER_HEADING)]
    job: Option<u64>,
    #[command(flatten)]
    limit: ListLimit,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin event ID --peer
  stockloop admin event ID --json | jq .history")]
pub(super) struct EventArgs {
    /// The event's id.
    id: String,
    /// Also ask the services that receive it what they know of it.
    #[arg(long)]
    peer: bool,
}

pub(super) async fn list(ctx: &CommandContext, args: EventsArgs) -> anyhow::Result<Outcome> {
    let query = args.filter.query(ctx.now()).and("job", args.job);
    let when_empty = "No event matches.";
    List { path: &["events"], query, columns: EVENTS, when_empty }.show(ctx, &args.limit).await
}

pub(super) async fn errors(ctx: &CommandContext) -> anyhow::Result<Outcome> {
    let (query, when_empty) = (Query::default(), "No event waits for a person.");
    let list = List { path: &["events", "classes"], query, columns: ERRORS, when_empty };
    list.show_whole(ctx).await
}

/// For programs, the event on one line and, if it was asked for, what each consumer says of it on a line of its own.
pub(super) async fn show(ctx: &CommandContext, args: EventArgs) -> anyhow::Result<Outcome> {
    let raw = ctx.client.get(&["events", &args.id], &Query::default()).await?;
    ctx.print_response(&raw, |event| show_event(ctx, event))?;
    if args.peer {
        show_peers(ctx, &args.id).await?;
    }
    Ok(Outcome::Done)
}

async fn show_peers(ctx: &CommandContext, id: &str) -> anyhow::Result<()> {
    let peers = ctx.client.page(&["events", id, "peers"], &Query::default()).await?;
    for peer in peers.items {
        ctx.print_response(peer.get(), |peer| {
            let consumer = printable(peer["consumer"].as_str().unwrap_or_default());
            ctx.print_line(&format!("\nWhat {consumer} says:"))?;
            ctx.print_fields(PEER, peer)
        })?;
    }
    Ok(())
}

fn show_event(ctx: &CommandContext, event: &Value) -> std::io::Result<()> {
    ctx.print_fields(EVENT, event)?;
    if let Some(history) = event["history"].as_array().filter(|lines| !lines.is_empty()) {
        ctx.print_line("\nWhat happened:")?;
        let is_told = |column: &&Column| history.iter().any(|line| column.is_in(line));
        let columns: Vec<Column> = TIMELINE.iter().filter(is_told).copied().collect();
        ctx.print_table(&columns, history, true)?;
    }
    ctx.print_line("\nPayload:")?;
    let payload = format!("{:#}", event["payload"]);
    payload.lines().try_for_each(|line| ctx.print_line(&printable(line)))
}
