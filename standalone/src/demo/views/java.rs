//! Programs that the views need: each ends with this process, however that ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::{Instant, sleep, timeout};

/// What to do where something is missing.
pub(super) const INSTALL: &str = "install a JDK 17 or newer and Maven, and put `java` and `mvn` on PATH (on Debian: apt-get install openjdk-17-jdk-headless maven)";

/// Kills the program when the pipe on standard input closes, which even SIGKILL does, unless a line came before.
const UNTIL_CLOSED: &str =
    r#"exec 3<&0; (read -r _ <&3 || kill -9 $$) & exec "$@" </dev/null 3<&-"#;

/// Few threads and little memory beside the services.
const OPTIONS: [&str; 2] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// The first that Flink runs on.
const OLDEST: u32 = 17;

const START_DEADLINE: Duration = Duration::from_secs(180);
const RUN_DEADLINE: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lines of a program's output that an error shows.
const SHOWN: usize = 20;

/// A Java program in a folder of its own, killed when this is dropped.
pub(super) struct JavaProgram {
    name: &'static str,
    process: Child,
    pipe: Option<ChildStdin>,
    log: PathBuf,
}

impl JavaProgram {
    /// Starts `java` in `folder`.
    pub(super) fn start(
        name: &'static str,
        folder: &Path,
        args: &[&OsStr],
        env: &[(&str, &OsStr)],
    ) -> anyhow::Result<Self> {
        let log = folder.join("output.log");
        let in_log = || format!("{} can't be written", log.display());
        let output = File::create(&log).with_context(in_log)?;
        let mut process = Command::new("sh")
            .args(["-c", UNTIL_CLOSED, "sh", "java"])
            .args(OPTIONS)
            // What one that is killed leaves there goes with the folder.
            .arg(format!("-Djava.io.tmpdir={}", folder.display()))
            .args(args)
            .envs(env.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().with_context(in_log)?)
            .stderr(output)
            // Ctrl-C is for the demo, which ends its parts in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} can't be started; is the shell `sh` on PATH?"))?;
        let pipe = process.stdin.take();
        Ok(Self { name, process, pipe, log })
    }

    /// Waits until it has written `text`.
    pub(super) async fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        while !self.output().contains(text) {
            self.check()?;
            ensure!(
                Instant::now() < deadline,
                "{} has not written {text:?} within {} s, but:\n{}",
                self.name,
                START_DEADLINE.as_secs(),
                tail(&self.output())
            );
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Fails once it has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait().with_context(|| format!("{} can't be watched", self.name))? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended by itself ({status}):\n{}", self.name, tail(&self.output()))
            }
        }
    }

    /// The end of what it has written.
    pub(super) fn last_lines(&self) -> String {
        tail(&self.output())
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for JavaProgram {
    fn drop(&mut self) {
        // Nothing that it has done is needed any more.
        let _ = self.process.kill();
        // Once it is waited for, its number may be another's, which the shell must not kill.
        if let Some(pipe) = &mut self.pipe {
            let _ = pipe.write_all(b"ended\n");
        }
        let _ = self.process.wait();
    }
}

/// Fails without a Java that compiles what it runs: a JRE can't.
pub(super) async fn ensure_compiler() -> anyhow::Result<()> {
    let mut list = tokio::process::Command::new("java");
    let listed = list.arg("--list-modules").stdin(Stdio::null()).kill_on_drop(true).output().await;
    let listed = match listed {
        Ok(listed) => String::from_utf8_lossy(&listed.stdout).into_owned(),
        Err(error) => bail!("--views needs `java`, which can't be started ({error}); {INSTALL}"),
    };
    match compiler_version(&listed) {
        None => bail!("--views needs a JDK, and `java` on PATH has no compiler; {INSTALL}"),
        Some(version) if version < OLDEST => {
            bail!("--views needs a JDK 17 or newer, and `java` on PATH is {version}; {INSTALL}")
        }
        Some(_) => Ok(()),
    }
}

/// 17 for the line `jdk.compiler@17.0.9`.
fn compiler_version(modules: &str) -> Option<u32> {
    let version = modules.lines().find_map(|line| line.strip_prefix("jdk.compiler@"))?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

/// Runs a program to its end.
pub(super) async fn run_to_end(
    command: &mut tokio::process::Command,
    name: &str,
) -> anyhow::Result<()> {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = timeout(RUN_DEADLINE, running)
        .await
        .with_context(|| format!("{name} has not ended within {} s", RUN_DEADLINE.as_secs()))?
        .with_context(|| format!("{name} can't be started; {INSTALL}"))?;
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(ended.status.success(), "{name} failed ({}):\n{}", ended.status, tail(&said));
    Ok(())
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_told_by_its_module() {
        let version = |modules: &str| compiler_version(modules);
        assert_eq!(version("java.base@17.0.9\njdk.compiler@17.0.9\n"), Some(17));
        assert_eq!(version("jdk.compiler@21\n"), Some(21));
        assert_eq!(version("java.base@17.0.9\n"), None);
    }
}
