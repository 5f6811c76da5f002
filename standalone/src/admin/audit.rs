//! `audit`: who did what.

use clap::Args;

use super::Ending;
use super::client::Query;
use super::filter::Moment;
use super::listing::{List, Window};
use super::session::Session;
use super::table::Column;

const DEEDS: &[Column] = &[
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
  stockloop admin audit --who alice --action event.          all that she did to events
  stockloop admin audit --subject TEA")]
pub(super) struct AuditArgs {
    /// By this operator; what a token did is by `token NAME`.
    #[arg(long)]
    who: Option<String>,
    /// This deed, such as event.retry; with a dot at its end, all that begin so.
    #[arg(long)]
    action: Option<String>,
    /// To this event, key or name.
    #[arg(long)]
    subject: Option<String>,
    /// From this moment on: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Before this moment.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    #[command(flatten)]
    window: Window,
}

pub(super) async fn run(at: &Session, args: AuditArgs) -> anyhow::Result<Ending> {
    let now = at.now();
    let query = Query::default()
        .and("who", args.who)
        .and("action", args.action)
        .and("subject", args.subject)
        .and("since", args.since.map(|moment| moment.seen_from(now)))
        .and("until", args.until.map(|moment| moment.seen_from(now)));
    let none = "Nobody did such a thing.";
    List { path: &["audit"], query, columns: DEEDS, none }.show(at, &args.window).await
}
