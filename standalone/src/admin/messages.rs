//! `mails` and `webhooks`: whether messages reach people, and a test of the way.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::Ending;
use super::client::Query;
use super::listing::{List, Window};
use super::session::Session;
use super::table::{Column, printable};

const MAILS: &[Column] = &[
    Column::number("MAIL", "seq"),
    Column::age("AGE", "created_at"),
    Column::time("LEFT (UTC)", "sent_at"),
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
    Column::time("LEFT (UTC)", "sent_at"),
    Column::number("TRIES", "tries"),
    Column::time("NEXT (UTC)", "due_at"),
    Column::text("LAST ERROR", "last_error"),
];

#[derive(Args)]
struct Which {
    /// Only those that have not left (true), or have (false).
    #[arg(long, value_name = "BOOL")]
    waiting: Option<bool>,
    #[command(flatten)]
    window: Window,
}

#[derive(Args)]
pub(super) struct MailsArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: Option<MailsCommand>,
}

#[derive(Subcommand)]
enum MailsCommand {
    /// List them, newest first.
    List(Which),
    /// Send one, to see that it arrives.
    Test {
        /// To whom; may be given several times. Else to alerts.recipients.
        #[arg(long, value_name = "ADDRESS")]
        to: Vec<String>,
    },
}

#[derive(Args)]
pub(super) struct WebhooksArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: Option<WebhooksCommand>,
}

#[derive(Subcommand)]
enum WebhooksCommand {
    /// List them, newest first.
    List(Which),
    /// Make one, to see that it is understood.
    Test,
}

pub(super) async fn mails(at: &Session, args: MailsArgs) -> anyhow::Result<Ending> {
    let which = match args.command {
        None => args.which,
        Some(MailsCommand::List(which)) => which,
        Some(MailsCommand::Test { to }) => {
            let body = json!({ "to": to });
            let raw = at.client.send(Method::POST, &["mails", "test"], Some(&body)).await?;
            at.answer(&raw, |mail| told(at, "Mail", mail))?;
            return Ok(Ending::Done);
        }
    };
    let query = Query::default().and("waiting", which.waiting);
    let none = "There is no such mail.";
    List { path: &["mails"], query, columns: MAILS, none }.show(at, &which.window).await
}

pub(super) async fn webhooks(at: &Session, args: WebhooksArgs) -> anyhow::Result<Ending> {
    let which = match args.command {
        None => args.which,
        Some(WebhooksCommand::List(which)) => which,
        Some(WebhooksCommand::Test) => {
            let raw = at.client.send(Method::POST, &["webhooks", "test"], None).await?;
            at.answer(&raw, |call| told(at, "Call", call))?;
            return Ok(Ending::Done);
        }
    };
    let query = Query::default().and("waiting", which.waiting);
    let none = "There is no such call.";
    List { path: &["webhooks"], query, columns: WEBHOOKS, none }.show(at, &which.window).await
}

fn told(at: &Session, what: &str, message: &Value) -> std::io::Result<()> {
    let seq = printable(message["seq"].as_str().unwrap_or_default());
    at.say(&format!("{what} {seq} is on its way; the list shows when it has left."))
}
