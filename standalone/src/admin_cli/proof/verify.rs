//! `verify`: whether the copy has what its source has.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::super::client::Query;
use super::super::context::CommandContext;
use super::super::outcome::Outcome;
use super::super::table::printable;
use super::{Connection, follow};

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop verify                    compare all keys now, and show what differs
  stockloop verify --consumer NAME    the copy of another consumer than the first
  stockloop verify --share 0.1        work a tenth of the time: it takes longer
  stockloop verify --last --all       all differences of the verification that ended last
  stockloop verify --json | jq .key   for programs: one line per difference
  stockloop verify || mail-somebody   from cron: the exit code says how it is

Both services read their own databases only, and changes may flow meanwhile: a key counts as
different only if no event is on its way that would mend it. The answer holds for all that was
committed before the verification started. It runs in the service that owns the keys; one that the
schedule has under way gives way to yours. `stockloop repair` mends what differs.

The address and the token are those of `stockloop admin`, by default STOCKLOOP_ADMIN_URL and
STOCKLOOP_ADMIN_TOKEN.

Exit codes:
  0  equal
  2  not understood
  3  different
  4  not known: the copy gave no answer, the verification was cancelled, or the service can't be
     reached or refused")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Whose copy; left out, that of the consumer that the settings name first.
    #[arg(long, value_name = "NAME", conflicts_with = "cancel")]
    consumer: Option<String>,
    /// How much of the time it may work, 0.001 to 1.
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["last", "cancel"])]
    share: Option<f64>,
    /// Start none: show the newest one of all keys that has ended.
    #[arg(long, conflicts_with = "cancel")]
    last: bool,
    /// Cancel the verification of this number.
    #[arg(long, value_name = "N")]
    cancel: Option<u64>,
    /// Show all differences, not only the first 20.
    #[arg(long, conflicts_with = "cancel")]
    all: bool,
}

pub(super) async fn run(ctx: &CommandContext, args: &VerifyArgs) -> anyhow::Result<Outcome> {
    if let Some(seq) = args.cancel {
        return cancel(ctx, &seq.to_string()).await;
    }
    let run = match args.last {
        true => latest(ctx, args.consumer.as_deref()).await?,
        false => start(ctx, args).await?,
    };
    let outcome = follow::show_result(ctx, &run, args.all).await?;
    if outcome == Outcome::Different {
        let seq = run["seq"].as_str().map(printable).unwrap_or_default();
        ctx.remark(&format!(
            "`stockloop repair --verification {seq}` sends the states of these keys again."
        ));
    }
    Ok(outcome)
}

/// One verification, as the service tells of it.
pub(super) async fn verification(ctx: &CommandContext, seq: &str) -> anyhow::Result<Value> {
    let raw = ctx.client.get(&["verifications", seq], &Query::default()).await?;
    Ok(serde_json::from_str(&raw)?)
}

/// The newest one of all keys (of one consumer's copy) that has ended.
async fn latest(ctx: &CommandContext, consumer: Option<&str>) -> anyhow::Result<Value> {
    let query = Query::default().and("consumer", consumer);
    let raw = ctx.client.get(&["verifications", "latest"], &query).await?;
    Ok(serde_json::from_str(&raw)?)
}

async fn start(ctx: &CommandContext, args: &VerifyArgs) -> anyhow::Result<Value> {
    let body = json!({ "share": args.share, "consumer": args.consumer });
    let raw = ctx.client.send(Method::POST, &["verifications"], Some(&body)).await?;
    let started: Value = serde_json::from_str(&raw)?;
    let seq = started["seq"].as_str().unwrap_or_default();
    ctx.remark(&format!(
        "Verification {0} runs in the service; Ctrl-C leaves it running, and `stockloop verify --cancel {0}` ends it.",
        printable(seq)
    ));
    // Only for the bar: how many keys there were the last time.
    let last = latest(ctx, args.consumer.as_deref()).await;
    let keys = last.ok().map(|last| follow::count(&last, "keys"));
    follow::verification(ctx, seq, keys.filter(|keys| *keys > 0)).await
}

async fn cancel(ctx: &CommandContext, seq: &str) -> anyhow::Result<Outcome> {
    let raw = ctx.client.send(Method::POST, &["verifications", seq, "cancel"], None).await?;
    ctx.print_done(&raw, &format!("Verification {seq} is cancelled."))?;
    Ok(Outcome::Done)
}
