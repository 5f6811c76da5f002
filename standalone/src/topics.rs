//! `stockloop topics`: makes the topics of the views and of the till, which are no service's, and looks at those that are
//! there.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use common::config::{KafkaSettings, Settings};
use common::env::Env;
use common::telemetry::{BrokerState, TopicReport};
use common::view_topics::{FEEDS, TABLES};
use engine::kafka::{KafkaError, TopicUse, TopicWatch, ensure_compacted_topics, ensure_topics};

/// `stockloop topics`.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TopicsArgs {
    /// The broker; by default STOCKLOOP__KAFKA__BROKERS, or 127.0.0.1:9092.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
}

const AFTER_HELP: &str = "\
The services make and look at their own topics. These are those of deploy/flink: what says how
something is keeps the last message of each key (compaction), and what a till sells is kept for as
long as kafka.retention says. One that is there stays as it is; what does not fit is printed, with
what to do.

Environment:
  STOCKLOOP__KAFKA__…    as for the services

Exit codes:
  0  all are there, and fit
  1  failed, or one does not fit
  2  not understood";

/// Makes what is missing, and says what does not fit.
pub(crate) async fn run(args: TopicsArgs) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::load(product_service::SERVICE.defaults, None)?;
    if let Some(brokers) = args.brokers {
        settings.kafka.brokers = brokers;
    }
    let kafka = &settings.kafka;
    let all = FEEDS.map(|name| (name.to_owned(), TopicUse::Feed));
    let all = all.into_iter().chain(TABLES.map(|name| (name.to_owned(), TopicUse::Table)));
    let watch = TopicWatch::new(kafka, all.collect(), settings.outbox.ack_timeout)?;
    let look = watch.look().await.map_err(anyhow::Error::msg);
    let found = look.with_context(|| {
        format!("is a broker at {}? Set its address with --brokers", kafka.brokers)
    })?;
    let is_missing = |name: &str| found.iter().any(|one| one.topic == name && one.partitions == 0);
    let missing = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| is_missing(name)).collect()
    };
    make(kafka, "", &missing(&FEEDS), &missing(&TABLES)).await?;
    found.iter().for_each(print);
    let fits = |one: &TopicReport| one.partitions == 0 || one.faults.is_empty();
    Ok(if found.iter().all(fits) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes those of these topics that are missing, with `suffix` behind their names.
///
/// # Errors
/// When the broker can't be reached, or refuses.
pub(crate) async fn make(
    kafka: &KafkaSettings,
    suffix: &str,
    feeds: &[&str],
    tables: &[&str],
) -> Result<(), KafkaError> {
    let broker = BrokerState::new(Env::system());
    let own = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{name}{suffix}")).collect()
    };
    let (feeds, tables) = (own(feeds), own(tables));
    let feeds: Vec<&str> = feeds.iter().map(String::as_str).collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    if !feeds.is_empty() {
        ensure_topics(kafka, &feeds, broker.clone()).await?;
    }
    if !tables.is_empty() {
        ensure_compacted_topics(kafka, &tables, broker).await?;
    }
    Ok(())
}

/// Prints what was found of a topic; one that was missing is made by now.
fn print(found: &TopicReport) {
    let TopicReport { topic, partitions, faults } = found;
    match (partitions, &**faults) {
        (0, _) => println!("{topic}: made"),
        (_, []) => println!("{topic}: fits"),
        (_, faults) => println!("{topic}: {}", faults.join("; ")),
    }
}
