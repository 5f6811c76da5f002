//! `bootstrap`: how far a new or emptied copy is filled.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::super::client::Query;
use super::super::context::CommandContext;
use super::super::error::CommandError;
use super::super::listing::List;
use super::super::outcome::Outcome;
use super::super::table::{Column, grouped, printable};
use super::Connection;
use super::follow::{self, count, keys, told};

/// Fillings that are listed.
const SHOWN: usize = 20;

const COLUMNS: &[Column] = &[
    Column::text("FILLING", "seq"),
    Column::text("CONSUMER", "consumer"),
    Column::text("STATE", "state"),
    Column::number("SENT", "done"),
    Column::number("OF KEYS", "expected"),
    Column::text("VERIFICATION", "verification"),
    Column::text("BY", "created_by"),
    Column::text("BEGAN", "created_at"),
    Column::text("ENDED", "ended_at"),
    Column::text("WHY", "reason"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop bootstrap             the fillings of copies, newest first
  stockloop bootstrap --follow    the one that is under way, until it ends
  stockloop bootstrap --start     begins one anew, after somebody stopped it

A copy that is new or was emptied is filled without anybody asking. It is complete once the state
of each key is answered and a verification says that both sides are equal; until then, orders for
what it does not know are answered 503.

Exit codes:
  0  listed; or the filling that was followed made the copy complete
  1  failed or refused, or the filling ended before the copy was complete")]
pub(crate) struct BootstrapArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Show the newest filling until it ends.
    #[arg(long)]
    follow: bool,
    /// Begin one anew, and follow it.
    #[arg(long)]
    start: bool,
}

pub(super) async fn run(ctx: &CommandContext, args: &BootstrapArgs) -> anyhow::Result<Outcome> {
    let row = match (args.start, args.follow) {
        (true, _) => Some(serde_json::from_str(
            &ctx.client.send(Method::POST, &["bootstraps"], Some(&json!({}))).await?,
        )?),
        (false, true) => newest(ctx).await?,
        (false, false) => return list(ctx).await,
    };
    let Some(row) = row else {
        return Err(CommandError::Usage(
            "no copy was ever filled; there is nothing to follow".to_owned(),
        )
        .into());
    };
    result(ctx, &follow::filling(ctx, &row).await?)
}

async fn list(ctx: &CommandContext) -> anyhow::Result<Outcome> {
    let when_empty = "No copy was ever filled.";
    let list =
        List { path: &["bootstraps"], query: Query::default(), columns: COLUMNS, when_empty };
    list.print(ctx, SHOWN).await?;
    Ok(Outcome::Done)
}

async fn newest(ctx: &CommandContext) -> anyhow::Result<Option<Value>> {
    let raw = ctx.client.get(&["bootstraps"], &Query::default()).await?;
    let page: Value = serde_json::from_str(&raw)?;
    Ok(page["items"].get(0).cloned())
}

fn result(ctx: &CommandContext, row: &Value) -> anyhow::Result<Outcome> {
    let is_done = row["state"] == "done";
    ctx.print_response(&row.to_string(), |_| {
        let (seq, consumer) = (told(row, "seq"), told(row, "consumer"));
        let sent = keys(count(row, "done"));
        ctx.print_line(&match is_done {
            true => format!("The copy of {consumer} is complete: {sent} sent, and verified equal (filling {seq})."),
            false => format!(
                "Filling {seq} of {consumer} ended after {sent} of {}: {}",
                grouped(count(row, "expected")),
                row["reason"].as_str().map_or_else(|| "no reason is given".to_owned(), printable)
            ),
        })
    })?;
    Ok(if is_done { Outcome::Done } else { Outcome::NotDone })
}
