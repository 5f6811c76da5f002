//! `lost-commands`: commands whose effect was lost with their receiver's backup.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::client::Query;
use super::confirm::confirmed;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::Column;

const COMMANDS: &[Column] = &[
    Column::text("EVENT", "id"),
    Column::text("TYPE", "type"),
    Column::text("KEY", "key"),
    Column::text("STATE", "state"),
    Column::age("ANSWERED", "answered_at"),
    Column::text("BY", "closed_by"),
    Column::text("REASON", "reason"),
];

const CHECK: &[Column] = &[
    Column::text("check", "seq"),
    Column::text("restored service", "service"),
    Column::text("since", "since"),
    Column::text("asked", "asked"),
    Column::text("lost", "found"),
    Column::text("not known", "unclear"),
    Column::text("known from", "known_from"),
    Column::text("waits for", "waits_for"),
    Column::text("begun", "created_at"),
    Column::text("ended", "ended_at"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin --order lost-commands --state open
  stockloop admin --order lost-commands check
  stockloop admin --order lost-commands again ID
  stockloop admin --order lost-commands again --all --reason 'the backup of Monday'
  stockloop admin --order lost-commands accept ID --reason 'counted and corrected by hand'

Where the owner of the stock came back from a backup, an order may be CONFIRMED though its deduction is
lost. `again` sends the command once more: the order is PENDING until the owner has answered, and may be
REJECTED. `accept` sends nothing: correct the stock by hand first. What is made good otherwise, such as
by a cancellation, is closed as obsolete by itself.")]
pub(super) struct LostCommandsArgs {
    #[command(flatten)]
    filter: LostFilter,
    #[command(subcommand)]
    command: Option<LostCommand>,
}

#[derive(Args)]
struct LostFilter {
    /// Only those in this state.
    #[arg(long, value_parser = ["open", "again", "accepted", "obsolete"])]
    state: Option<String>,
    #[command(flatten)]
    limit: ListLimit,
}

#[derive(Subcommand)]
enum LostCommand {
    /// List them, the oldest first.
    List(LostFilter),
    /// Show how far the newest search for them is, and from when on it knows.
    Check,
    /// Send some once more.
    Again {
        #[command(flatten)]
        which: Which,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Close some: what is missing was made good by hand.
    Accept {
        #[command(flatten)]
        which: Which,
        /// How it was made good.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Args)]
struct Which {
    /// The events' ids.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that are open.
    #[arg(long)]
    all: bool,
    /// Don't ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(ctx: &CommandContext, args: LostCommandsArgs) -> anyhow::Result<Outcome> {
    match args.command {
        None => list(ctx, args.filter).await,
        Some(LostCommand::List(filter)) => list(ctx, filter).await,
        Some(LostCommand::Check) => check(ctx).await,
        Some(LostCommand::Again { which, reason }) => {
            decide(ctx, &which, &Decision { verdict: "again", reason }).await
        }
        Some(LostCommand::Accept { which, reason }) => {
            decide(ctx, &which, &Decision { verdict: "accept", reason: Some(reason) }).await
        }
    }
}

async fn list(ctx: &CommandContext, filter: LostFilter) -> anyhow::Result<Outcome> {
    let query = Query::default().and("state", filter.state);
    let when_empty = "No lost command matches.";
    List { path: &["lost-commands"], query, columns: COMMANDS, when_empty }
        .show(ctx, &filter.limit)
        .await
}

async fn check(ctx: &CommandContext) -> anyhow::Result<Outcome> {
    let raw = ctx.client.get(&["lost-commands", "check"], &Query::default()).await?;
    ctx.print_response(&raw, |status| match &status["newest"] {
        Value::Null => ctx.print_line("No receiver of this service's commands told of a restore."),
        newest => ctx.print_fields(CHECK, newest),
    })?;
    Ok(Outcome::Done)
}

struct Decision {
    verdict: &'static str,
    reason: Option<String>,
}

async fn decide(
    ctx: &CommandContext,
    which: &Which,
    decision: &Decision,
) -> anyhow::Result<Outcome> {
    let what = match which.all {
        true => "all open lost commands".to_owned(),
        false if which.ids.len() == 1 => "one lost command".to_owned(),
        false => format!("{} lost commands", which.ids.len()),
    };
    let question = match decision.verdict {
        "again" => format!("Send {what} once more?"),
        _ => format!("Close {what}, since what is missing was made good by hand?"),
    };
    if !confirmed(&question, which.yes)? {
        ctx.remark("Nothing was done.");
        return Ok(Outcome::NotDone);
    }
    match which.all {
        true => decide_all(ctx, decision).await,
        false => decide_named(ctx, &which.ids, decision).await,
    }
}

async fn decide_named(
    ctx: &CommandContext,
    ids: &[String],
    decision: &Decision,
) -> anyhow::Result<Outcome> {
    let body = json!({ "verdict": decision.verdict, "reason": decision.reason });
    let mut outcome = Outcome::Done;
    for id in ids {
        let path = ["lost-commands", id.as_str(), "decide"];
        let raw = match ctx.client.send(Method::POST, &path, Some(&body)).await {
            Ok(raw) => raw,
            Err(error) if ids.len() > 1 => {
                ctx.remark(&format!("{id}: {error:#}"));
                outcome = Outcome::PartlyDone;
                continue;
            }
            Err(error) => return Err(error),
        };
        let item: Value = serde_json::from_str(&raw)?;
        ctx.print_done(&raw, &became(id, &item))?;
    }
    Ok(outcome)
}

/// What became of one.
fn became(id: &str, item: &Value) -> String {
    let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    match item["state"].as_str() {
        Some("again") => format!("{id} is sent once more, as {}.", text("sent_as")),
        Some("obsolete") => format!("{id} is obsolete: {}.", text("reason")),
        _ => format!("{id} is closed; nothing is sent."),
    }
}

/// A page after the other, each in one transaction of the service.
async fn decide_all(ctx: &CommandContext, decision: &Decision) -> anyhow::Result<Outcome> {
    const COUNTS: [&str; 4] = ["again", "accepted", "obsolete", "skipped"];
    let (mut sums, mut after) = ([0_u64; 4], Value::Null);
    loop {
        let body =
            json!({ "verdict": decision.verdict, "reason": decision.reason, "after": after });
        let path = ["lost-commands", "decide"];
        let raw = ctx.client.send(Method::POST, &path, Some(&body)).await?;
        let decided: Value = serde_json::from_str(&raw)?;
        for (sum, name) in sums.iter_mut().zip(COUNTS) {
            *sum += decided[name].as_u64().unwrap_or_default();
        }
        after = decided["next"].clone();
        if after.is_null() {
            break;
        }
    }
    let [again, accepted, obsolete, skipped] = sums;
    let raw = json!({
        "again": again, "accepted": accepted, "obsolete": obsolete, "skipped": skipped,
    });
    let sentence = format!(
        "Sent once more: {again}. Accepted: {accepted}. Obsolete: {obsolete}. Left open, since they can't be sent again: {skipped}."
    );
    ctx.print_done(&raw.to_string(), &sentence)?;
    Ok(if skipped > 0 { Outcome::PartlyDone } else { Outcome::Done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_became_of_one() {
        let item = |state: &str| json!({ "state": state, "sent_as": "E2", "reason": "it is over" });
        assert_eq!(became("E1", &item("again")), "E1 is sent once more, as E2.");
        assert_eq!(became("E1", &item("obsolete")), "E1 is obsolete: it is over.");
        assert_eq!(became("E1", &item("accepted")), "E1 is closed; nothing is sent.");
    }
}
