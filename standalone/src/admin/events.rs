//! `events`, `event` and `errors`: finding the one that hurts, and what happened to it.

use clap::Args;
use serde_json::Value;

use super::Ending;
use super::client::Query;
use super::filter::{EventFilter, WHICH};
use super::listing::{List, Window};
use super::session::Session;
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
    Column::text("of at the most", "attempt_limit"),
    Column::text("created", "created_at"),
    Column::text("sent", "sent_at"),
    Column::text("due", "due_at"),
    Column::text("settled", "settled_at"),
    Column::text("applied", "processed_at"),
    Column::text("by", "consumer"),
    Column::text("version of copy", "copy_version"),
    Column::text("resolved", "resolved_at"),
    Column::text("last error", "last_error"),
    Column::text("kind of error", "error_class"),
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
    Column::text("why not", "reason"),
    Column::text("answered", "inbox.outcome"),
    Column::text("detail", "inbox.detail"),
    Column::text("version", "inbox.version"),
    Column::text("at", "inbox.processed_at"),
    Column::text("in quarantine since", "quarantine.since"),
    Column::text("because", "quarantine.reason"),
    Column::list("dead letters", "dead_letters"),
    Column::text("epoch of copy", "copy.epoch"),
    Column::text("version of copy", "copy.version"),
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
    /// That this job touched.
    #[arg(long, value_name = "SEQ", help_heading = WHICH)]
    job: Option<u64>,
    #[command(flatten)]
    window: Window,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin event ID --peer
  stockloop admin event ID --json | jq .history")]
pub(super) struct EventArgs {
    /// The event's id.
    id: String,
    /// Ask the other service about it, too.
    #[arg(long)]
    peer: bool,
}

pub(super) async fn list(at: &Session, args: EventsArgs) -> anyhow::Result<Ending> {
    let query = args.filter.query(at.now()).and("job", args.job);
    let none = "No event matches.";
    List { path: &["events"], query, columns: EVENTS, none }.show(at, &args.window).await
}

pub(super) async fn errors(at: &Session) -> anyhow::Result<Ending> {
    let query = Query::default();
    let none = "No event waits for a person.";
    let list = List { path: &["events", "classes"], query, columns: ERRORS, none };
    list.show_whole(at).await
}

/// For programs, the event on one line and, if it was asked for, the other service's view on the next.
pub(super) async fn show(at: &Session, args: EventArgs) -> anyhow::Result<Ending> {
    let raw = at.client.get(&["events", &args.id], &Query::default()).await?;
    at.answer(&raw, |event| show_event(at, event))?;
    if args.peer {
        let raw = at.client.get(&["events", &args.id, "peer"], &Query::default()).await?;
        at.answer(&raw, |peer| {
            at.say("\nWhat the other service says:")?;
            at.say_parts(PEER, peer)
        })?;
    }
    Ok(Ending::Done)
}

fn show_event(at: &Session, event: &Value) -> std::io::Result<()> {
    at.say_parts(EVENT, event)?;
    if let Some(history) = event["history"].as_array().filter(|lines| !lines.is_empty()) {
        at.say("\nWhat happened:")?;
        let told = |column: &&Column| history.iter().any(|line| column.is_in(line));
        let columns: Vec<Column> = TIMELINE.iter().filter(told).copied().collect();
        at.say_table(&columns, history, true)?;
    }
    at.say("\nPayload:")?;
    let payload = format!("{:#}", event["payload"]);
    payload.lines().try_for_each(|line| at.say(&printable(line)))
}
