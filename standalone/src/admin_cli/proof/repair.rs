//! `repair`: sends again what a verification found to differ, and verifies it.

use clap::Args;
use serde_json::{Value, json};

use super::super::client::Query;
use super::super::confirm::confirmed;
use super::super::context::CommandContext;
use super::super::outcome::Outcome;
use super::super::table::{grouped, printable};
use super::follow::{self, DIFFERENCES, count, keys, moment, told};
use super::verify::verification;
use super::{Connection, follow::show_result};

/// Differences that a preview shows.
const EXAMPLES: usize = 5;

/// The findings that a repair mends, and what they mean.
const KINDS: [(&str, &str); 5] = [
    ("missing", "missing in the copy"),
    ("unknown", "only in the copy"),
    ("older", "older in the copy"),
    ("newer", "newer in the copy"),
    ("content", "of the same version with other content"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop repair                                    what the last verification found
  stockloop repair --verification 7 --reason 'somebody wrote to the copy'
  stockloop repair --yes --json                       from a script: prints what still differs

The states of these keys as the source has them now are sent again, as events like any other;
nobody writes into the copy's database. Where the copy has a version that it should not have, the
source raises its own above it, and the content stays. Then these keys are verified again.

Exit codes:
  0  all of them are equal now, or there was nothing to repair
  1  nothing was done: the answer was no, or the job was cancelled
  2  not understood, or a question without a terminal to answer it on
  3  some still differ, or more differ than a verification lists
  4  not known: the service can't be reached or refused, or their events are still open")]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// What this verification found; by default, the newest one of all keys that has ended.
    #[arg(long, value_name = "N")]
    verification: Option<u64>,
    /// Why, for the job and the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Don't ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(ctx: &CommandContext, args: &RepairArgs) -> anyhow::Result<Outcome> {
    let asked = args.verification.map_or_else(|| "latest".to_owned(), |seq| seq.to_string());
    let found = verification(ctx, &asked).await?;
    if let Some(outcome) = needs_none(ctx, &found) {
        return Ok(outcome);
    }
    let differences = count(&found, "differences");
    preview(ctx, &found).await?;
    let question = format!("Send the states of {} again?", keys(differences));
    if !confirmed(&question, args.yes)? {
        ctx.remark("Nothing was done.");
        return Ok(Outcome::NotDone);
    }
    let job = json!({
        "kind": "repair", "selection": { "differences": found["seq"] }, "reason": args.reason,
        "expected": differences,
    });
    result(ctx, &follow::started(ctx, &job).await?).await
}

/// How it ends where there is nothing that could be repaired.
fn needs_none(ctx: &CommandContext, found: &Value) -> Option<Outcome> {
    let seq = told(found, "seq");
    if found["ended_at"].is_null() {
        eprintln!(
            "stockloop: verification {seq} is not at its end; wait for it, or end it with `stockloop verify --cancel \
             {seq}`"
        );
        return Some(Outcome::Unknown);
    }
    if found["cut"] == true {
        eprintln!(
            "stockloop: verification {seq} ended when it had found {} differences, and there may be more: `stockloop \
             resync --all` sends the states of all keys again.",
            grouped(count(found, "differences"))
        );
        return Some(Outcome::Different);
    }
    match (count(found, "differences"), found["state"].as_str()) {
        (0, Some("equal")) => {
            let at = moment(found, "ended_at");
            ctx.remark(&format!(
                "Nothing to repair: verification {seq} found no difference, {at}."
            ));
            Some(Outcome::Done)
        }
        (0, _) => {
            eprintln!(
                "stockloop: verification {seq} found nothing out; start another with `stockloop verify`"
            );
            Some(Outcome::Unknown)
        }
        _ => None,
    }
}

/// Says how many keys there are of which kind, and shows some.
async fn preview(ctx: &CommandContext, found: &Value) -> anyhow::Result<()> {
    let seq = found["seq"].as_str().unwrap_or_default();
    if ctx.json {
        return Ok(());
    }
    ctx.remark(&format!(
        "Verification {} of {} found {} that differ, {}:",
        printable(seq),
        told(found, "consumer"),
        keys(count(found, "differences")),
        moment(found, "ended_at"),
    ));
    for (kind, meaning) in KINDS {
        match count(&found["findings"], kind) {
            0 => {}
            there => ctx.remark(&format!("  {} {meaning}", grouped(there))),
        }
    }
    let query = Query::default().and("limit", Some(EXAMPLES));
    let examples = ctx.client.page(&["verifications", seq, "differences"], &query).await?.items;
    let examples: Vec<Value> =
        examples.iter().map(|one| serde_json::from_str(one.get())).collect::<Result<_, _>>()?;
    if !examples.is_empty() {
        ctx.print_table(DIFFERENCES, &examples, true)?;
    }
    Ok(())
}

/// What a job that has ended came to, by the verification that it ended with.
async fn result(ctx: &CommandContext, job: &Value) -> anyhow::Result<Outcome> {
    let (seq, skipped) = (job["seq"].as_str().unwrap_or_default(), count(job, "skipped"));
    let cancelled = job["state"] == "cancelled";
    if !ctx.json {
        let cancelled = if cancelled { ", and was cancelled" } else { "" };
        let (sent, skipped) = (keys(count(job, "done")), grouped(skipped));
        ctx.print_line(&format!(
            "Job {} has sent the states of {sent} and skipped {skipped}{cancelled}.",
            printable(seq)
        ))?;
    }
    if cancelled {
        return Ok(Outcome::NotDone);
    }
    if skipped > 0 && !ctx.json {
        follow::skipped(ctx, seq).await?;
    }
    let Some(verification) = job["verification"].as_str() else {
        eprintln!("stockloop: these keys were not verified again; `stockloop verify` does that");
        return Ok(Outcome::Unknown);
    };
    let expected = job["expected"].as_u64();
    let run = follow::verification(ctx, verification, expected).await?;
    match show_result(ctx, &run, false).await? {
        Outcome::Done if count(&run, "waiting") > 0 => {
            eprintln!(
                "stockloop: some of their events are still open; `stockloop verify` tells later"
            );
            Ok(Outcome::Unknown)
        }
        outcome => Ok(outcome),
    }
}
