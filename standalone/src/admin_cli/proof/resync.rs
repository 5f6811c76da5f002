//! `resync`: sends the states of keys again.

use clap::Args;
use serde_json::{Value, json};

use super::super::confirm::confirmed;
use super::super::context::CommandContext;
use super::super::filter::Moment;
use super::super::outcome::Outcome;
use super::super::table::{grouped, printable};
use super::Connection;
use super::follow::{self, count, keys, states};
use super::verify::verification;

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop resync TEA MUG                  these keys, without a question
  stockloop resync --prefix GARDEN-         all keys that begin so
  stockloop resync --changed-since 2h       all that changed in the last two hours
  stockloop resync --all --reason 'the copy came back from an older backup'

The states as the source has them now are sent again, as events like any other: a copy takes what
is newer than what it has. Changes that happen meanwhile don't queue behind it. `stockloop repair`
sends only what a verification found to differ, also where the copy is ahead; `stockloop verify`
tells afterwards how it is.

Exit codes:
  0  the states of all these keys were sent
  1  failed or refused, or the answer was no, or the job was cancelled
  2  not understood, or a question without a terminal to answer it on
  3  some keys were skipped; the command says why")]
pub(crate) struct ResyncArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(flatten)]
    selection: KeySelection,
    /// Why, for the job and the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Don't ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

/// Which keys: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct KeySelection {
    /// These; 1,000 at the most.
    #[arg(value_name = "SKU")]
    skus: Vec<String>,
    /// All that there are, removed ones too.
    #[arg(long)]
    all: bool,
    /// All that begin with this.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// All that changed since: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    changed_since: Option<Moment>,
}

pub(super) async fn run(ctx: &CommandContext, args: &ResyncArgs) -> anyhow::Result<Outcome> {
    let (selection, question) = selected(ctx, &args.selection).await;
    if let Some(question) = question
        && !confirmed(&question, args.yes)?
    {
        ctx.remark("Nothing was done.");
        return Ok(Outcome::NotDone);
    }
    let job = json!({ "kind": "resync", "selection": selection, "reason": args.reason });
    result(ctx, &follow::started(ctx, &job).await?).await
}

/// The selection as the service reads it, and what to ask before; named keys are not asked about.
async fn selected(ctx: &CommandContext, selection: &KeySelection) -> (Value, Option<String>) {
    let question = |which: &str| Some(format!("Send the states of all keys{which} again?"));
    if selection.all {
        // Only for the question: how many keys there were the last time.
        let last = verification(ctx, "latest").await.ok();
        let about = last
            .map(|last| format!(" ({} at the last verification)", grouped(count(&last, "keys"))));
        return (json!({ "where": {} }), question(&about.unwrap_or_default()));
    }
    if let Some(prefix) = &selection.prefix {
        let which = format!(" that begin with {}", printable(prefix));
        return (json!({ "where": { "prefix": prefix } }), question(&which));
    }
    if let Some(moment) = selection.changed_since {
        let since = moment.seen_from(ctx.now());
        let which = format!(" that changed since {since}");
        return (json!({ "where": { "changed_since": since } }), question(&which));
    }
    (json!({ "keys": selection.skus }), None)
}

/// Tells what a job came to that has ended.
pub(super) async fn result(ctx: &CommandContext, job: &Value) -> anyhow::Result<Outcome> {
    let (seq, skipped) = (job["seq"].as_str().unwrap_or_default(), count(job, "skipped"));
    let cancelled = job["state"] == "cancelled";
    ctx.print_response(&job.to_string(), |_| {
        let cancelled = if cancelled { ", and was cancelled" } else { "" };
        let done = count(job, "done");
        let (sent, skipped) = match job["kind"] == "replay" {
            true => (states(done), keys(skipped)),
            false => (format!("the states of {}", keys(done)), grouped(skipped)),
        };
        let seq = printable(seq);
        ctx.print_line(&format!("Job {seq} has sent {sent} and skipped {skipped}{cancelled}."))
    })?;
    if skipped > 0 && !ctx.json {
        follow::skipped(ctx, seq).await?;
    }
    Ok(match (cancelled, skipped) {
        (true, _) => Outcome::NotDone,
        (false, 0) => Outcome::Done,
        (false, _) => Outcome::PartlyDone,
    })
}
