//! `consumers`: who reads a service's events, and who is waited for.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::Column;

const CONSUMERS: &[Column] = &[
    Column::text("NAME", "name"),
    Column::text("STATE", "state"),
    Column::text("REQUIRED", "required"),
    Column::number("WAITING", "waiting"),
    Column::number("BEHIND S", "behind_seconds"),
    Column::number("FAILED", "failed"),
    Column::number("SILENT", "silent_partitions"),
    Column::time("SINCE (UTC)", "registered_at"),
    Column::text("BY", "registered_by"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin consumers
  stockloop admin consumers add reports --reason 'the reports read along now'
  stockloop admin consumers add search-service --required --reason 'customers search the copy'
  stockloop admin consumers watch search-service --reason 'it is being moved'
  stockloop admin consumers retire search-service --reason 'it is switched off'

An event is PROCESSED once every required consumer has answered it; a watched one is never waited
for. Where a consumer can be asked for a verification stands in the settings: consumers.NAME.url.
The one that kafka.outbound_consumer names is required from the start.")]
pub(super) struct ConsumersArgs {
    #[command(subcommand)]
    command: Option<ConsumersCommand>,
}

#[derive(Subcommand)]
enum ConsumersCommand {
    /// List them.
    List,
    /// Register one, or one anew that was retired.
    Add {
        #[command(flatten)]
        change: Change,
        /// Let events wait for its answers, from the next one on; else it is only watched.
        #[arg(long)]
        required: bool,
    },
    /// Let events wait for its answers, from the next one on.
    Require(Change),
    /// Wait for it no more; what waited for it alone is settled.
    Watch(Change),
    /// Expect nothing of it any more; what waited for it alone is settled.
    Retire(Change),
}

#[derive(Args)]
struct Change {
    /// What it calls itself in its answers.
    name: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) async fn run(ctx: &CommandContext, args: ConsumersArgs) -> anyhow::Result<Outcome> {
    match args.command.unwrap_or(ConsumersCommand::List) {
        ConsumersCommand::List => list(ctx).await,
        ConsumersCommand::Add { change: Change { name, reason }, required } => {
            let body = json!({ "name": name, "required": required, "reason": reason });
            let raw = ctx.client.send(Method::POST, &["consumers"], Some(&body)).await?;
            ctx.print_done(&raw, &format!("{name:?} is a consumer now."))?;
            Ok(Outcome::Done)
        }
        ConsumersCommand::Require(change) => set_role(ctx, &change, true).await,
        ConsumersCommand::Watch(change) => set_role(ctx, &change, false).await,
        ConsumersCommand::Retire(Change { name, reason }) => {
            let path = ["consumers", &name, "retire"];
            let body = json!({ "reason": reason });
            let raw = ctx.client.send(Method::POST, &path, Some(&body)).await?;
            let done = format!("{name:?} is retired; what waited for it alone is being settled.");
            ctx.print_done(&raw, &done)?;
            Ok(Outcome::Done)
        }
    }
}

async fn set_role(
    ctx: &CommandContext,
    change: &Change,
    required: bool,
) -> anyhow::Result<Outcome> {
    let Change { name, reason } = change;
    let body = json!({ "required": required, "reason": reason });
    let raw = ctx.client.send(Method::POST, &["consumers", name, "role"], Some(&body)).await?;
    let role = if required { "required" } else { "watched" };
    ctx.print_done(&raw, &format!("{name:?} is {role} now."))?;
    Ok(Outcome::Done)
}

async fn list(ctx: &CommandContext) -> anyhow::Result<Outcome> {
    let (query, when_empty) = (Query::default(), "There is no consumer.");
    let list = List { path: &["consumers"], query, columns: CONSUMERS, when_empty };
    list.show(ctx, &ListLimit::first(100)).await
}
