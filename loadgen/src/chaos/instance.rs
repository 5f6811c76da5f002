//! One process of a service: its own program, with the settings of a system that has to notice faults soon.

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use common::clock::{Clock, SystemClock};
use stockloop_tests::process::{Child, Launch};

use super::client::TOKEN;
use super::{clock, webhook};
use crate::check::Side;

/// How long a service may take until it listens, tries included.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// Between an end and the next start.
const RESTART: Duration = Duration::from_millis(200);

/// How long it may take to end.
const END_DEADLINE: Duration = Duration::from_secs(40);

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
    /// Where a process of the other service is called, as `host:port`.
    pub(super) peer: String,
    pub(super) mail_port: u16,
    pub(super) webhook_port: u16,
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
        settings.extend(SOON.map(|(name, value)| (name, value.to_owned())));
        settings
    }
}

/// A process, whether it runs or not.
pub(super) struct Instance {
    program: PathBuf,
    settings: Vec<(&'static str, String)>,
    /// So many seconds its clock is ahead, from its next start on.
    clock: i32,
    /// Whether it was started with a clock that is wrong, and is so.
    has_wrong_clock: bool,
    child: Option<Child>,
}

impl Instance {
    /// One that does not run yet.
    pub(super) fn new(program: &Path, places: &Places, bind: &str) -> Self {
        let settings = places.settings(bind);
        let (program, clock, has_wrong_clock) = (program.to_owned(), 0, false);
        Self { program, settings, clock, has_wrong_clock, child: None }
    }

    /// Starts it, unless it runs; again and again if it ends at once, as whoever supervises it would. Returns why it did, if
    /// it did.
    pub(super) fn start(&mut self) -> Result<Option<Error>> {
        let (began, mut failed) = (Instant::now(), None);
        while self.child.is_none() {
            let from = SystemClock.now();
            match self.launch() {
                Ok(child) => {
                    let at = [from, SystemClock.now()];
                    let is_off = clock::is_off_by(self.clock, &child.log(), at);
                    self.has_wrong_clock = self.clock != 0 && is_off;
                    self.child = Some(child);
                }
                Err(error) if began.elapsed() > START_DEADLINE => return Err(error),
                Err(error) => {
                    failed = Some(error);
                    thread::sleep(RESTART);
                }
            }
        }
        Ok(failed)
    }

    fn launch(&self) -> Result<Child> {
        let launch = Launch::new(&self.program).arg("serve");
        let tell = |launch: Launch, (name, value): &(&str, String)| launch.env(name, value);
        let clock = clock::settings(self.clock)?;
        let mut child = self.settings.iter().chain(&clock).fold(launch, tell).spawn()?;
        child.wait_for_line(" listens on http://", START_DEADLINE)?;
        Ok(child)
    }

    /// Kills it; one that ended before by itself is told.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.ensure_not_ended()?;
        let mut child = self.child.take().context("it does not run")?;
        child.kill9();
        ensure_no_panic(&child)
    }

    /// Ends it in good order, which it has to do in time and without an error; nothing if it does not run.
    pub(super) fn terminate(&mut self) -> Result<()> {
        self.ensure_not_ended()?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
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

    /// From its next start on its clock is so many seconds ahead, or behind.
    pub(super) fn set_clock(&mut self, seconds: i32) -> Result<()> {
        // Where that can't be, it is said now, and not by a start that is tried again and again.
        clock::settings(seconds)?;
        self.clock = seconds;
        Ok(())
    }

    /// Ends it in good order if its clock is wrong; it is right from the next start on.
    pub(super) fn set_clock_right(&mut self) -> Result<()> {
        if std::mem::take(&mut self.clock) == 0 { Ok(()) } else { self.terminate() }
    }

    /// How it ended, if it did so by itself; then it may be started again.
    pub(super) fn take_end(&mut self) -> Option<Error> {
        let child = self.child.as_mut()?;
        let status = child.exited()?;
        let ended = anyhow!("it ended by itself with {status}\n{}", child.log_tail());
        self.child = None;
        Some(ended)
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
    match child.line("panicked at") {
        None => Ok(()),
        Some(line) => bail!("it panicked: {line}"),
    }
}
