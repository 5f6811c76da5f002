//! `alerts`, `alert` and `silences`: what people are told, and what they don't want to be told for a while.

use std::time::Duration;

use clap::{Args, Subcommand};
use common::clock::Timestamp;
use hyper::Method;
use serde_json::{Value, json};

use super::Ending;
use super::client::Query;
use super::listing::{List, Window};
use super::session::Session;
use super::table::Column;

const ALERTS: &[Column] = &[
    Column::number("ALERT", "seq"),
    Column::text("STATE", "state"),
    Column::text("KIND", "kind"),
    Column::age("AGE", "created_at"),
    Column::time("SILENT UNTIL (UTC)", "silenced_until"),
    Column::time("MAILED (UTC)", "mail.sent_at"),
    Column::text("KEY", "key"),
    Column::text("EVENT", "event_id"),
    Column::text("SUBJECT", "subject"),
];

const ALERT: &[Column] = &[
    Column::text("alert", "seq"),
    Column::text("state", "state"),
    Column::text("kind", "kind"),
    Column::text("subject", "subject"),
    Column::text("event", "event_id"),
    Column::text("  is now", "event.status"),
    Column::text("type", "event_type"),
    Column::text("key", "key"),
    Column::text("version", "version"),
    Column::text("attempt", "attempt"),
    Column::text("error", "error"),
    Column::text("raised", "created_at"),
    Column::text("acknowledged", "acknowledged_at"),
    Column::text("by", "acknowledged_by"),
    Column::text("closed", "closed_at"),
    Column::text("because", "closed_because"),
    Column::text("silenced until", "silenced_until"),
    Column::list("mailed to", "mail.recipients"),
    Column::text("mail left", "mail.sent_at"),
    Column::text("tries of the mail", "mail.tries"),
    Column::text("the mail's last error", "mail.last_error"),
    Column::text("webhook called", "webhook.sent_at"),
    Column::text("the call's last error", "webhook.last_error"),
];

const SILENCES: &[Column] = &[
    Column::number("SILENCE", "seq"),
    Column::text("KIND", "kind"),
    Column::text("KEY", "key"),
    Column::text("ALERT", "alert"),
    Column::time("UNTIL (UTC)", "until"),
    Column::text("ACTIVE", "active"),
    Column::text("BY", "created_by"),
    Column::text("REASON", "reason"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin alerts --state open
  stockloop admin alert ack 7
  stockloop admin alert silence 7 --for 2h --reason 'the stocktaking takes until noon'")]
pub(super) struct AlertsArgs {
    /// Only those in this state.
    #[arg(long, value_parser = ["open", "acknowledged", "closed"])]
    state: Option<String>,
    /// Only those that are not closed (true), or are (false).
    #[arg(long, value_name = "BOOL")]
    open: Option<bool>,
    /// Only those of this kind, such as exhausted.
    #[arg(long)]
    kind: Option<String>,
    /// Only those about this key.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    window: Window,
}

#[derive(Subcommand)]
pub(super) enum AlertCommand {
    /// Show an alert with its mail.
    Show {
        /// Its number.
        seq: u64,
    },
    /// Say that somebody looks after it; nobody is reminded of it any more.
    #[command(visible_alias = "acknowledge")]
    Ack {
        /// Its number.
        seq: u64,
    },
    /// Send no message about it for a while.
    Silence {
        /// Its number.
        seq: u64,
        #[command(flatten)]
        how: Terms,
    },
}

#[derive(Args)]
pub(super) struct Terms {
    /// For so long, such as 2h.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration,
          required_unless_present = "until", conflicts_with = "until")]
    lasts: Option<Duration>,
    /// Until this moment, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin silences --active true
  stockloop admin silences add --key TEA --for 2h --reason 'the shelf is being counted'
  stockloop admin silences end 3")]
pub(super) struct SilencesArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: Option<SilencesCommand>,
}

#[derive(Args)]
struct Which {
    /// Only those that hold now (true), or do not (false).
    #[arg(long, value_name = "BOOL")]
    active: Option<bool>,
    #[command(flatten)]
    window: Window,
}

#[derive(Subcommand)]
enum SilencesCommand {
    /// List them, newest first.
    List(Which),
    /// Send no message about alerts of a kind, of a key, or both, for a while.
    Add {
        /// Alerts of this kind, such as exhausted.
        #[arg(long, required_unless_present = "key")]
        kind: Option<String>,
        /// Alerts about this key.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        how: Terms,
    },
    /// End one before its time.
    End {
        /// Its number.
        seq: u64,
    },
}

impl Terms {
    fn body(&self, of: Value) -> Value {
        let mut body = of;
        body["reason"] = json!(self.reason);
        if let Some(lasts) = self.lasts {
            body["for_seconds"] = json!(lasts.as_secs());
        }
        if let Some(until) = self.until {
            body["until"] = json!(until);
        }
        body
    }
}

pub(super) async fn list(at: &Session, args: AlertsArgs) -> anyhow::Result<Ending> {
    let query = Query::default()
        .and("state", args.state)
        .and("open", args.open)
        .and("kind", args.kind)
        .and("key", args.key);
    let none = "No alert matches.";
    List { path: &["alerts"], query, columns: ALERTS, none }.show(at, &args.window).await
}

pub(super) async fn alert(at: &Session, command: AlertCommand) -> anyhow::Result<Ending> {
    let raw = match command {
        AlertCommand::Show { seq } => {
            at.client.get(&["alerts", &seq.to_string()], &Query::default()).await?
        }
        AlertCommand::Ack { seq } => {
            let path = ["alerts", &seq.to_string(), "acknowledge"];
            at.client.send(Method::POST, &path, None).await?
        }
        AlertCommand::Silence { seq, how } => {
            return silence(at, how.body(json!({ "alert": seq.to_string() }))).await;
        }
    };
    at.answer(&raw, |alert| at.say_parts(ALERT, alert))?;
    Ok(Ending::Done)
}

pub(super) async fn silences(at: &Session, args: SilencesArgs) -> anyhow::Result<Ending> {
    let which = match args.command {
        None => args.which,
        Some(SilencesCommand::List(which)) => which,
        Some(SilencesCommand::Add { kind, key, how }) => {
            let mut of = json!({});
            if let Some(kind) = kind {
                of["kind"] = json!(kind);
            }
            if let Some(key) = key {
                of["key"] = json!(key);
            }
            return silence(at, how.body(of)).await;
        }
        Some(SilencesCommand::End { seq }) => {
            let raw = at.client.send(Method::DELETE, &["silences", &seq.to_string()], None).await?;
            at.done(&raw, &format!("Silence {seq} has ended."))?;
            return Ok(Ending::Done);
        }
    };
    let query = Query::default().and("active", which.active);
    let none = "There is no such silence.";
    List { path: &["silences"], query, columns: SILENCES, none }.show(at, &which.window).await
}

async fn silence(at: &Session, body: Value) -> anyhow::Result<Ending> {
    let raw = at.client.send(Method::POST, &["silences"], Some(&body)).await?;
    at.answer(&raw, |silence| at.say_table(SILENCES, std::slice::from_ref(silence), true))?;
    Ok(Ending::Done)
}
