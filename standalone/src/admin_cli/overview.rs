//! `overview`: can the copy be trusted?

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::Query;
use super::context::CommandContext;
use super::outcome::Outcome;
use super::table::Column;

const COUNTS: &[Column] = &[
    Column::number("PENDING", "events.PENDING"),
    Column::number("SENT", "events.SENT"),
    Column::number("EXHAUSTED", "events.EXHAUSTED"),
    Column::number("RESOLVED", "events.RESOLVED"),
    Column::number("PROCESSED", "events.PROCESSED"),
];

const RATES: &[Column] = &[
    Column::rate("COMMITTED", "rates.committed"),
    Column::rate("SENT", "rates.sent"),
    Column::rate("ACKNOWLEDGED", "rates.acknowledged"),
    Column::rate("FAILED", "rates.failed"),
];

const LATENCIES: &[Column] = &[
    Column::text("FROM THE COMMIT UNTIL", "stage"),
    Column::seconds("P50", "took.p50"),
    Column::seconds("P99", "took.p99"),
];

const CONSUMERS: &[Column] = &[
    Column::text("CONSUMER", "name"),
    Column::text("TOPIC", "topic"),
    Column::number("WAITING", "waiting"),
    Column::seconds("LAG", "behind_seconds"),
    Column::number("SILENT PARTITIONS", "silent_partitions"),
];

const FIELDS: &[Column] = &[
    Column::text("service", "service"),
    Column::text("counted", "as_of"),
    Column::text("oldest unacknowledged", "oldest_unacknowledged.id"),
    Column::text("  key", "oldest_unacknowledged.key"),
    Column::seconds("  age", "oldest_unacknowledged.age_seconds"),
    Column::text("relay paused because", "relay.paused.reason"),
    Column::text("keys paused", "relay.keys_paused"),
    Column::text("broker", "broker.state"),
    Column::text("  because", "broker.reason"),
    Column::text("database", "database.backend"),
    Column::text("mail", "mail.transport"),
    Column::text("  its last error", "mail.last_error"),
    Column::text("alerts open", "alerts_open"),
    Column::text("  acknowledged", "alerts_acknowledged"),
    Column::text("  silenced", "alerts_silenced"),
    Column::text("mails not sent", "mails_unsent"),
    Column::text("webhook calls not sent", "webhooks_unsent"),
    Column::text("dead letters", "dead_letters"),
    Column::text("keys in quarantine", "quarantined_keys"),
    Column::text("bulk jobs under way", "jobs_open"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin overview --watch
  stockloop admin overview --json | jq .events.EXHAUSTED")]
pub(super) struct OverviewArgs {
    /// Repeat every this many seconds (2 by default), until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

pub(super) async fn run(ctx: &CommandContext, args: OverviewArgs) -> anyhow::Result<Outcome> {
    loop {
        let raw = ctx.client.get(&["overview"], &Query::default()).await?;
        if args.watch.is_some() && !ctx.json && io::stdout().is_terminal() {
            console::Term::stdout().clear_screen()?;
        }
        ctx.print_response(&raw, |overview| show(ctx, overview))?;
        let Some(seconds) = args.watch else { return Ok(Outcome::Done) };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

fn show(ctx: &CommandContext, overview: &Value) -> io::Result<()> {
    ctx.print_row(COUNTS, overview)?;
    if overview["rates"].is_object() {
        ctx.print_line("")?;
        ctx.print_row(RATES, overview)?;
    }
    if overview["latencies"].is_object() {
        ctx.print_line("")?;
        ctx.print_table(LATENCIES, &latencies(overview), true)?;
    }
    if let Some(consumers) = overview["consumers"].as_array() {
        ctx.print_line("")?;
        ctx.print_table(CONSUMERS, consumers, true)?;
    }
    ctx.print_line("")?;
    ctx.print_fields(FIELDS, overview)
}

fn latencies(overview: &Value) -> [Value; 3] {
    [
        ("it is SENT", "commit_to_sent"),
        ("it is applied", "commit_to_applied"),
        ("it is acknowledged", "commit_to_acknowledged"),
    ]
    .map(|(stage, name)| json!({ "stage": stage, "took": overview["latencies"][name] }))
}
