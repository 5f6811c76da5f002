//! One process of a service: its own program, with the settings of a system that has to notice faults soon.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use common::clock::{Clock, SystemClock, Timestamp};
use stockloop_tests::kafka::User;
use stockloop_tests::process::{Child, Launch};
use stockloop_tests::program::option_names;

use super::client::TOKEN;
use super::clock::ProcessClock;
use super::{clock, webhook};
use crate::check::Side;
use crate::process::Process;
use crate::programs::Programs;

/// How long a service may take until it listens, tries included.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// Between an end and the next start.
const RESTART: Duration = Duration::from_millis(200);

/// How long it may take to end.
const END_DEADLINE: Duration = Duration::from_secs(40);

/// What it says once it is there.
const LISTENS: &str = " listens on http://";

/// What it says, of itself, where it has a flaw.
pub(super) const PANICKED: &str = "panicked at";

/// What it says when it sets its timers anew, which else wait until the clock is where it was.
const WENT_BACK: &str = "the clock went back";

/// What the program of this release says where it can't be beside instances of the release before.
const ALONE: &str = "stop them";

/// What SQLite says when it finds no room, and what of a write that was cut off.
const NO_ROOM: [&str; 2] = ["database or disk is full", "disk I/O error"];

/// As far as a file of SQLite may go that has no room: less than its log takes of a service that is written to for a second.
const FULL_BYTES: u64 = 1 << 20;

/// Bytes that a process may have more than at the moment when its memory is bounded.
const MEMORY: u64 = 192 << 20;

/// What differs from the ordinary settings: what was lost is missed within seconds, so that a trial need not take minutes.
const SOON: [(&str, &str); 21] = [
    ("STOCKLOOP__HTTP__SHUTDOWN_TIMEOUT", "5s"),
    ("STOCKLOOP__DATABASE__CONNECT_TIMEOUT", "2s"),
    ("STOCKLOOP__DATABASE__POOL_SIZE", "4"),
    ("STOCKLOOP__KAFKA__CREATE_TOPICS", "false"),
    ("STOCKLOOP__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "3000"),
    ("STOCKLOOP__KAFKA__PROPERTIES__HEARTBEAT_INTERVAL_MS", "500"),
    ("STOCKLOOP__KAFKA__PROPERTIES__SOCKET_TIMEOUT_MS", "10000"),
    ("STOCKLOOP__OUTBOX__MAX_ATTEMPTS", "3"),
    ("STOCKLOOP__OUTBOX__ACK_TIMEOUT", "2s"),
    ("STOCKLOOP__OUTBOX__ACK_GRACE", "500ms"),
    ("STOCKLOOP__OUTBOX__BACKOFF_BASE", "50ms"),
    ("STOCKLOOP__OUTBOX__BACKOFF_MAX", "500ms"),
    ("STOCKLOOP__OUTBOX__PROBE_AFTER", "500ms"),
    ("STOCKLOOP__OUTBOX__LEASE", "3s"),
    ("STOCKLOOP__OUTBOX__WATCH_CRON", "*/1 * * * * *"),
    ("STOCKLOOP__ALERTS__CRON", "*/1 * * * * *"),
    ("STOCKLOOP__ALERTS__DIGEST_DELAY", "500ms"),
    ("STOCKLOOP__MAIL__TIMEOUT", "2s"),
    ("STOCKLOOP__MAIL__RETRY_MAX", "2s"),
    ("STOCKLOOP__WEBHOOK__TIMEOUT", "2s"),
    ("STOCKLOOP__WEBHOOK__RETRY_MAX", "2s"),
];

/// Where a service's relay finds events: `outbox.relay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Relay {
    /// In the table of what waits
    Table,
    /// In PostgreSQL's log, and in the table where that does not bring it
    Log,
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Log => "log",
        })
    }
}

/// Where the processes of a service find everything.
pub(super) struct Places {
    /// Whose processes they are.
    pub(super) side: Side,
    pub(super) database: String,
    /// Where the log of that is read, if a pooler stands in between.
    pub(super) behind_pooler: Option<String>,
    /// Where its relay finds events.
    pub(super) relay: Relay,
    pub(super) brokers: String,
    /// As whom they come there, if the brokers ask.
    pub(super) user: Option<User>,
    /// Where a process of the other service is called, as `host:port`.
    pub(super) peer: String,
    pub(super) mail_port: u16,
    pub(super) webhook_port: u16,
    /// Whether their clocks can jump while they run.
    pub(super) clocks_jump: bool,
    /// What the scenario sets besides.
    pub(super) settings: &'static [(&'static str, &'static str)],
}

impl Places {
    /// Of one that listens at `bind`, as `host:port`.
    fn settings(&self, bind: &str) -> Vec<(&'static str, String)> {
        let Self { database, brokers, peer, mail_port, webhook_port, .. } = self;
        let mut settings = vec![
            ("STOCKLOOP__OUTBOX__RELAY", self.relay.to_string()),
            ("STOCKLOOP__DATABASE__URL", database.clone()),
            ("STOCKLOOP__KAFKA__BROKERS", brokers.clone()),
            ("STOCKLOOP__HTTP__BIND", bind.to_owned()),
            ("STOCKLOOP__HTTP__ADMIN_TOKEN", TOKEN.to_owned()),
            ("STOCKLOOP__PEER__URL", format!("http://{peer}")),
            ("STOCKLOOP__ALERTS__RECIPIENTS", "operator@example.test".to_owned()),
            ("STOCKLOOP__MAIL__TRANSPORT", "smtp".to_owned()),
            ("STOCKLOOP__MAIL__HOST", "127.0.0.1".to_owned()),
            ("STOCKLOOP__MAIL__PORT", mail_port.to_string()),
            ("STOCKLOOP__MAIL__RETRY_BASE", "200ms".to_owned()),
            ("STOCKLOOP__WEBHOOK__URL", format!("http://127.0.0.1:{webhook_port}/")),
            ("STOCKLOOP__WEBHOOK__SECRET", webhook::SECRET.to_owned()),
            ("STOCKLOOP__WEBHOOK__RETRY_BASE", "200ms".to_owned()),
        ];
        if let Some(server) = &self.behind_pooler {
            settings.push(("STOCKLOOP__DATABASE__POOLER", "transaction".to_owned()));
            settings.push(("STOCKLOOP__OUTBOX__LOG_URL", server.clone()));
        }
        if let Some(User { name, password }) = self.user {
            settings.extend([
                ("STOCKLOOP__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "sasl_plaintext".to_owned()),
                ("STOCKLOOP__KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN".to_owned()),
                ("STOCKLOOP__KAFKA__PROPERTIES__SASL_USERNAME", name.to_owned()),
                ("STOCKLOOP__KAFKA__PROPERTIES__SASL_PASSWORD", password.to_owned()),
            ]);
        }
        settings.extend(
            SOON.into_iter()
                .chain(self.settings.iter().copied())
                .map(|(name, value)| (name, value.to_owned())),
        );
        settings
    }

    /// Whether it is a file, whose modes and size can be limited.
    fn is_file(&self) -> bool {
        self.database.starts_with("sqlite:")
    }
}

/// A process, whether it runs or not.
pub(super) struct Instance {
    program: PathBuf,
    settings: Vec<(&'static str, String)>,
    /// The options that its program knows, if it is of another release: it refuses all others.
    known: Option<BTreeSet<String>>,
    /// Whether its database is a file.
    has_file: bool,
    /// Whether it was started with a clock that is wrong, and is so.
    has_wrong_clock: bool,
    /// How much memory it may write into, in bytes, if that is bounded; also from its next start on.
    most_memory: Option<u64>,
    child: Option<Child>,
    /// Whether it has said that it is there.
    is_up: bool,
    /// Behind its process, which ends first.
    clock: ProcessClock,
}

impl Instance {
    /// One that does not run yet.
    pub(super) fn new(program: &Path, places: &Places, bind: &str) -> Result<Self> {
        Ok(Self {
            program: program.to_owned(),
            settings: places.settings(bind),
            known: None,
            has_file: places.is_file(),
            clock: ProcessClock::new(places.clocks_jump)?,
            has_wrong_clock: false,
            most_memory: None,
            child: None,
            is_up: false,
        })
    }

    /// The same, with a program of another release.
    pub(super) fn of_another_release(program: &Path, places: &Places, bind: &str) -> Result<Self> {
        let known = Some(options_of(program)?);
        Ok(Self { known, ..Self::new(program, places, bind)? })
    }

    /// Starts it, unless it runs; again and again if it ends at once, as whoever supervises it would. Returns why it did, if
    /// it did.
    pub(super) fn start(&mut self) -> Result<Option<Error>> {
        let (began, mut failed) = (Instant::now(), None);
        while !self.is_up {
            match self.come_up() {
                Ok(()) => {}
                Err(error) if began.elapsed() > START_DEADLINE => return Err(error),
                Err(error) => {
                    failed = Some(error);
                    thread::sleep(RESTART);
                }
            }
        }
        Ok(failed)
    }

    /// Starts it, unless it runs, and does not wait until it is there.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.child.is_none() {
            self.child = Some(self.launch()?);
        }
        Ok(())
    }

    /// The same, and waits.
    fn come_up(&mut self) -> Result<()> {
        let from = SystemClock.now();
        self.begin()?;
        let child = self.child.as_mut().context("it was just started")?;
        if let Err(error) = child.wait_for_line(LISTENS, START_DEADLINE) {
            self.child = None;
            return Err(error);
        }
        let seconds = self.clock.seconds();
        let is_off = clock::is_off_by(seconds, &child.log(), [from, SystemClock.now()]);
        self.has_wrong_clock = seconds != 0 && is_off;
        self.is_up = true;
        if self.most_memory.is_some() { self.bound_memory() } else { Ok(()) }
    }

    fn launch(&mut self) -> Result<Child> {
        let mut launch = Launch::new(&self.program).arg("serve");
        if self.has_file {
            launch = launch.ignoring("XFSZ").bound_by_modes();
        }
        let tell = |launch: Launch, (name, value): &(&str, String)| launch.env(name, value);
        let clock = self.clock.settings()?;
        let is_told = |(name, _): &&(&str, String)| {
            self.known.as_ref().is_none_or(|options| is_known(options, name))
        };
        let child =
            self.settings.iter().filter(is_told).chain(&clock).fold(launch, tell).spawn()?;
        self.clock.begin(child.pid());
        Ok(child)
    }

    /// Whether it has said that it is there, and has not ended.
    pub(super) fn is_there(&mut self) -> bool {
        let Some(child) = self.child.as_mut() else { return false };
        self.is_up = self.is_up || child.line(LISTENS).is_some();
        self.is_up && child.exited().is_none()
    }

    /// Starts it where it can't be: it has to end by itself, with a line that says why.
    pub(super) fn be_refused(&mut self) -> Result<()> {
        let mut child = self.launch()?;
        let status = child.wait_for_exit(END_DEADLINE)?;
        ensure!(is_refusal(&child, status), "it ended with {status}\n{}", child.log_tail());
        Ok(())
    }

    /// Starts the program of this release, once the one before has ended. Returns false where that can't be beside instances of
    /// the release before, which it has to say; then it does not run.
    pub(super) fn upgrade(&mut self, program: &Path) -> Result<bool> {
        (self.program, self.known) = (program.to_owned(), None);
        match self.come_up() {
            Ok(()) => Ok(true),
            Err(error) if format!("{error:#}").contains(ALONE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it runs as the program of another release.
    pub(super) fn is_of_another_release(&self) -> bool {
        self.known.is_some() && self.child.is_some()
    }

    /// Takes the room from what it writes, or gives it back.
    pub(super) fn let_write(&self, may: bool) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        // What it says meanwhile goes into a file, too, which has to hold all of it.
        let most = (!may).then(|| FULL_BYTES + child.log().len() as u64);
        child.limit("fsize", most)
    }

    /// So often it has said that there was no room.
    pub(super) fn without_room(&self) -> u64 {
        let log = self.child.as_ref().map(Child::log).unwrap_or_default();
        let is_it = |line: &&str| NO_ROOM.iter().any(|words| line.contains(words));
        log.lines().filter(is_it).count() as u64
    }

    /// From now on, more memory than it has and [`MEMORY`] ends it, also where it is started again: then it has not begun all
    /// of its threads, whose stacks count.
    pub(super) fn bound_memory(&mut self) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let most = match self.most_memory {
            Some(most) => most,
            None => Process { pid: child.pid() }.writable_bytes()? + MEMORY,
        };
        self.most_memory = Some(most);
        child.limit("data", Some(most))
    }

    /// Kills it; one that ended before by itself is told.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.ensure_not_ended()?;
        let mut child = self.take_child().context("it does not run")?;
        child.kill9();
        ensure_no_panic(&child)
    }

    /// Ends it in good order, which it has to do in time and without an error; nothing if it does not run.
    pub(super) fn terminate(&mut self) -> Result<()> {
        self.ensure_not_ended()?;
        let Some(mut child) = self.take_child() else { return Ok(()) };
        let status = child.terminate(END_DEADLINE)?;
        ensure!(status.success(), "it ended with {status}\n{}", child.log_tail());
        ensure_no_panic(&child)
    }

    pub(super) fn freeze(&mut self) -> Result<()> {
        self.ensure_not_ended()?;
        self.child.as_ref().context("it does not run")?.pause()
    }

    pub(super) fn thaw(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), Child::resume)
    }

    /// Whether it runs by a clock that is wrong, by its own account.
    pub(super) fn has_wrong_clock(&self) -> bool {
        self.has_wrong_clock
    }

    /// Its clock is so many seconds ahead, or behind: at once if it can jump, and else from its next start on.
    pub(super) fn set_clock(&mut self, seconds: i32) -> Result<()> {
        self.clock.set(seconds)
    }

    /// Sets its clock right, so many seconds ahead of this machine's; where it can't jump, the process ends in good order, and
    /// it is right from the next start on.
    pub(super) fn set_clock_right(&mut self, seconds: i32) -> Result<()> {
        if self.clock.seconds() == seconds {
            return Ok(());
        }
        self.clock.set(seconds)?;
        if self.clock.can_jump() { Ok(()) } else { self.terminate() }
    }

    /// How many bytes it has said so far.
    pub(super) fn log_length(&self) -> usize {
        self.child.as_ref().map(|child| child.log().len()).unwrap_or_default()
    }

    /// Whether what it has said behind the first `said` bytes, as it did something for an operator between these two moments, is
    /// of a clock that is off as its own is.
    pub(super) fn shows_its_clock(&self, said: usize, between: [Timestamp; 2]) -> bool {
        clock::has_jumped_by(self.clock.seconds(), &self.said_behind(said), between)
    }

    /// Whether it has said, behind the first `said` bytes, that it has seen its clock go back.
    pub(super) fn has_seen_it_go_back(&self, said: usize) -> bool {
        self.said_behind(said).contains(WENT_BACK)
    }

    fn said_behind(&self, said: usize) -> String {
        let log = self.child.as_ref().map(Child::log).unwrap_or_default();
        log.get(said..).unwrap_or_default().to_owned()
    }

    /// How it ended, if it did so by itself: once it was there, or otherwise than one does that can't start. Whoever has ended
    /// may be started again.
    pub(super) fn take_end(&mut self) -> Option<Error> {
        let status = self.child.as_mut()?.exited()?;
        let was_there = self.is_up || self.child.as_ref()?.line(LISTENS).is_some();
        let child = self.take_child()?;
        let is_told = was_there || !is_refusal(&child, status);
        is_told.then(|| anyhow!("it ended by itself with {status}\n{}", child.log_tail()))
    }

    fn take_child(&mut self) -> Option<Child> {
        self.is_up = false;
        self.child.take()
    }

    fn ensure_not_ended(&mut self) -> Result<()> {
        self.take_end().map_or(Ok(()), Err)
    }

    /// The last lines that it wrote.
    pub(super) fn log_tail(&self) -> Option<String> {
        self.child.as_ref().map(Child::log_tail)
    }
}

/// A panic is a flaw, however well the rest of the process went on.
fn ensure_no_panic(child: &Child) -> Result<()> {
    match child.line(PANICKED) {
        None => Ok(()),
        Some(line) => bail!("it panicked: {line}"),
    }
}

/// Whether it ended as one does that says why it can't start.
fn is_refusal(child: &Child, status: ExitStatus) -> bool {
    status.code() == Some(1) && ensure_no_panic(child).is_ok()
}

/// The options that a program knows, by their names; a table that may hold anything counts as one.
fn options_of(program: &Path) -> Result<BTreeSet<String>> {
    let shown = Command::new(program).args(["config", "--example"]).output()?;
    let name = program.display();
    ensure!(shown.status.success(), "{name} does not show its options: {}", shown.status);
    Ok(option_names(&String::from_utf8(shown.stdout)?))
}

/// Whether what this variable sets is among `options`.
fn is_known(options: &BTreeSet<String>, variable: &str) -> bool {
    let name = variable.trim_start_matches("STOCKLOOP__").to_lowercase().replace("__", ".");
    let is_it = |option: &String| {
        name.strip_prefix(option.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    options.iter().any(is_it)
}

/// The programs of this release, and of the one before if somebody has them.
#[derive(Debug, Clone)]
pub(super) struct Releases {
    pub(super) this: Programs,
    pub(super) before: Option<Programs>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_knows_is_told_by_the_names_of_its_options() {
        let options = ["http.bind", "kafka.properties", "mail.host"].map(str::to_owned).into();
        for (variable, expected) in [
            ("STOCKLOOP__HTTP__BIND", true),
            ("STOCKLOOP__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", true),
            ("STOCKLOOP__MAIL__HOST", true),
            ("STOCKLOOP__MAIL__HOSTNAME", false),
            ("STOCKLOOP__OUTBOX__RELAY", false),
        ] {
            assert_eq!(is_known(&options, variable), expected, "{variable}");
        }
    }
}
