//! `quarantine`: keys whose events this service refuses until they are released.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::Ending;
use super::client::Query;
use super::listing::{List, Window};
use super::session::Session;
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
    window: Window,
    #[command(subcommand)]
    command: Option<QuarantineCommand>,
}

#[derive(Subcommand)]
enum QuarantineCommand {
    /// List them.
    List(Window),
    /// Refuse a key's events from now on.
    Put {
        /// The SKU, or the order's id.
        key: String,
        /// Why; the sender's alert tells it.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Take a key's events again. Those that gave up meanwhile have to be retried.
    Release {
        /// The SKU, or the order's id.
        key: String,
    },
}

pub(super) async fn run(at: &Session, args: QuarantineArgs) -> anyhow::Result<Ending> {
    match args.command {
        None => list(at, &args.window).await,
        Some(QuarantineCommand::List(window)) => list(at, &window).await,
        Some(QuarantineCommand::Put { key, reason }) => {
            let body = json!({ "reason": reason });
            let raw = at.client.send(Method::PUT, &["quarantine", &key], Some(&body)).await?;
            at.done(&raw, &format!("{key:?} is in quarantine: its events are refused."))?;
            Ok(Ending::Done)
        }
        Some(QuarantineCommand::Release { key }) => {
            let raw = at.client.send(Method::DELETE, &["quarantine", &key], None).await?;
            at.done(
                &raw,
                &format!("{key:?} is released; retry at the sender what gave up meanwhile."),
            )?;
            Ok(Ending::Done)
        }
    }
}

async fn list(at: &Session, window: &Window) -> anyhow::Result<Ending> {
    let (query, none) = (Query::default(), "No key is in quarantine.");
    List { path: &["quarantine"], query, columns: KEYS, none }.show(at, window).await
}
