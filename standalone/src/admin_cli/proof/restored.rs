//! `restored`: mends what a database misses that came back from a backup.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::super::client::Query;
use super::super::confirm::confirmed;
use super::super::context::CommandContext;
use super::super::outcome::Outcome;
use super::Connection;
use super::follow::{count, keys, moment, told};

/// How often it is asked how far it is.
const POLL_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop restored                    product-service's database came back from a backup
  stockloop restored --order            order-service's did
  stockloop restored --yes --reason 'the backup of Monday'
  stockloop restored --force            though nothing shows it

The owner of the inventory raises its epoch, so that its states are newer than all that the copy has,
and sends them all again; what only the copy has is removed there. Order-service, which has the copy,
asks for what it misses. Both end with a verification of all keys. It runs in the services: Ctrl-C
leaves it running, and any instance goes on with it after a restart.

That a database is behind is found by itself; the alert `database_behind` says since when.

Exit codes:
  0  the copy is equal now, or the database is not behind
  1  nothing was done: the answer was no, or a job of it was cancelled
  2  not understood, or a question without a terminal to answer it on
  3  some keys still differ; `stockloop verify --last` lists them
  4  not known: the service can't be reached or refused")]
pub(crate) struct RestoredArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Why, for the jobs and the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do it though nothing shows that the database is behind.
    #[arg(long)]
    force: bool,
    /// Don't ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(ctx: &CommandContext, args: &RestoredArgs) -> anyhow::Result<Outcome> {
    let status = status(ctx).await?;
    if status["newest"]["state"] == "running" {
        ctx.remark("It is under way already; this follows it.");
        return follow(ctx).await;
    }
    if status["behind"] != true && !args.force {
        ctx.print_response(&status.to_string(), |_| ctx.print_line(&not_behind(&status)))?;
        return Ok(Outcome::Done);
    }
    preview(ctx, &status);
    if !confirmed(question(&status), args.yes)? {
        ctx.remark("Nothing was done.");
        return Ok(Outcome::NotDone);
    }
    let body = json!({ "reason": args.reason, "force": args.force });
    ctx.client.send(Method::POST, &["restored"], Some(&body)).await?;
    follow(ctx).await
}

async fn status(ctx: &CommandContext) -> anyhow::Result<Value> {
    let raw = ctx.client.get(&["restored"], &Query::default()).await?;
    Ok(serde_json::from_str(&raw)?)
}

fn not_behind(status: &Value) -> String {
    let service = told(status, "service");
    match status["newest"]["ended_at"].as_str() {
        Some(_) => format!(
            "The database of {service} is not behind; it was mended last {}. Nothing was changed.",
            moment(&status["newest"], "ended_at")
        ),
        None => format!(
            "Nothing shows that the database of {service} is behind. Nothing was changed; --force mends it all the same."
        ),
    }
}

/// Says what was found, for people.
fn preview(ctx: &CommandContext, status: &Value) {
    let (service, newest) = (told(status, "service"), &status["newest"]);
    if status["behind"] != true {
        ctx.remark(&format!("Nothing shows that the database of {service} is behind."));
        return;
    }
    ctx.remark(&format!(
        "The database of {service} is behind, found {}: {}.",
        moment(newest, "found_at"),
        told(newest, "detail")
    ));
    if newest["since"].is_string() {
        ctx.remark(&format!("It has taken nothing since {}.", moment(newest, "since")));
    }
}

fn question(status: &Value) -> &'static str {
    match status["side"].as_str() {
        Some("owner") => {
            "Raise the epoch and send all states again? What the copy has of later ones is superseded."
        }
        _ => "Have the owner send what the copy misses?",
    }
}

/// Waits until it has ended, and shows what it came to.
async fn follow(ctx: &CommandContext) -> anyhow::Result<Outcome> {
    let mut said = String::new();
    let status = loop {
        let status = status(ctx).await?;
        let newest = &status["newest"];
        if !newest["ended_at"].is_null() {
            break status;
        }
        let waits = told(newest, "waits_for");
        if !waits.is_empty() && waits != said {
            ctx.remark(&format!("It waits: {waits}"));
            said = waits;
        }
        tokio::time::sleep(POLL_EVERY).await;
    };
    let newest = &status["newest"];
    ctx.print_response(&newest.to_string(), |_| ctx.print_line(&sentence(&status)))?;
    Ok(match newest["state"].as_str() {
        Some("equal") => Outcome::Done,
        Some("different") => Outcome::Different,
        Some("cancelled") => Outcome::NotDone,
        _ => Outcome::Unknown,
    })
}

/// What a restoration that has ended came to.
fn sentence(status: &Value) -> String {
    let (service, newest) = (told(status, "service"), &status["newest"]);
    let (seq, at) = (told(newest, "seq"), moment(newest, "ended_at"));
    match newest["state"].as_str() {
        Some("equal") => {
            let more = match status["side"].as_str() {
                Some("owner") => {
                    " Orders may have lost their deductions: `stockloop admin --order lost-commands` lists them."
                }
                _ => "",
            };
            format!(
                "The copy is equal. The database of {service} is mended, {at} (restoration {seq}).{more}"
            )
        }
        Some("different") => format!(
            "{} still differ, {at} (restoration {seq}); the owner's `stockloop verify --last` lists them. {}",
            keys(count(newest, "differences")),
            told(newest, "waits_for")
        ),
        _ => format!("It was not gone on with: {} (restoration {seq}).", told(newest, "waits_for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_says_how_it_is() {
        let status = |state: &str| {
            json!({ "service": "product-service", "newest": {
                "seq": "3", "state": state, "differences": 2, "waits_for": "ada cancelled it",
                "ended_at": "2026-11-28T12:00:03.000000Z",
            }})
        };
        assert!(sentence(&status("equal")).contains("The copy is equal."));
        assert!(sentence(&status("different")).contains("2 keys still differ"));
        assert!(sentence(&status("cancelled")).contains("ada cancelled it"));
    }
}
