//! Flink with the views of `deploy/flink`, started as its README says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, mem};

use anyhow::{Context, bail, ensure};

use crate::once::Once;
use crate::process::{Child, Launch};
use crate::{parts, scratch};

const POM: &str = include_str!("../../deploy/flink/pom.xml");
const RUNNER: &str = include_str!("../../deploy/flink/SqlRunner.java");
const LOGGING: &str = include_str!("../../deploy/flink/log4j2.properties");

/// The files of statements, each a job, in the order in which they are given to the program.
const FILES: [(&str, &str); 3] = [
    ("inventory.sql", include_str!("../../deploy/flink/inventory.sql")),
    ("sales.sql", include_str!("../../deploy/flink/sales.sql")),
    ("purchases.sql", include_str!("../../deploy/flink/purchases.sql")),
];

/// Three jobs are compiled and planned, one after the other.
const START_DEADLINE: Duration = Duration::from_secs(180);

static SHARED: Once<Flink> = Once::new();

/// The jars of Flink and its connector for Kafka.
#[derive(Debug)]
pub struct Flink {
    jars: PathBuf,
}

impl Flink {
    /// What is kept in the target folder, fetched if it isn't there yet.
    pub fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get(|| {
            ensure_compiler()?;
            Ok(Self { jars: parts::jars_of("flink", POM)? })
        })
    }

    /// The folder of the jars, whose name says which they are.
    pub fn jars(&self) -> &Path {
        &self.jars
    }

    /// The views on the broker at `brokers`, not started yet.
    ///
    /// `changes` are texts of the statements, and what stands there instead.
    pub fn views(&self, brokers: &str, changes: &[(&str, String)]) -> anyhow::Result<FlinkViews> {
        for (text, _) in changes {
            let is_there = FILES.iter().any(|(_, sql)| sql.contains(text));
            ensure!(is_there, "no file of deploy/flink says {text}");
        }
        let folder = scratch::folder("flink")?;
        fs::create_dir(folder.join("tmp"))?;
        fs::write(folder.join("SqlRunner.java"), RUNNER)?;
        fs::write(folder.join("log4j2.properties"), LOGGING)?;
        for (name, sql) in FILES {
            let change = |sql: String, (from, to): &(&str, String)| sql.replace(from, to);
            fs::write(folder.join(name), changes.iter().fold(sql.to_owned(), change))?;
        }
        let (jars, brokers) = (self.jars.clone(), brokers.to_owned());
        Ok(FlinkViews { jars, folder, brokers, child: None })
    }
}

/// The jobs of the views in one Java machine, which can be killed and go on from their checkpoints.
#[derive(Debug)]
pub struct FlinkViews {
    jars: PathBuf,
    folder: PathBuf,
    brokers: String,
    child: Option<Child>,
}

impl FlinkViews {
    /// Starts all jobs, or starts them again from their last checkpoints; they run then.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let folder = &self.folder;
        let mut child = Launch::new("java")
            .args(["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            // What one that is killed leaves there goes with the folder.
            .arg(format!("-Djava.io.tmpdir={}", folder.join("tmp").display()))
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                folder.join("log4j2.properties").display()
            ))
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg("SqlRunner.java")
            .args(FILES.map(|(name, _)| name))
            .env("BROKERS", &self.brokers)
            .env("CHECKPOINTS", self.checkpoints())
            .folder(folder)
            .spawn()?;
        for (name, _) in FILES {
            child.wait_for_line(&runs(name), START_DEADLINE).context("Flink did not start")?;
        }
        self.child = Some(child);
        Ok(())
    }

    /// Kills it as a crash does.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill9();
        }
    }

    /// Fails once it has ended by itself, which it does when a job has failed for good.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("Flink is not started")?;
        match child.exited() {
            None => Ok(()),
            Some(status) => bail!("Flink ended ({status})\n{}", child.log_tail()),
        }
    }

    /// The files whose jobs have no checkpoint yet.
    pub fn without_checkpoint(&self) -> Vec<&'static str> {
        let names = FILES.into_iter().map(|(name, _)| name);
        names.filter(|name| !has_checkpoint(&self.checkpoints().join(name))).collect()
    }

    /// The files whose jobs began at the beginning rather than at a checkpoint, by what it printed at its start.
    pub fn from_the_beginning(&self) -> Vec<&'static str> {
        let names = FILES.into_iter().map(|(name, _)| name);
        names.filter(|name| self.began_anew(name)).collect()
    }

    fn began_anew(&self, name: &str) -> bool {
        let line = self.child.as_ref().and_then(|child| child.line(&runs(name)));
        line.is_none_or(|line| line.ends_with("the beginning"))
    }

    /// The last lines that it wrote, for messages.
    pub fn log_tail(&self) -> String {
        self.child.as_ref().map_or_else(|| "it does not run".to_owned(), Child::log_tail)
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }
}

impl Drop for FlinkViews {
    fn drop(&mut self) {
        self.kill9();
        scratch::discard(mem::take(&mut self.folder));
    }
}

/// Java has to be a JDK: it compiles `SqlRunner.java` when it runs it, and a JRE can't.
fn ensure_compiler() -> anyhow::Result<()> {
    let listed = Command::new("java").arg("--list-modules").output();
    let listed = listed.context("could not start `java`; is a JDK 17 on PATH?")?;
    let modules = String::from_utf8_lossy(&listed.stdout);
    ensure!(
        listed.status.success() && modules.contains("jdk.compiler"),
        "the `java` on PATH has no compiler; a JDK 17 has, not only a JRE"
    );
    Ok(())
}

/// What is printed when the job of a file runs.
fn runs(name: &str) -> String {
    format!("{name} runs, from ")
}

/// Whether a whole checkpoint lies below a job's folder, as `<job>/chk-<n>/_metadata`.
fn has_checkpoint(folder: &Path) -> bool {
    let mut checkpoints = inside(folder).into_iter().flat_map(|job| inside(&job));
    checkpoints.any(|checkpoint| checkpoint.join("_metadata").is_file())
}

/// What is in a folder: nothing as long as there is none.
fn inside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
