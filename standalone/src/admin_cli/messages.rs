//! `mails` and `webhooks`: the messages about alerts, whether they were sent, and test messages.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::{Column, printable};

const MAILS: &[Column] = &[
    Column::number("MAIL", "seq"),
    Column::text("STATE", "state"),
    Column::age("AGE", "created_at"),
    Column::time("SENT (UTC)", "sent_at"),
    Column::number("TRIES", "tries"),
    Column::time("NEXT (UTC)", "due_at"),
    Column::number("ALERTS", "alerts"),
    Column::list("TO", "recipients"),
    Column::text("SUBJECT", "subject"),
    Column::text("LAST ERROR", "last_error"),
];

const WEBHOOKS: &[Column] = &[
    Column::number("CALL", "seq"),
    Column::number("ALERTS", "alerts"),
    Column::text("DELIVERY", "delivery_id"),
    Column::age("AGE", "created_at"),
    Column::time("SENT (UTC)", "sent_at"),
    Column::number("TRIES", "tries"),
    Column::time("NEXT (UTC)", "due_at"),
    Column::text("LAST ERROR", "last_error"),
];

#[derive(Args)]
struct MessageFilter {
    /// Only messages that are not sent yet (true), or only sent ones (false).
    #[arg(long, value_name = "BOOL")]
    waiting: Option<bool>,
    #[command(flatten)]
    limit: ListLimit,
}

#[derive(Args)]
pub(super) struct MailsArgs {
    #[command(flatten)]
    filter: MessageFilter,
    #[command(subcommand)]
    command: Option<MailsCommand>,
}

#[derive(Subcommand)]
enum MailsCommand {
    /// List them, newest first.
    List(MessageFilter),
    /// Send a test mail.
    Test {
        /// The recipient; may be repeated. By default alerts.recipients.
        #[arg(long, value_name = "ADDRESS")]
        to: Vec<String>,
    },
}

#[derive(Args)]
pub(super) struct WebhooksArgs {
    #[command(flatten)]
    filter: MessageFilter,
    #[command(subcommand)]
    command: Option<WebhooksCommand>,
}

#[derive(Subcommand)]
enum WebhooksCommand {
    /// List them, newest first.
    List(MessageFilter),
    /// Send a test call.
    Test,
}

pub(super) async fn mails(ctx: &CommandContext, args: MailsArgs) -> anyhow::Result<Outcome> {
    let filter = match args.command {
        None => args.filter,
        Some(MailsCommand::List(filter)) => filter,
        Some(MailsCommand::Test { to }) => {
            let body = json!({ "to": to });
            let raw = ctx.client.send(Method::POST, &["mails", "test"], Some(&body)).await?;
            ctx.print_response(&raw, |mail| print_queued(ctx, "Mail", mail))?;
            return Ok(Outcome::Done);
        }
    };
    let query = Query::default().and("waiting", filter.waiting);
    let when_empty = "No mail matches.";
    List { path: &["mails"], query, columns: MAILS, when_empty }.show(ctx, &filter.limit).await
}

pub(super) async fn webhooks(ctx: &CommandContext, args: WebhooksArgs) -> anyhow::Result<Outcome> {
    let filter = match args.command {
        None => args.filter,
        Some(WebhooksCommand::List(filter)) => filter,
        Some(WebhooksCommand::Test) => {
            let raw = ctx.client.send(Method::POST, &["webhooks", "test"], None).await?;
            ctx.print_response(&raw, |call| print_queued(ctx, "Call", call))?;
            return Ok(Outcome::Done);
        }
    };
    let query = Query::default().and("waiting", filter.waiting);
    let when_empty = "No webhook call matches.";
    List { path: &["webhooks"], query, columns: WEBHOOKS, when_empty }
        .show(ctx, &filter.limit)
        .await
}

fn print_queued(ctx: &CommandContext, what: &str, message: &Value) -> std::io::Result<()> {
    let seq = printable(message["seq"].as_str().unwrap_or_default());
    ctx.print_line(&format!("{what} {seq} is on its way; the list shows when it is sent."))
}
