//! `quarantine`: keys whose events this service refuses until they are released.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::Column;

const KEYS: &[Column] = &[
    Column::text("KEY", "key"),
    Column::time("SINCE (UTC)", "since"),
    Column::text("BY", "by"),
    Column::text("REASON", "reason"),
];

#[derive(Args)]
#[command(after_help = "\
Examples (a product's events are refused by the service that receives them):
  stockloop admin --order quarantine put TEA --reason 'the shelf is being counted'
  stockloop admin --order quarantine release TEA")]
pub(super) struct QuarantineArgs {
    #[command(flatten)]
    limit: ListLimit,
    #[command(subcommand)]
    command: Option<QuarantineCommand>,
}

#[derive(Subcommand)]
enum QuarantineCommand {
    /// List them.
    List(ListLimit),
    /// Refuse a key's events from now on.
    Put {
        /// The SKU, or the order's id.
        key: String,
        /// Why; the sender's alert shows it.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Accept a key's events again. Those that gave up meanwhile have to be retried.
    Release {
        /// The SKU, or the order's id.
        key: String,
    },
}

pub(super) async fn run(ctx: &CommandContext, args: QuarantineArgs) -> anyhow::Result<Outcome> {
    match args.command {
        None => list(ctx, &args.limit).await,
        Some(QuarantineCommand::List(limit)) => list(ctx, &limit).await,
        Some(QuarantineCommand::Put { key, reason }) => {
            let body = json!({ "reason": reason });
            let raw = ctx.client.send(Method::PUT, &["quarantine", &key], Some(&body)).await?;
            ctx.print_done(&raw, &format!("{key:?} is in quarantine: its events are refused."))?;
            Ok(Outcome::Done)
        }
        Some(QuarantineCommand::Release { key }) => {
            let raw = ctx.client.send(Method::DELETE, &["quarantine", &key], None).await?;
            ctx.print_done(
                &raw,
                &format!("{key:?} is released; retry at the sender what gave up meanwhile."),
            )?;
            Ok(Outcome::Done)
        }
    }
}

async fn list(ctx: &CommandContext, limit: &ListLimit) -> anyhow::Result<Outcome> {
    let (query, when_empty) = (Query::default(), "No key is in quarantine.");
    List { path: &["quarantine"], query, columns: KEYS, when_empty }.show(ctx, limit).await
}
