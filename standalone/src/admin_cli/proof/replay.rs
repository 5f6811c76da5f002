//! `replay`: sends the kept states of keys through the loop once more.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::super::confirm::confirmed;
use super::super::context::CommandContext;
use super::super::filter::Moment;
use super::super::outcome::Outcome;
use super::super::table::{grouped, printable};
use super::Connection;
use super::follow::{self, count, moment};
use super::resync;

/// Keys with a gone part that people are told of.
const SHOWN: usize = 10;

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop replay --consumer order-service --key TEA --key MUG
  stockloop replay --consumer order-service --key TEA --from-version 7
  stockloop replay --consumer order-service --since 2h --reason 'rebuilt its copy'

Each kept version goes out as a new event, oldest first, and each key ends with its present state. A
copy that has a state or a newer one answers `superseded` and stays as it is. First it shows what
would be sent and what is gone, and asks. `stockloop resync` sends present states only, which is
enough wherever the way to them does not matter.

Exit codes:
  0  all was sent
  1  failed or refused, or the answer was no, or the job was cancelled
  2  not understood, or a question without a terminal to answer it on
  3  some keys were skipped; the command says why")]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Who is to have the states; the other consumers get them, too, and answer that they have them.
    #[arg(long, value_name = "NAME")]
    consumer: String,
    #[command(flatten)]
    selection: KeptSelection,
    /// Only from this version on, of one key.
    #[arg(long, value_name = "N", requires = "key")]
    from_version: Option<i64>,
    /// Why, for the job, the audit log and the causes of the events.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Don't ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

/// Which states: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct KeptSelection {
    /// Those since then, of all keys that changed: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// All of this key; may be given up to 1,000 times.
    #[arg(long, value_name = "SKU")]
    key: Vec<String>,
}

pub(super) async fn run(ctx: &CommandContext, args: &ReplayArgs) -> anyhow::Result<Outcome> {
    let kept = selected(ctx, args);
    let path = ["resyncs", "replay-preview"];
    let raw = ctx.client.send(Method::POST, &path, Some(&kept)).await?;
    told(ctx, &serde_json::from_str(&raw)?);
    let question = format!("Send that again, for {}?", printable(&args.consumer));
    if !confirmed(&question, args.yes)? {
        ctx.remark("Nothing was done.");
        return Ok(Outcome::NotDone);
    }
    let job = json!({ "kind": "replay", "selection": { "kept": kept }, "reason": args.reason });
    resync::result(ctx, &follow::started(ctx, &job).await?).await
}

fn selected(ctx: &CommandContext, args: &ReplayArgs) -> Value {
    let mut kept = json!({ "consumer": args.consumer });
    match args.selection.since {
        Some(since) => kept["since"] = json!(since.seen_from(ctx.now())),
        None => kept["keys"] = json!(args.selection.key),
    }
    if let Some(version) = args.from_version {
        kept["from_version"] = json!(version);
    }
    kept
}

/// Tells people what would be sent, and what is gone.
fn told(ctx: &CommandContext, preview: &Value) {
    let more = if preview["more"] == true { " or more" } else { "" };
    let events = grouped(count(preview, "events"));
    match preview["from"].is_null() {
        true => ctx.remark("No event of that is kept; the present states would be sent."),
        false => ctx.remark(&format!(
            "{events}{more} kept events, from {} to {}; each key ends with its present state.",
            moment(preview, "from"),
            moment(preview, "to"),
        )),
    }
    if !preview["kept_from"].is_null() {
        let kept = moment(preview, "kept_from");
        ctx.remark(&format!("What was before {kept} is gone, of all keys."));
    }
    let gone = preview["gone"].as_array().map(Vec::as_slice).unwrap_or_default();
    for key in gone.iter().take(SHOWN) {
        let name = follow::told(key, "key");
        match key["kept_from_version"].as_i64() {
            Some(version) => ctx.remark(&format!("  {name}: kept from version {version} on")),
            None => ctx.remark(&format!("  {name}: none is kept")),
        }
    }
    if gone.len() > SHOWN {
        ctx.remark(&format!("  and {} more keys of which a part is gone", gone.len() - SHOWN));
    }
}
