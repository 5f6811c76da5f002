//! Child processes that can be killed at any moment and never outlive the test process.
//!
//! A child starts as a shell that waits for a word from this process before it becomes the real
//! program, and by then the janitor knows its number: whenever the test process dies, by a panic or
//! by SIGKILL, the child is ended too. All calls here block; none takes longer than its deadline.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::poll::eventually_blocking;
use crate::scratch;

pub use crate::parts::built_binary;
pub use crate::scratch::{
    ScratchFolder, discard_again as discard_scratch_again, keep as keep_scratch,
};

const TAIL_LINES: usize = 40;

/// How long a program may take to stand still.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Gives up, for a program and for good, what root may do beyond others.
const NO_RIGHTS: [&str; 3] = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];

/// What to start: a program with its arguments and environment.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    user: Option<(u32, u32)>,
    ignored: Option<&'static str>,
    is_bound_by_modes: bool,
    last_signal: &'static str,
}

impl Launch {
    /// `program` is a path or a name looked up on PATH.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            user: None,
            ignored: None,
            is_bound_by_modes: false,
            last_signal: "KILL",
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable. The rest of the environment is inherited, without `STOCKLOOP__…` and `PG…`.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The working folder; without it the scratch folder of the test process.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Runs the child as this user and group; only root can ask for that.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Has the program ignore the signal named `signal` (`XFSZ`, …), unless it decides otherwise itself.
    pub fn ignoring(mut self, signal: &'static str) -> Self {
        self.ignored = Some(signal);
        self
    }

    /// Has the modes of files hold for the child, whoever starts it: root is above them by itself.
    pub fn bound_by_modes(mut self) -> Self {
        self.is_bound_by_modes = true;
        self
    }

    /// The signal tried first, for up to 5 s, when the test process has died; KILL unless told.
    pub fn last_signal(mut self, signal: &'static str) -> Self {
        self.last_signal = signal;
        self
    }

    /// Starts the child.
    pub fn spawn(self) -> anyhow::Result<Child> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let given_as_path = self.program.components().count() > 1;
        ensure!(
            !given_as_path || self.program.is_file(),
            "could not start {}: there is no such file",
            self.program.display()
        );
        let log = scratch::path(&format!("{name}.log"))?;
        let output = File::create(&log)?;
        let mut command = Command::new("sh");
        let ignoring = self.ignored.map(|signal| format!("trap '' {signal}; ")).unwrap_or_default();
        command.args(["-c", &format!(r#"{ignoring}read -r go && exec "$@" </dev/null"#), "sh"]);
        // Whoever is not root is bound by them anyway, and has nothing to give up.
        if self.is_bound_by_modes && scratch::is_of_root()? {
            command.args(NO_RIGHTS);
        }
        command
            .arg(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        match &self.folder {
            Some(folder) => command.current_dir(folder),
            None => command.current_dir(scratch::root()?),
        };
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("STOCKLOOP__") || name.starts_with("PG") {
                command.env_remove(&variable);
            }
        }
        command.envs(self.env);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let mut process =
            command.spawn().with_context(|| format!("could not start a shell for {name}"))?;
        let go = process.stdin.take();
        let child = Child { name, pid: process.id(), process, log, status: None };
        scratch::watch(child.pid, self.last_signal)?;
        // Only now, with the janitor told, the shell may become the program.
        go.context("the shell has no standard input")?
            .write_all(b"go\n")
            .with_context(|| format!("{} ended before it began", child.name))?;
        Ok(child)
    }
}

/// Starts `program` with `args` and `env`; see [`Launch`] for more than that.
pub fn spawn(
    program: impl AsRef<Path>,
    args: &[&str],
    env: &[(&str, &str)],
) -> anyhow::Result<Child> {
    let mut launch = Launch::new(program.as_ref()).args(args);
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    launch.spawn()
}

/// Runs a program that ends by itself; where it does not succeed, with what it said.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?} can't be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(())
}

/// Has this process, and whatever it starts from then on, be allowed to have `wanted` files open. Returns how many it may have
/// now: more where it might before, fewer where it can't be allowed so many.
pub fn allow_open_files(wanted: usize) -> anyhow::Result<usize> {
    let limits = fs::read_to_string("/proc/self/limits").context("no limits can be read")?;
    let [now, most] = open_files_of(&limits).context("no limit of open files is told")?;
    let allowed = wanted.max(now).min(most);
    if allowed > now {
        limit(std::process::id(), "nofile", &allowed.to_string())?;
    }
    Ok(allowed)
}

/// How many files a process may have open, and how many it may be allowed, as the kernel writes it.
fn open_files_of(limits: &str) -> Option<[usize; 2]> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut limits = line.split_whitespace().map(|limit| limit.parse().unwrap_or(usize::MAX));
    Some([limits.next()?, limits.next()?])
}

/// Limits what a process may have of `resource`. Only the soft limit: nobody but root may raise the other one again.
fn limit(pid: u32, resource: &str, most: &str) -> anyhow::Result<()> {
    let limit = format!("--{resource}={most}:");
    run(Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]))
}

/// What the kernel says that a process or a thread does, by its folder in `/proc`: `R`, `S`, `T`, …; none: it is gone.
pub fn state(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process still does anything: one that only waits to be reaped doesn't.
pub fn runs(pid: u32) -> bool {
    !matches!(state(&PathBuf::from(format!("/proc/{pid}"))), None | Some('Z' | 'X'))
}

/// What a process has started itself, and is still there.
fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The threads of a process, and what those do that do not stand still.
fn threads(pid: u32) -> (Vec<PathBuf>, Vec<(PathBuf, char)>) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut threads: Vec<PathBuf> = threads.map(|thread| thread.path()).collect();
    threads.sort();
    let states = threads.iter().filter_map(|thread| Some((thread.clone(), state(thread)?)));
    let moving = states.filter(|(_, state)| !matches!(state, 'T' | 't' | 'Z' | 'X')).collect();
    (threads, moving)
}

/// A running child; dropped, it is killed together with what it started.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    process: std::process::Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Child {
    /// The process number of the program itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills the program as `kill -9` does and waits until it is gone.
    pub fn kill9(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        self.process.kill().expect("a child that was not reaped can be killed");
        let status = self.process.wait().expect("a killed child can be waited for");
        self.reaped(status)
    }

    /// The same of what it has started, too, as when a machine loses its power: nothing of it goes on.
    pub fn kill9_with_children(&mut self) -> anyhow::Result<()> {
        if self.exited().is_some() {
            return Ok(());
        }
        // Paused, it starts no further ones.
        self.pause()?;
        let children = children(self.pid);
        let pids = children.iter().map(u32::to_string);
        if !children.is_empty() {
            run(Command::new("sh").args(["-c", r#"kill -s KILL -- "$@""#, "sh"]).args(pids))?;
        }
        self.kill9();
        let what = format!("the end of what {} had started", self.name);
        eventually_blocking(&what, STOP_DEADLINE, || {
            let left: Vec<_> = children.iter().filter(|child| runs(**child)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
    }

    /// Asks the program to end with SIGTERM; fails if it has not ended within `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.end_with("TERM", deadline)
    }

    /// Sends `signal`, then waits for the end.
    pub fn end_with(&mut self, signal: &str, deadline: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.exited() {
            return Ok(status);
        }
        self.signal(signal)?;
        self.wait_for_exit(deadline)
    }

    /// Stops the program where it stands, as a frozen machine does, until [`Child::resume`]: none of its threads does anything
    /// once this returns.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal("STOP")?;
        // Whoever sends a signal does not wait for its effect: a thread that waits for a processor goes on until it has one.
        let what = format!("all threads of {} to stand still", self.name);
        let mut before = Vec::new();
        eventually_blocking(&what, STOP_DEADLINE, || {
            let (threads, moving) = threads(self.pid);
            // Seen twice: one that was begun while they were listed is missed once.
            if moving.is_empty() && threads == before {
                return Ok(());
            }
            before = threads;
            Err(moving)
        })
    }

    /// Lets a paused program go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    /// Sends the signal named `signal` (`TERM`, `INT`, …) to the program.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        ensure!(self.status.is_none(), "{} has already ended; no signal can reach it", self.name);
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &self.pid.to_string()])
            .output()
            .context("could not start `sh` to send a signal")?;
        let said = String::from_utf8_lossy(&sent.stderr);
        ensure!(sent.status.success(), "could not send {signal} to {}: {said}", self.name);
        Ok(())
    }

    /// Limits how much the program may have of `resource` (`fsize`, `data`, …) from now on: so many bytes, or as many as it
    /// likes.
    pub fn limit(&self, resource: &str, bytes: Option<u64>) -> anyhow::Result<()> {
        ensure!(self.status.is_none(), "{} has already ended; nothing limits it", self.name);
        limit(self.pid, resource, &bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string()))
    }

    /// The exit status, if the program has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let ended = self.process.try_wait().expect("a child's state can be asked for");
            ended.map(|status| self.reaped(status));
        }
        self.status
    }

    /// Waits for the program to end by itself.
    pub fn wait_for_exit(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let waited = eventually_blocking(&format!("the end of {}", self.name), deadline, || {
            self.exited().ok_or("it still runs")
        });
        waited.with_context(|| self.log_tail())
    }

    /// Waits for the first output line with `pattern` in it and returns the line.
    ///
    /// Fails at once when the program ends without having written one.
    pub fn wait_for_line(&mut self, pattern: &str, deadline: Duration) -> anyhow::Result<String> {
        let what = format!("a line with {pattern:?} from {}", self.name);
        let outcome = eventually_blocking(&what, deadline, || {
            // Asked before the log is read: what an ended program wrote is then all there.
            let ended = self.exited();
            match (self.line(pattern), ended) {
                (Some(line), _) => Ok(Ok(line)),
                (None, Some(status)) => Ok(Err(status)),
                (None, None) => Err("no such line yet"),
            }
        });
        match outcome.with_context(|| self.log_tail())? {
            Ok(line) => Ok(line),
            Err(status) => bail!("no {what}: it ended ({status})\n{}", self.log_tail()),
        }
    }

    /// The first whole output line so far with `pattern` in it.
    pub fn line(&self, pattern: &str) -> Option<String> {
        let log = self.log();
        let whole = &log[..log.rfind('\n')? + 1];
        whole.lines().find(|line| line.contains(pattern)).map(str::to_owned)
    }

    /// How many lines so far have `words` in them.
    pub fn said(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    /// All that the program wrote so far, standard output and standard error together.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of [`Child::log`] under a heading, for messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("--- last output of {} (process {}):\n{tail}\n---", self.name, self.pid)
    }

    fn reaped(&mut self, status: ExitStatus) -> ExitStatus {
        self.status = Some(status);
        // Without the janitor nothing is left that could kill a stranger by the old number.
        let _ = scratch::forget(self.pid);
        status
    }

    fn kill_group(&self) {
        let group = format!("-{}", self.pid);
        let _ = Command::new("sh")
            .args(["-c", r#"kill -s KILL -- "$1""#, "sh", &group])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.kill_group();
            self.kill9();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::open_files_of;

    #[test]
    fn both_limits_of_files_are_read_as_the_kernel_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             127235               127235               processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_of(limits), Some([1_024, 524_288]));
        let unlimited = limits.replace("524288   ", "unlimited");
        assert_eq!(open_files_of(&unlimited), Some([1_024, usize::MAX]));
        assert_eq!(open_files_of(""), None);
    }
}
