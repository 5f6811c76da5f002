//! The judge: reads both services' databases, the topics and the mail catcher, and holds the invariants against them.
//!
//! It asks no service anything and shares no code with what it judges but the contract in `common`. Each invariant has a
//! file with a pure function over rows, which says what is wrong with them: [`arrival`] (I1), [`effects`] (I2), [`copy`] and
//! [`source`] (I3), [`transitions`] and [`mod@places`] (I4), [`alerts`] and [`mails`] (I5), [`stock`], [`causes`],
//! [`reservations`] and [`orders`] (I7). [`reader`] reads pages of [`rows`], [`kept`] knows what may be gone, [`suspects`] are judged
//! again before they are told, and [`report`] tells what was found.

mod alerts;
mod arrival;
mod causes;
mod copy;
mod effects;
mod finding;
mod kept;
mod mails;
mod orders;
mod places;
mod reader;
mod report;
mod reservations;
mod rows;
mod source;
mod stock;
mod suspects;
mod transitions;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use clap::Args;
use common::clock::{Clock, SystemClock, Timestamp};
use common::db::Url;
use serde_json::Value;

use self::finding::{Invariant, Side};
use self::kept::Kept;
use self::reader::Reader;
use self::report::Report;

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
    product_database: Url,
    /// order-service's database
    #[arg(
        long,
        value_name = "URL",
        env = "STOCKLOOP_CHECK_ORDER_DATABASE",
        hide_env_values = true
    )]
    order_database: Url,
    /// Also look whether SENT events lie on their topics where that was noted
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// A property of librdkafka for that, such as security.protocol=SSL; may be repeated
    // A text: clap would show one that it can't read, and it may be a password.
    #[arg(long, value_name = "NAME=VALUE", requires = "brokers")]
    kafka_property: Vec<String>,
    /// product-service's topic
    #[arg(long, value_name = "TOPIC", default_value = "stockloop.inventory.v1")]
    product_topic: String,
    /// order-service's topic
    #[arg(long, value_name = "TOPIC", default_value = "stockloop.orders.v1")]
    order_topic: String,
    /// Places on each topic that are looked at, at the most: those of the newest events
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    places: u32,
    /// Also look whether mails tell of the alerts, and whether this mail catcher has them
    #[arg(long, value_name = "URL")]
    mail: Option<String>,
    /// All is at rest: what still waits, or moves, is a finding
    #[arg(long)]
    settled: bool,
    /// How long the services keep everything, such as 30d or 12h; left out, the oldest rows tell
    #[arg(long, value_name = "TIME", value_parser = duration)]
    kept: Option<Duration>,
    /// How long what moves is looked at again
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    patience: Duration,
    /// What product-service calls itself in its answers (service.name)
    #[arg(long, value_name = "NAME", default_value = "product-service")]
    product_name: String,
    /// What order-service calls itself
    #[arg(long, value_name = "NAME", default_value = "order-service")]
    order_name: String,
    /// Findings of each kind that are listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    first: usize,
    /// Also write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What every judge has to know.
#[derive(Debug, Clone, Default)]
struct Terms {
    /// When the check began.
    now: Timestamp,
    /// Whether all is at rest.
    settled: bool,
    /// How long everything is kept, if the caller says so.
    kept: Option<Duration>,
    /// How long what moves is looked at again.
    patience: Duration,
}

/// Exit codes, as `--help` tells them.
const FOUND: u8 = 1;
const COULD_NOT_LOOK: u8 = 2;

/// Checks, prints what was found, and says with the exit code what it came to.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    // A file that can't be written is said before the work, not after it.
    let code = match JsonFile::create(arguments.json.as_deref()) {
        Ok(file) => tell(&check(arguments), file, &mut std::io::stdout().lock()),
        Err(error) => {
            complain(&error);
            COULD_NOT_LOOK
        }
    };
    ExitCode::from(code)
}

/// Writes what the check came to, into the file first, since who reads `out` may hang up; returns the exit code.
fn tell(checked: &Result<Report>, file: Option<JsonFile<'_>>, out: &mut impl Write) -> u8 {
    let json = checked.as_ref().map_or_else(report::json_of_error, Report::to_json);
    let written = file.map_or(Ok(()), |file| file.write(&json));
    let printed = checked.as_ref().map_or(Ok(()), |report| report.print(out));
    let printed = printed.context("cannot print what was found");
    for error in [checked.as_ref().err(), written.as_ref().err(), printed.as_ref().err()] {
        error.into_iter().for_each(complain);
    }
    match checked {
        Ok(report) if report.has_findings() => FOUND,
        Ok(report) if report.is_whole() && written.is_ok() && printed.is_ok() => 0,
        _ => COULD_NOT_LOOK,
    }
}

fn complain(error: &Error) {
    eprintln!("stockloop-loadgen: {error:#}");
}

/// The file that everything is written to, if that was asked for.
struct JsonFile<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> JsonFile<'a> {
    fn create(path: Option<&'a Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Self { path, file }))
    }

    fn write(mut self, json: &Value) -> Result<()> {
        let json = serde_json::to_vec_pretty(json)?;
        let written = self.file.write_all(&json);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn check(arguments: &Arguments) -> Result<Report> {
    let properties = properties(&arguments.kafka_property, std::env::vars_os())?;
    let terms = Terms {
        now: SystemClock.now(),
        settled: arguments.settled,
        kept: arguments.kept,
        patience: arguments.patience,
    };
    let mut product = Reader::open(Side::Product, &arguments.product_database, "order_record")?;
    let mut order = Reader::open(Side::Order, &arguments.order_database, "order_step")?;
    let kept = Kept::read(&mut product, &mut order, &terms)?;
    let mut report = Report::new(arguments.first);
    judge((arguments, properties.as_slice()), &terms, &kept, &mut product, &mut order, &mut report);
    report.unchecked(
        "I6 (memory is bounded, backlogs drain): it can't be seen in databases; look at the services' memory and at the ages of what waits, above",
    );
    if !kept.restored.is_empty() {
        report.unchecked(
            "a database came back from a backup: what only one side knows of the lost time is not told as a finding; see docs/OPERATIONS.md#after-a-restore-from-a-backup",
        );
    }
    Ok(report)
}

/// Lets one judge after the other look; where one can't, the others do.
fn judge(
    (arguments, properties): (&Arguments, &[(String, String)]),
    terms: &Terms,
    kept: &Kept,
    product: &mut Reader,
    order: &mut Reader,
    report: &mut Report,
) {
    for reader in [&mut *product, &mut *order] {
        let done = arrival::check(reader, terms, report);
        report.note_end(Invariant::I1, done);
        let done = transitions::check(reader, report);
        report.note_end(Invariant::I4, done);
        let done = alerts::check(reader, report);
        report.note_end(Invariant::I5, done);
    }
    let done = transitions::check_orders(order, report);
    report.note_end(Invariant::I4, done);
    let known = (terms, kept);
    let to_order = effects::Way { consumer: &arguments.order_name };
    let done = effects::check(product, order, &to_order, known, report);
    report.note_end(Invariant::I2, done);
    let to_product = effects::Way { consumer: &arguments.product_name };
    let done = effects::check(order, product, &to_product, known, report);
    report.note_end(Invariant::I2, done);
    let done = source::check(product, order, known, report);
    report.note_end(Invariant::I3, done);
    let done = copy::check(product, order, (terms, arguments.order_name.as_str()), report);
    report.note_end(Invariant::I3, done);
    let done = stock::check(product, order, known, report);
    report.note_end(Invariant::I7, done);
    let done = causes::check(product, order, known, report);
    report.note_end(Invariant::I7, done);
    let done = reservations::check(order, report);
    report.note_end(Invariant::I7, done);
    let done = orders::check(product, order, known, report);
    report.note_end(Invariant::I7, done);
    let both = [(&mut *product, &arguments.product_topic), (&mut *order, &arguments.order_topic)];
    for (reader, topic) in both {
        places((arguments, properties), reader, topic, report);
        mail(arguments, reader, terms, report);
    }
    if arguments.brokers.is_none() {
        report.unchecked("I4, where SENT events lie on the topics: say --brokers HOST:PORT");
    }
    if arguments.mail.is_none() {
        report
            .unchecked("I5, whether mails tell of the alerts: say --mail URL of the mail catcher");
    }
}

fn places(
    (arguments, properties): (&Arguments, &[(String, String)]),
    reader: &mut Reader,
    topic: &str,
    report: &mut Report,
) {
    if let Some(brokers) = &arguments.brokers {
        let most = i64::from(arguments.places);
        let asked = places::Asked { brokers, properties, topic, most };
        let done = places::check(reader, &asked, report);
        report.note_end(Invariant::I4, done);
    }
}

fn mail(arguments: &Arguments, reader: &mut Reader, terms: &Terms, report: &mut Report) {
    if let Some(catcher) = &arguments.mail {
        let done = mails::check(reader, catcher, terms, report);
        report.note_end(Invariant::I5, done);
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
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is in the file, and the exit code, of a check that came to this.
    fn told(checked: &Result<Report>) -> (Value, u8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check.json");
        let file = JsonFile::create(Some(path.as_path())).unwrap();
        let code = tell(checked, file, &mut Gone);
        (serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap(), code)
    }

    /// A reader that hung up.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_file_has_everything_also_if_nobody_reads_what_is_printed() {
        let (written, code) = told(&Ok(Report::new(1)));
        assert_eq!((&written["whole"], code), (&json!(true), 0));
        let (written, code) = told(&Err(anyhow!("no database").context("it can't be read")));
        let expected = json!({ "whole": false, "unchecked": ["it can't be read: no database"] });
        assert_eq!((written, code), (expected, COULD_NOT_LOOK));
    }

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
