//! Processes whose clocks are wrong: libfaketime is loaded before everything else, and stands between them and the time.
//!
//! It leaves out how threads wait by C11, which is how librdkafka's do: till a moment by the wrong clock, waited for by the
//! right one, so with a clock a month ahead they would wait for a month. [`Waits`] has them wait by POSIX, which it knows.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::clock::Timestamp;
use serde_json::Value;
use stockloop_tests::process::ScratchFolder;

/// Names the library, where it is none of the usual places.
const VARIABLE: &str = "STOCKLOOP_LIBFAKETIME";

/// The library as packages call it, for programs of several threads, below a folder of libraries.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Folders of libraries; packages for several kinds of processors have folders in the first one.
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// How threads wait by C11, in terms of POSIX: glibc has one and the same below both.
const WAITS: &str = "#include <errno.h>
#include <pthread.h>
#include <threads.h>
int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *until) {
    int error = pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, until);
    return error == 0 ? thrd_success : error == ETIMEDOUT ? thrd_timedout : thrd_error;
}
";

/// Why no clock can be wrong here, if none can.
pub(super) fn missing() -> Option<String> {
    let compiler = || match compiler().arg("--version").output() {
        Ok(_) => None,
        Err(error) => Some(format!("a C compiler, {COMPILER}, can't be started: {error}")),
    };
    find().err().map(|error| error.to_string()).or_else(compiler)
}

/// The clock of a process.
pub(super) struct ProcessClock {
    /// So many seconds it is ahead, or behind.
    seconds: i32,
    /// Where the process looks for that while it runs, if its clock can jump.
    file: Option<OffsetFile>,
    /// There, if the clock was wrong once or can jump.
    waits: Option<Waits>,
    /// The number of the last process that libfaketime was loaded into.
    pid: Option<u32>,
}

/// What libfaketime makes for a process, with its number behind. It is the shell's before the program takes its place, so the
/// program does not remove it in the end, and one that is killed could not.
const SHARED: [&str; 2] = ["/dev/shm/faketime_shm_", "/dev/shm/sem.faketime_sem_"];

impl ProcessClock {
    /// One that is right, and goes on as it is while its process runs, unless it can jump.
    pub(super) fn new(can_jump: bool) -> Result<Self> {
        let file = can_jump.then(OffsetFile::new).transpose()?;
        let waits = can_jump.then(Waits::new).transpose()?;
        Ok(Self { seconds: 0, file, waits, pid: None })
    }

    /// A process of this number was started with what [`Self::settings`] say; the one before has ended.
    pub(super) fn begin(&mut self, pid: u32) {
        self.clean_up();
        let is_told = self.file.is_some() || self.seconds != 0;
        self.pid = is_told.then_some(pid);
    }

    /// Removes what libfaketime made for the last process.
    fn clean_up(&mut self) {
        let Some(pid) = self.pid.take() else { return };
        for made in SHARED {
            // Where it is not there, there is nothing to remove.
            let _ = fs::remove_file(format!("{made}{pid}"));
        }
    }

    pub(super) const fn seconds(&self) -> i32 {
        self.seconds
    }

    pub(super) const fn can_jump(&self) -> bool {
        self.file.is_some()
    }

    /// Sets it: at once if it can jump, and else from the next start of its process on.
    pub(super) fn set(&mut self, seconds: i32) -> Result<()> {
        // Where that can't be, it is said now, and not by a start that is tried again and again.
        match &self.file {
            Some(file) => file.write(seconds)?,
            None => find().map(drop)?,
        }
        if self.waits.is_none() {
            self.waits = Some(Waits::new()?);
        }
        self.seconds = seconds;
        Ok(())
    }

    /// What its process is told at its start; nothing where the clock is right, and stays so.
    pub(super) fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        let how = match &self.file {
            Some(file) => file.settings(),
            None if self.seconds == 0 => return Ok(Vec::new()),
            None => vec![("FAKETIME", offset(self.seconds))],
        };
        let waits = self.waits.iter().map(|waits| waits.path());
        let libraries: Vec<String> =
            waits.chain([find()?]).map(|library| library.display().to_string()).collect();
        let common = [
            ("LD_PRELOAD", libraries.join(" ")),
            // Clocks that are wrong still go on evenly. The second name is that of older versions.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Ok(common.into_iter().chain(how).collect())
    }
}

impl Drop for ProcessClock {
    fn drop(&mut self) {
        self.clean_up();
    }
}

/// A library that has threads wait as libfaketime knows it.
struct Waits {
    folder: ScratchFolder,
}

impl Waits {
    fn new() -> Result<Self> {
        let waits = Self { folder: ScratchFolder::new("waits")? };
        let source = waits.folder.path().join("waits.c");
        fs::write(&source, WAITS)
            .with_context(|| format!("{} can't be written", source.display()))?;
        let made =
            compiler().args(["-shared", "-fPIC", "-o"]).args([&waits.path(), &source]).output();
        let made = made.with_context(|| format!("a C compiler, {COMPILER}, can't be started"))?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "{} can't be compiled: {said}", source.display());
        Ok(waits)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("waits.so")
    }
}

const COMPILER: &str = "cc";

fn compiler() -> Command {
    Command::new(COMPILER)
}

/// A file that says how far a clock is off, and is read each time that its process asks for the time.
struct OffsetFile {
    folder: ScratchFolder,
}

impl OffsetFile {
    /// One of a clock that is right.
    fn new() -> Result<Self> {
        let file = Self { folder: ScratchFolder::new("clock")? };
        file.write(0)?;
        Ok(file)
    }

    /// The new one takes the old one's place: of one that is written to, a half may be read, and of +120 s, +12.
    fn write(&self, seconds: i32) -> Result<()> {
        let new = self.folder.path().join("new");
        let written = fs::write(&new, format!("{}\n", offset(seconds)))
            .and_then(|()| fs::rename(&new, self.path()));
        written.with_context(|| format!("{} can't be written", self.path().display()))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let path = self.path().display().to_string();
        vec![("FAKETIME_TIMESTAMP_FILE", path), ("FAKETIME_NO_CACHE", "1".to_owned())]
    }
}

/// As libfaketime reads it.
fn offset(seconds: i32) -> String {
    format!("{seconds:+}")
}

/// How far apart two looks at the same clock may be that are said to be at once.
const SLACK: Duration = Duration::from_secs(1);

/// Whether a process that wrote this log, and began to between these two moments, has a clock that is off by so many seconds.
pub(super) fn is_off_by(seconds: i32, log: &str, between: [Timestamp; 2]) -> bool {
    let first = log.lines().find_map(written_at);
    first.is_some_and(|first| around(between).contains(&right(first, seconds)))
}

/// What a process says when it does something for an operator, at that moment.
const ACTS: &str = "an operator acts";

/// Whether any of these lines is of a clock that is off by so many seconds, and of none that is right, as a process wrote it
/// that did something for an operator between these two moments. Others say nothing: 5 s later, those of a clock that is right
/// are as those of one that was 5 s ahead then.
pub(super) fn has_jumped_by(seconds: i32, lines: &str, between: [Timestamp; 2]) -> bool {
    let around = around(between);
    let is_it = |at: Timestamp| around.contains(&right(at, seconds)) && !around.contains(&at);
    lines.lines().filter(|line| line.contains(ACTS)).filter_map(written_at).any(is_it)
}

/// What is right when a clock shows `shown` that is off by so many seconds.
fn right(shown: Timestamp, seconds: i32) -> Timestamp {
    let off = Duration::from_secs(u64::from(seconds.unsigned_abs()));
    match seconds {
        0.. => shown.before(off),
        _ => shown.after(off),
    }
}

fn around([from, to]: [Timestamp; 2]) -> RangeInclusive<Timestamp> {
    from.before(SLACK)..=to.after(SLACK)
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
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use anyhow::anyhow;
    use stockloop_tests::real::available;

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

    #[test]
    fn a_jump_is_known_by_a_line_that_was_written_for_it() {
        let lines = "words\n\
            {\"timestamp\":\"1970-01-01T00:10:00Z\",\"message\":\"a moment before\"}\n\
            {\"timestamp\":\"1970-01-01T00:12:01Z\",\"message\":\"an operator acts\"}\n\
            {\"timestamp\":\"1970-01-01T00:10:06Z\",\"message\":\"later, by a clock that is right\"}\n";
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let has_jumped_by = |seconds| has_jumped_by(seconds, lines, [at(600), at(602)]);
        assert!(has_jumped_by(120));
        for seconds in [0, 5, 30, -120] {
            assert!(!has_jumped_by(seconds), "{seconds} s");
        }
        // As long as that takes, a line of a clock that is right fits, too.
        assert!(!super::has_jumped_by(5, lines, [at(590), at(730)]));
    }

    #[test]
    fn what_libfaketime_made_for_a_process_goes() {
        let mut clock = ProcessClock::new(false).unwrap();
        // Not by `set`, for which libfaketime has to be there.
        clock.seconds = 5;
        // No process has such numbers.
        for pid in [u32::MAX, u32::MAX - 1] {
            clock.begin(pid);
            SHARED.iter().for_each(|made| fs::write(format!("{made}{pid}"), "").unwrap());
        }
        let is_left = |pid: u32| SHARED.map(|made| Path::new(&format!("{made}{pid}")).exists());
        assert_eq!([u32::MAX, u32::MAX - 1].map(is_left), [[false; 2], [true; 2]]);
        drop(clock);
        assert_eq!(is_left(u32::MAX - 1), [false; 2]);
    }

    fn told(clock: &ProcessClock) -> Vec<&'static str> {
        clock.settings().unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_clock_that_is_right_needs_nothing() {
        let right = ProcessClock::new(false).unwrap();
        assert!(told(&right).is_empty() && !right.can_jump());
    }

    #[test]
    fn a_clock_that_can_jump_is_told_by_a_file_and_another_one_at_the_start() {
        let there = missing().map_or(Ok(()), |missing| Err(anyhow!(missing)));
        let Some(()) = available("libfaketime", there) else { return };
        let mut fixed = ProcessClock::new(false).unwrap();
        fixed.set(-30).unwrap();
        let settings = fixed.settings().unwrap();
        assert!(settings.contains(&("FAKETIME", "-30".to_owned())), "{settings:?}");
        let mut jumping = ProcessClock::new(true).unwrap();
        let told = told(&jumping);
        assert!(told.contains(&"LD_PRELOAD") && told.contains(&"FAKETIME_NO_CACHE"), "{told:?}");
        assert!(!told.contains(&"FAKETIME"), "it would be taken before the file: {told:?}");
        let path = jumping.file.as_ref().unwrap().path();
        assert_eq!(fs::read_to_string(&path).unwrap(), "+0\n");
        jumping.set(-5).unwrap();
        assert_eq!(
            (jumping.seconds(), fs::read_to_string(&path).unwrap()),
            (-5, "-5\n".to_owned())
        );
    }
}
