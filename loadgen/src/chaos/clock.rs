//! Processes whose clocks are wrong: libfaketime is loaded before everything else, and stands between them and the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use common::clock::Timestamp;
use serde_json::Value;

/// Names the library, where it is none of the usual places.
const VARIABLE: &str = "STOCKLOOP_LIBFAKETIME";

/// The library as packages call it, for programs of several threads, below a folder of libraries.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Folders of libraries; packages for several kinds of processors have folders in the first one.
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// Why no clock can be wrong here, if none can.
pub(super) fn missing() -> Option<String> {
    find().err().map(|error| error.to_string())
}

/// What a process is told whose clock is so many seconds ahead, or behind; nothing where it is right.
pub(super) fn settings(seconds: i32) -> Result<Vec<(&'static str, String)>> {
    if seconds == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![
        ("LD_PRELOAD", find()?.display().to_string()),
        ("FAKETIME", format!("{seconds:+}")),
        // Clocks that are wrong still go on evenly. The second name is that of older versions.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// How far apart two looks at the same clock may be that are said to be at once.
const SLACK: Duration = Duration::from_secs(1);

/// Whether a process that wrote this log, and began to between these two moments, has a clock that is off by so many seconds.
pub(super) fn is_off_by(seconds: i32, log: &str, [from, to]: [Timestamp; 2]) -> bool {
    let off = Duration::from_secs(u64::from(seconds.unsigned_abs()));
    let right = |by_its_clock: Timestamp| match seconds {
        0.. => by_its_clock.before(off),
        _ => by_its_clock.after(off),
    };
    let first = log.lines().find_map(written_at).map(right);
    first.is_some_and(|first| (from.before(SLACK)..=to.after(SLACK)).contains(&first))
}

/// When a line was written, if it says so.
fn written_at(line: &str) -> Option<Timestamp> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["timestamp"].as_str()?.parse().ok()
}

fn find() -> Result<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let of_processors = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let folders = FOLDERS.map(PathBuf::from).into_iter();
    let folders = folders.chain(of_processors.map(|entry| entry.path()));
    let mut places = named.into_iter().chain(folders.map(|folder| folder.join(LIBRARY)));
    places.find(|place| Path::is_file(place)).with_context(|| {
        format!(
            "{LIBRARY} is not below /usr/lib; install the package libfaketime, or name the file in {VARIABLE}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_known_by_the_first_line_of_a_log() {
        let log = "order-service begins\n\
            {\"level\":\"INFO\",\"timestamp\":\"1970-01-01T00:10:00Z\",\"message\":\"starting\"}\n\
            {\"timestamp\":\"1970-01-01T00:20:00Z\"}\n";
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let is_off_by = |seconds, began| is_off_by(seconds, log, [at(began), at(began + 3)]);
        assert!(is_off_by(0, 598) && is_off_by(5, 594) && is_off_by(-120, 719));
        for (seconds, began) in [(5, 598), (-5, 598), (120, 598), (30, 500)] {
            assert!(!is_off_by(seconds, began), "{seconds} s");
        }
        assert!(!super::is_off_by(0, "no time", [at(0), at(1)]));
    }
}
