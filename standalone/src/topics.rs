//! `stockloop topics`: makes the topics of the views and of the till, which are no service's, and looks at those that are
//! there.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use common::config::{KafkaSettings, Settings};
use common::env::Env;
use common::telemetry::BrokerState;
use common::view_topics::{FEEDS, TABLES};
use engine::kafka::{
    KafkaError, LookError, TopicLook, TopicUse, TopicWatch, ensure_compacted_topics, ensure_topics,
};

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
what to do. The user needs DESCRIBE and DESCRIBE_CONFIGS on them, and CREATE on those that are
missing.

Environment:
  STOCKLOOP__KAFKA__…    as for the services

Exit codes:
  0  all are there, and fit
  1  failed, or one does not fit, or can't be seen
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
    // No answer is waited for on these, so only kafka.retention says how long they keep messages.
    let watch = TopicWatch::new(kafka, all.collect(), Duration::ZERO)?;
    let found = look(&watch, kafka).await?;
    let is_missing =
        |name: &str| found.iter().any(|one| one.report.topic == name && one.is_missing);
    let missing = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| is_missing(name)).collect()
    };
    let (feeds, tables) = (missing(&FEEDS), missing(&TABLES));
    // Before anything is made, which may fail.
    let there: Vec<&TopicLook> = found.iter().filter(|one| !one.is_missing).collect();
    there.iter().for_each(|one| println!("{}", told(one)));
    let made = make(kafka, "", &feeds, &tables).await?;
    made.iter().for_each(|name| println!("{name}: made"));
    let mut all_fit = there.iter().all(|one| fits(one));
    if made.len() < feeds.len() + tables.len() {
        // Somebody else has made them since.
        let is_new =
            |one: &&TopicLook| is_missing(&one.report.topic) && !made.contains(&one.report.topic);
        for one in look(&watch, kafka).await?.iter().filter(is_new) {
            println!("{}", told(one));
            all_fit &= fits(one);
        }
    }
    Ok(if all_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(watch: &TopicWatch, kafka: &KafkaSettings) -> anyhow::Result<Vec<TopicLook>> {
    let looked = watch.look().await;
    looked.map_err(|error| match error {
        LookError::Unanswered { .. } => anyhow::Error::msg(error.to_string())
            .context(format!("is a broker at {}? Set its address with --brokers", kafka.brokers)),
        error => error.into(),
    })
}

/// Makes those of these topics that are missing, with `suffix` behind their names; returns which were made.
///
/// # Errors
/// When the broker can't be reached, or refuses.
pub(crate) async fn make(
    kafka: &KafkaSettings,
    suffix: &str,
    feeds: &[&str],
    tables: &[&str],
) -> Result<Vec<String>, KafkaError> {
    let broker = BrokerState::new(Env::system());
    let own = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{name}{suffix}")).collect()
    };
    let (feeds, tables) = (own(feeds), own(tables));
    let feeds: Vec<&str> = feeds.iter().map(String::as_str).collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let mut made = Vec::new();
    if !feeds.is_empty() {
        made.extend(ensure_topics(kafka, &feeds, broker.clone()).await?);
    }
    if !tables.is_empty() {
        made.extend(ensure_compacted_topics(kafka, &tables, broker).await?);
    }
    Ok(made)
}

/// Whether all of a topic was seen, and is as it has to be.
fn fits(look: &TopicLook) -> bool {
    look.report.faults.is_empty() && look.unseen.is_none()
}

/// What a look at a topic came to, in a line.
fn told(look: &TopicLook) -> String {
    let unseen = look.unseen.iter().map(|why| format!("its settings can't be seen: {why}"));
    let words: Vec<String> = look.report.faults.iter().cloned().chain(unseen).collect();
    let words = if words.is_empty() { "fits".to_owned() } else { words.join("; ") };
    format!("{}: {words}", look.report.topic)
}

#[cfg(test)]
mod tests {
    use common::telemetry::TopicReport;

    use super::*;

    fn found(faults: &[&str], unseen: Option<&str>) -> TopicLook {
        let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        let report = TopicReport { topic: "till".to_owned(), partitions: 4, faults };
        TopicLook { report, is_missing: false, unseen: unseen.map(str::to_owned) }
    }

    #[test]
    fn only_what_was_seen_and_has_no_fault_fits() {
        let one = found(&[], None);
        assert_eq!((fits(&one), told(&one)), (true, "till: fits".to_owned()));
        let one = found(&["allow DESCRIBE on it"], None);
        assert_eq!((fits(&one), told(&one)), (false, "till: allow DESCRIBE on it".to_owned()));
        let one = found(&[], Some("allow DESCRIBE_CONFIGS on it"));
        let words = "till: its settings can't be seen: allow DESCRIBE_CONFIGS on it";
        assert_eq!((fits(&one), told(&one)), (false, words.to_owned()));
        let one = found(&["few partitions"], Some("timed out"));
        let words = "till: few partitions; its settings can't be seen: timed out";
        assert_eq!((fits(&one), told(&one)), (false, words.to_owned()));
    }
}
