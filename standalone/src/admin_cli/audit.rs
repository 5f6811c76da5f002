//! `audit`: who did what.

use clap::Args;

use super::client::Query;
use super::context::CommandContext;
use super::filter::Moment;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::Column;

const ENTRIES: &[Column] = &[
    Column::time("AT (UTC)", "at"),
    Column::text("WHO", "who"),
    Column::text("VIA", "via"),
    Column::text("ACTION", "action"),
    Column::text("SUBJECT", "subject"),
    Column::list("DETAIL", "detail"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin audit --since 12h
  stockloop admin audit --who alice --action event.          everything she did to events
  stockloop admin audit --subject TEA")]
pub(super) struct AuditArgs {
    /// Only actions of this operator, or of a token as `token NAME`.
    #[arg(long)]
    who: Option<String>,
    /// Only this action, such as event.retry; with a dot at its end, all that begin with it.
    #[arg(long)]
    action: Option<String>,
    /// Only actions on this event, key or name.
    #[arg(long)]
    subject: Option<String>,
    /// Since this time: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    #[command(flatten)]
    limit: ListLimit,
}

pub(super) async fn run(ctx: &CommandContext, args: AuditArgs) -> anyhow::Result<Outcome> {
    let now = ctx.now();
    let query = Query::default()
        .and("who", args.who)
        .and("action", args.action)
        .and("subject", args.subject)
        .and("since", args.since.map(|moment| moment.seen_from(now)))
        .and("until", args.until.map(|moment| moment.seen_from(now)));
    let when_empty = "No entry matches.";
    List { path: &["audit"], query, columns: ENTRIES, when_empty }.show(ctx, &args.limit).await
}
