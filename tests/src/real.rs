//! The gate: a part that is missing skips a test in plain sight, or fails it where that is demanded.

use std::io::Write;

use crate::browser::{Axe, Chromium};
use crate::connect::Debezium;
use crate::disk::SmallDisk;
use crate::flink::Flink;
use crate::kafka::KafkaBroker;
use crate::postgres::PostgresServer;

/// Set to `1`, this variable turns every skipped test into a failed one.
pub const REQUIRE_REAL: &str = "STOCKLOOP_REQUIRE_REAL";

/// The PostgreSQL server of this test process, started on first use.
pub fn postgres() -> Option<&'static PostgresServer> {
    available("PostgreSQL", PostgresServer::shared())
}

/// The Kafka broker of this test process, started on first use.
pub fn kafka() -> Option<&'static KafkaBroker> {
    available("Kafka", KafkaBroker::shared())
}

/// Kafka Connect and Debezium's connector, fetched on first use.
pub fn debezium() -> Option<&'static Debezium> {
    available("Debezium", Debezium::shared())
}

/// Flink and its connector for Kafka, fetched on first use.
pub fn flink() -> Option<&'static Flink> {
    available("Flink", Flink::shared())
}

/// Chromium behind its driver, started on first use.
pub fn chromium() -> Option<&'static Chromium> {
    available("Chromium", Chromium::shared())
}

/// The accessibility check, fetched on first use.
pub fn axe() -> Option<&'static Axe> {
    available("axe-core", Axe::shared())
}

/// A disk of so many MiB. A right is nothing that could be installed: where that to mount is missing, a test is skipped
/// whatever is demanded.
pub fn small_disk(mib: u64) -> Option<SmallDisk> {
    if let Some(missing) = SmallDisk::missing() {
        say(&skipped("small disk", &missing));
        return None;
    }
    available("small disk", SmallDisk::mount(mib))
}

/// What was `started`; or `None` with a line that names `part` and why it is missing.
///
/// Panics instead if `STOCKLOOP_REQUIRE_REAL=1`.
pub fn available<T>(part: &str, started: anyhow::Result<T>) -> Option<T> {
    let error = match started {
        Ok(ready) => return Some(ready),
        Err(error) => error,
    };
    let skipped = skipped(part, &format!("{error:#}"));
    if std::env::var_os(REQUIRE_REAL).is_some_and(|value| value == "1") {
        panic!("{skipped} ({REQUIRE_REAL}=1 forbids skipping)");
    }
    say(&skipped);
    None
}

fn skipped(part: &str, why: &str) -> String {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    format!("SKIPPED: {test} needs a real {part}: {why}")
}

fn say(line: &str) {
    // Not eprintln!, which the test runner swallows when a test passes.
    let _ = writeln!(std::io::stderr(), "{line}");
}
