//! `alerts`, `alert` and `silences`: what operators are told, and what they silence for a while.

use std::time::Duration;

use clap::{Args, Subcommand};
use common::clock::Timestamp;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
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
    Column::text("mail is", "mail.state"),
    Column::text("mail sent", "mail.sent_at"),
    Column::text("mail's tries", "mail.tries"),
    Column::text("mail's last error", "mail.last_error"),
    Column::text("webhook called", "webhook.sent_at"),
    Column::text("call's last error", "webhook.last_error"),
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
    /// Only alerts in this state.
    #[arg(long, value_parser = ["open", "acknowledged", "closed"])]
    state: Option<String>,
    /// Only alerts that are not closed (true), or only closed ones (false).
    #[arg(long, value_name = "BOOL")]
    open: Option<bool>,
    /// Only alerts of this kind, such as exhausted.
    #[arg(long)]
    kind: Option<String>,
    /// Only alerts about this key.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    limit: ListLimit,
}

#[derive(Subcommand)]
pub(super) enum AlertCommand {
    /// Show an alert with its mail and webhook call.
    Show {
        /// The alert's number.
        seq: u64,
    },
    /// Acknowledge it: tells the others that somebody is on it.
    #[command(visible_alias = "acknowledge")]
    Ack {
        /// The alert's number.
        seq: u64,
    },
    /// Send no message about it for a while.
    Silence {
        /// The alert's number.
        seq: u64,
        #[command(flatten)]
        terms: SilenceTerms,
    },
}

#[derive(Args)]
pub(super) struct SilenceTerms {
    /// For this long, such as 2h.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration,
          required_unless_present = "until", conflicts_with = "until")]
    lasting: Option<Duration>,
    /// Until this time, such as 2026-01-31T12:00:00Z.
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
    filter: SilenceFilter,
    #[command(subcommand)]
    command: Option<SilencesCommand>,
}

#[derive(Args)]
struct SilenceFilter {
    /// Only active silences (true), or only those that are not active (false).
    #[arg(long, value_name = "BOOL")]
    active: Option<bool>,
    #[command(flatten)]
    limit: ListLimit,
}

#[derive(Subcommand)]
enum SilencesCommand {
    /// List them, newest first.
    List(SilenceFilter),
    /// Send no message about alerts of a kind, of a key, or both, for a while.
    Add {
        /// Alerts of this kind, such as exhausted.
        #[arg(long, required_unless_present = "key")]
        kind: Option<String>,
        /// Alerts about this key.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        terms: SilenceTerms,
    },
    /// End a silence early.
    End {
        /// The silence's number.
        seq: u64,
    },
}

impl SilenceTerms {
    /// The body of the request; `target` says which alerts are silenced.
    fn body(&self, target: Value) -> Value {
        let mut body = target;
        body["reason"] = json!(self.reason);
        if let Some(lasting) = self.lasting {
            body["for_seconds"] = json!(lasting.as_secs());
        }
        if let Some(until) = self.until {
            body["until"] = json!(until);
        }
        body
    }
}

pub(super) async fn list(ctx: &CommandContext, args: AlertsArgs) -> anyhow::Result<Outcome> {
    let query = Query::default()
        .and("state", args.state)
        .and("open", args.open)
        .and("kind", args.kind)
        .and("key", args.key);
    let when_empty = "No alert matches.";
    List { path: &["alerts"], query, columns: ALERTS, when_empty }.show(ctx, &args.limit).await
}

pub(super) async fn alert(ctx: &CommandContext, command: AlertCommand) -> anyhow::Result<Outcome> {
    let raw = match command {
        AlertCommand::Show { seq } => {
            ctx.client.get(&["alerts", &seq.to_string()], &Query::default()).await?
        }
        AlertCommand::Ack { seq } => {
            let path = ["alerts", &seq.to_string(), "acknowledge"];
            ctx.client.send(Method::POST, &path, None).await?
        }
        AlertCommand::Silence { seq, terms } => {
            return silence(ctx, terms.body(json!({ "alert": seq.to_string() }))).await;
        }
    };
    ctx.print_response(&raw, |alert| ctx.print_fields(ALERT, alert))?;
    Ok(Outcome::Done)
}

pub(super) async fn silences(ctx: &CommandContext, args: SilencesArgs) -> anyhow::Result<Outcome> {
    let filter = match args.command {
        None => args.filter,
        Some(SilencesCommand::List(filter)) => filter,
        Some(SilencesCommand::Add { kind, key, terms }) => {
            let mut target = json!({});
            if let Some(kind) = kind {
                target["kind"] = json!(kind);
            }
            if let Some(key) = key {
                target["key"] = json!(key);
            }
            return silence(ctx, terms.body(target)).await;
        }
        Some(SilencesCommand::End { seq }) => {
            let raw =
                ctx.client.send(Method::DELETE, &["silences", &seq.to_string()], None).await?;
            ctx.print_done(&raw, &format!("Silence {seq} has ended."))?;
            return Ok(Outcome::Done);
        }
    };
    let query = Query::default().and("active", filter.active);
    let when_empty = "There is no such silence.";
    List { path: &["silences"], query, columns: SILENCES, when_empty }
        .show(ctx, &filter.limit)
        .await
}

async fn silence(ctx: &CommandContext, body: Value) -> anyhow::Result<Outcome> {
    let raw = ctx.client.send(Method::POST, &["silences"], Some(&body)).await?;
    ctx.print_response(&raw, |silence| ctx.print_row(SILENCES, silence))?;
    Ok(Outcome::Done)
}
