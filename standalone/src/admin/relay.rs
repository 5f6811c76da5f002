//! `pause`, `resume` and `relay`: what is sent now, and by whom.

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::Ending;
use super::client::Query;
use super::listing::{List, Window};
use super::session::Session;
use super::table::Column;

/// Paused keys that are shown beside the relay's state.
const SHOWN: usize = 50;

const RELAY: &[Column] = &[
    Column::text("paused since", "paused.since"),
    Column::text("by", "paused.by"),
    Column::text("reason", "paused.reason"),
    Column::text("paused keys", "keys_paused"),
];

const INSTANCES: &[Column] = &[
    Column::text("INSTANCE", "owner"),
    Column::number("SHARDS", "shards"),
    Column::time("LEASE UNTIL (UTC)", "expires_at"),
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

Changes are taken as always, and their events wait as PENDING; what was sent already is still answered.")]
pub(super) struct PauseArgs {
    /// The SKU, or the order's id; everything if it is left out.
    key: Option<String>,
    /// Why, for whoever finds it paused.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args)]
pub(super) struct ResumeArgs {
    /// The SKU, or the order's id; everything if it is left out (but keys that are paused by themselves stay so).
    key: Option<String>,
}

pub(super) async fn pause(at: &Session, args: PauseArgs) -> anyhow::Result<Ending> {
    let body = json!({ "reason": args.reason });
    let path = place(args.key.as_deref());
    let raw = at.client.send(Method::PUT, &path, Some(&body)).await?;
    at.done(&raw, &format!("{} is paused.", subject(args.key.as_deref())))?;
    Ok(Ending::Done)
}

pub(super) async fn resume(at: &Session, args: ResumeArgs) -> anyhow::Result<Ending> {
    let raw = at.client.send(Method::DELETE, &place(args.key.as_deref()), None).await?;
    at.done(&raw, &format!("{} goes on.", subject(args.key.as_deref())))?;
    Ok(Ending::Done)
}

pub(super) async fn show(at: &Session) -> anyhow::Result<Ending> {
    let raw = at.client.get(&["relay"], &Query::default()).await?;
    at.answer(&raw, |relay| {
        if relay["paused"].is_null() {
            at.say("The relay sends.")?;
        }
        at.say_parts(RELAY, relay)?;
        match relay["instances"].as_array() {
            Some(instances) if !instances.is_empty() => at.say_table(INSTANCES, instances, true),
            _ => at.say("No instance holds a lease."),
        }
    })?;
    if at.json {
        return Ok(Ending::Done);
    }
    let (query, none) = (Query::default(), "No key is paused by itself.");
    let list = List { path: &["pauses"], query, columns: PAUSES, none };
    list.show(at, &Window::first(SHOWN)).await
}

fn place(key: Option<&str>) -> [&str; 2] {
    match key {
        Some(key) => ["pauses", key],
        None => ["relay", "pause"],
    }
}

fn subject(key: Option<&str>) -> String {
    key.map_or_else(|| "The relay".to_owned(), |key| format!("{key:?}"))
}
