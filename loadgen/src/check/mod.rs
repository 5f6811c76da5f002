//! The judge: reads both services' databases, the topics and the mail catcher, and holds the invariants against them.
//!
//! It asks no service anything and shares no code with what it judges but the contract in `common`. Each judge is a file or a
//! folder with a pure function over rows, which says what is wrong with them: [`arrival`] (I1), [`effects`] (I2), [`copy`] and
//! [`source`] (I3), [`transitions`] and [`places`] (I4), [`alerts`] and [`mails`] (I5), [`stock`], [`causes`],
//! [`reservations`] and [`orders`] (I7). [`reader`] reads pages, [`rows`] are those that several judges read, [`kept`] knows
//! what may be gone, [`suspects`] are judged again before they are told, and [`report`] tells what was found.

mod alerts;
mod arguments;
mod arrival;
mod causes;
mod copy;
mod effects;
mod finding;
mod json_file;
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

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use common::clock::Timestamp;

pub(crate) use self::arguments::Arguments;
use self::finding::Invariant;
pub(crate) use self::finding::{Kind, Side};
use self::json_file::JsonFile;
use self::kept::Kept;
pub(crate) use self::reader::{Reader, number};
use self::report::Report;

/// What every judge has to know.
#[derive(Debug, Clone, Default)]
struct Terms {
    /// When the check began.
    now: Timestamp,
    /// How far the services' clocks are ahead of this machine's.
    ahead: Duration,
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

/// Looks at everything, and says what there is to say.
pub(crate) fn check(arguments: &Arguments) -> Result<Report> {
    let properties = arguments.properties()?;
    let terms = Terms {
        now: arguments.time(),
        ahead: arguments.ahead,
        settled: arguments.settled,
        kept: arguments.kept,
        patience: arguments.patience,
    };
    let mut product = Reader::open(Side::Product, &arguments.product_database, "order_record")?;
    let mut order = Reader::open(Side::Order, &arguments.order_database, "order_step")?;
    let kept = Kept::read(&mut product, &mut order, &terms)?;
    let mut report = Report::new(arguments.first);
    let readers = (&mut product, &mut order);
    judge_databases(arguments, (&terms, &kept), readers, &mut report);
    let (readers, outside) = ((&mut product, &mut order), (&terms, properties.as_slice()));
    judge_outside(arguments, outside, readers, &mut report);
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

/// Lets one judge of the databases after the other look; where one can't, the others do.
fn judge_databases(
    arguments: &Arguments,
    (terms, kept): (&Terms, &Kept),
    (product, order): (&mut Reader, &mut Reader),
    report: &mut Report,
) {
    let known = (terms, kept);
    for reader in [&mut *product, &mut *order] {
        report.judge(Invariant::I1, |report| arrival::check(reader, terms, report));
        report.judge(Invariant::I4, |report| transitions::check(reader, report));
        report.judge(Invariant::I5, |report| alerts::check(reader, report));
    }
    report.judge(Invariant::I4, |report| transitions::check_orders(order, report));
    let there = effects::Way { consumer: &arguments.order_name };
    report.judge(Invariant::I2, |report| effects::check(product, order, &there, known, report));
    let back = effects::Way { consumer: &arguments.product_name };
    report.judge(Invariant::I2, |report| effects::check(order, product, &back, known, report));
    report.judge(Invariant::I3, |report| source::check(product, order, known, report));
    let consumer = (terms, arguments.order_name.as_str());
    report.judge(Invariant::I3, |report| copy::check(product, order, consumer, report));
    report.judge(Invariant::I7, |report| stock::check(product, order, known, report));
    report.judge(Invariant::I7, |report| causes::check(product, order, known, report));
    report.judge(Invariant::I7, |report| reservations::check(order, report));
    report.judge(Invariant::I7, |report| orders::check(product, order, known, report));
}

/// Lets the judges look that hold the databases against the topics and the mails, where they are asked to.
fn judge_outside(
    arguments: &Arguments,
    (terms, properties): (&Terms, &[(String, String)]),
    (product, order): (&mut Reader, &mut Reader),
    report: &mut Report,
) {
    for (reader, topic) in [(product, &arguments.product_topic), (order, &arguments.order_topic)] {
        if let Some(brokers) = &arguments.brokers {
            let most = i64::from(arguments.places);
            let asked = places::Asked { brokers, properties, topic, most };
            report.judge(Invariant::I4, |report| places::check(reader, &asked, report));
        }
        if let Some(catcher) = &arguments.mail {
            report.judge(Invariant::I5, |report| mails::check(reader, catcher, terms, report));
        }
    }
    if arguments.brokers.is_none() {
        report.unchecked("I4, where SENT events lie on the topics: say --brokers HOST:PORT");
    }
    if arguments.mail.is_none() {
        report
            .unchecked("I5, whether mails tell of the alerts: say --mail URL of the mail catcher");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use anyhow::anyhow;
    use serde_json::{Value, json};

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
}
