//! `overview`: can the copy be trusted?

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Ending;
use super::client::Query;
use super::session::Session;
use super::table::Column;

const COUNTS: &[Column] = &[
    Column::number("PENDING", "events.PENDING"),
    Column::number("SENT", "events.SENT"),
    Column::number("EXHAUSTED", "events.EXHAUSTED"),
    Column::number("RESOLVED", "events.RESOLVED"),
    Column::number("PROCESSED", "events.PROCESSED"),
];

const RATES: &[Column] = &[
    Column::rate("IN", "rates.committed"),
    Column::rate("SENT", "rates.sent"),
    Column::rate("OUT", "rates.acknowledged"),
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
    Column::seconds("BEHIND", "behind_seconds"),
    Column::number("SILENT PARTITIONS", "silent_partitions"),
];

const PARTS: &[Column] = &[
    Column::text("service", "service"),
    Column::text("counted", "as_of"),
    Column::text("oldest that waits", "oldest_unacknowledged.id"),
    Column::text("  of the key", "oldest_unacknowledged.key"),
    Column::seconds("  since", "oldest_unacknowledged.age_seconds"),
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
    Column::text("mails that have not left", "mails_unsent"),
    Column::text("calls that have not left", "webhooks_unsent"),
    Column::text("dead letters", "dead_letters"),
    Column::text("keys in quarantine", "quarantined_keys"),
    Column::text("jobs under way", "jobs_open"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin overview --watch
  stockloop admin overview --json | jq .events.EXHAUSTED")]
pub(super) struct OverviewArgs {
    /// Show it again and again, after so many seconds each time (2 unless told), until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

pub(super) async fn run(at: &Session, args: OverviewArgs) -> anyhow::Result<Ending> {
    loop {
        let raw = at.client.get(&["overview"], &Query::default()).await?;
        if args.watch.is_some() && !at.json && io::stdout().is_terminal() {
            console::Term::stdout().clear_screen()?;
        }
        at.answer(&raw, |overview| show(at, overview))?;
        let Some(seconds) = args.watch else { return Ok(Ending::Done) };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

fn show(at: &Session, overview: &Value) -> io::Result<()> {
    at.say_table(COUNTS, std::slice::from_ref(overview), true)?;
    if overview["rates"].is_object() {
        at.say("")?;
        at.say_table(RATES, std::slice::from_ref(overview), true)?;
    }
    if overview["latencies"].is_object() {
        at.say("")?;
        at.say_table(LATENCIES, &latencies(overview), true)?;
    }
    if let Some(consumers) = overview["consumers"].as_array() {
        at.say("")?;
        at.say_table(CONSUMERS, consumers, true)?;
    }
    at.say("")?;
    at.say_parts(PARTS, overview)
}

fn latencies(overview: &Value) -> [Value; 3] {
    [
        ("it is SENT", "commit_to_sent"),
        ("it is applied", "commit_to_applied"),
        ("it is acknowledged", "commit_to_acknowledged"),
    ]
    .map(|(stage, name)| json!({ "stage": stage, "took": overview["latencies"][name] }))
}
