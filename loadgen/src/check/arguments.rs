//! What the judge is asked: its command line, and the variables of the environment that stand for some of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use common::clock::{Clock, SystemClock, Timestamp};
use common::db::Url;

use crate::programs::{COPY, OWNER};
use crate::topics::{EVENTS, ORDERS};

/// Checks, without writing anything, whether what both databases, the topics and the mails say holds together.
///
/// It reads both services' databases, and holds the invariants of docs/ARCHITECTURE.md against them: each change has
/// arrived or a person knows; one effect per event; the copy equals its source; only legal transitions; one alert for
/// each exhaustion; stock is conserved. It asks no service anything, so it finds what they would not tell. It may run
/// beside them: what moves is looked at again, and it locks nothing.
///
/// What is found is listed with the next step for a person. What could not be checked is listed, too, with the reason.
/// docs/CHECK.md explains every line.
///
/// The exit code is 0 if nothing was found, 1 if something was, and 2 if it could not look at everything it was asked to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen check --product-database sqlite:stockloop-data/product.db --order-database sqlite:stockloop-data/order.db
  stockloop-loadgen check --product-database postgres://reader:secret@db/product --order-database postgres://reader:secret@db/orders
  stockloop-loadgen check --settled --brokers 127.0.0.1:9092 --mail http://127.0.0.1:8083 --json check.json

A password on the command line can be seen by others on the machine: the last example has the URLs from the variables
STOCKLOOP_CHECK_PRODUCT_DATABASE and STOCKLOOP_CHECK_ORDER_DATABASE. The broker's are written with underscores, such as
STOCKLOOP_CHECK_KAFKA_SASL_PASSWORD for sasl.password.")]
pub(crate) struct Arguments {
    /// product-service's database; a user who may only read is enough
    #[arg(
        long,
        value_name = "URL",
        env = "STOCKLOOP_CHECK_PRODUCT_DATABASE",
        hide_env_values = true
    )]
    pub(super) product_database: Url,
    /// order-service's database
    #[arg(
        long,
        value_name = "URL",
        env = "STOCKLOOP_CHECK_ORDER_DATABASE",
        hide_env_values = true
    )]
    pub(super) order_database: Url,
    /// Also look whether SENT events lie on their topics where that was noted
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) brokers: Option<String>,
    /// A property of librdkafka for that, such as security.protocol=SSL; may be repeated
    // A text: clap would show one that it can't read, and it may be a password.
    #[arg(long, value_name = "NAME=VALUE", requires = "brokers")]
    kafka_property: Vec<String>,
    /// product-service's topic
    #[arg(long, value_name = "TOPIC", default_value = EVENTS)]
    pub(super) product_topic: String,
    /// order-service's topic
    #[arg(long, value_name = "TOPIC", default_value = ORDERS)]
    pub(super) order_topic: String,
    /// Places on each topic that are looked at, at the most: those of the newest events
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) places: u32,
    /// Also look whether mails tell of the alerts, and whether this mail catcher has them
    #[arg(long, value_name = "URL")]
    pub(super) mail: Option<String>,
    /// All is at rest: what still waits, or moves, is a finding
    #[arg(long)]
    pub(super) settled: bool,
    /// How long the services keep everything, such as 30d or 12h; left out, the oldest rows tell
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) kept: Option<Duration>,
    /// How long what moves is looked at again
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(super) patience: Duration,
    /// What product-service calls itself in its answers (service.name)
    #[arg(long, value_name = "NAME", default_value = OWNER)]
    pub(super) product_name: String,
    /// What order-service calls itself
    #[arg(long, value_name = "NAME", default_value = COPY)]
    pub(super) order_name: String,
    /// Findings of each kind that are listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) first: usize,
    /// Also write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// How far the services' clocks are ahead of this machine's: in trials alone.
    #[arg(skip)]
    pub(super) ahead: Duration,
}

impl Arguments {
    /// For a system at rest that is called as it is by itself, with all that it stands on.
    pub(crate) fn settled(databases: [Url; 2], brokers: String, mail: String) -> Self {
        let [product_database, order_database] = databases;
        Self {
            product_database,
            order_database,
            brokers: Some(brokers),
            kafka_property: Vec::new(),
            product_topic: EVENTS.to_owned(),
            order_topic: ORDERS.to_owned(),
            places: 2_000,
            mail: Some(mail),
            settled: true,
            kept: None,
            patience: Duration::from_secs(15),
            product_name: OWNER.to_owned(),
            order_name: COPY.to_owned(),
            first: 10,
            json: None,
            ahead: Duration::ZERO,
        }
    }

    /// The same, where the services keep things for so short.
    pub(crate) fn kept_for(self, kept: Duration) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// The same, where the services' clocks are so far ahead of this machine's.
    pub(crate) fn ahead_by(self, ahead: Duration) -> Self {
        Self { ahead, ..self }
    }

    /// The time by the services' clocks.
    pub(super) fn time(&self) -> Timestamp {
        SystemClock.now().after(self.ahead)
    }

    /// The broker's properties.
    pub(super) fn properties(&self) -> Result<Vec<(String, String)>> {
        properties(&self.kafka_property, std::env::vars_os())
    }
}

/// Reads a time such as `90s`, `15m`, `12h` or `30d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write a number and s, m, h or d, such as 30d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match text.strip_prefix(digits) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// What the names of variables with the broker's properties begin with.
const PROPERTY: &str = "STOCKLOOP_CHECK_KAFKA_";

/// The broker's properties: those of `variables`, then what was `said`. What can't be read is not repeated, since it may be a
/// password.
fn properties(
    said: &[String],
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>> {
    let of_variable = |(name, value): (OsString, OsString)| {
        let name = name.to_str()?.strip_prefix(PROPERTY)?.to_lowercase().replace('_', ".");
        Some((name, value.into_string().ok()?))
    };
    let mut properties: Vec<(String, String)> = variables.filter_map(of_variable).collect();
    for text in said {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| anyhow!("--kafka-property: write NAME=VALUE"))?;
        properties.push((name.to_owned(), value.to_owned()));
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_from_variables_and_from_what_was_said() {
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let variables =
            [variable("STOCKLOOP_CHECK_KAFKA_SASL_PASSWORD", "a=b"), variable("PATH", "/bin")];
        let read = properties(&["sasl.username=me".to_owned()], variables.into_iter()).ok();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read, Some(vec![pair("sasl.password", "a=b"), pair("sasl.username", "me")]));
        let wrong = properties(&["=hidden".to_owned()], std::iter::empty());
        assert!(wrong.is_err_and(|error| !error.to_string().contains("hidden")));
    }

    #[test]
    fn times_are_read() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(2_592_000)));
        for wrong in ["", "d", "30", "30w", "-1s", "1.5h", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
