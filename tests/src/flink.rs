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

const README: &str = include_str!("../../deploy/flink/README.md");
const SALES: &str = include_str!("../../deploy/flink/sales.sql");

/// The files of statements, each a job.
pub const FILES: [(&str, &str); 4] = [
    ("inventory.sql", include_str!("../../deploy/flink/inventory.sql")),
    ("sales.sql", SALES),
    ("till.sql", include_str!("../../deploy/flink/till.sql")),
    ("purchases.sql", include_str!("../../deploy/flink/purchases.sql")),
];

/// Four jobs are compiled and planned, one after the other.
const START_DEADLINE: Duration = Duration::from_secs(180);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

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
    /// `changes` are texts of the statements, and what stands there instead. Beside the files of `deploy/flink` is
    /// `phone.sql`, the channel that their README adds.
    pub fn views(&self, brokers: &str, changes: &[(&str, String)]) -> anyhow::Result<FlinkViews> {
        let mut files = Vec::from(FILES.map(|(name, sql)| (name, sql.to_owned())));
        files.push(("phone.sql", phone()?));
        for (text, _) in changes {
            let is_there = files.iter().any(|(_, sql)| sql.contains(text));
            ensure!(is_there, "no file of deploy/flink says {text}");
        }
        let folder = scratch::folder("flink")?;
        fs::create_dir(folder.join("tmp"))?;
        fs::write(folder.join("SqlRunner.java"), RUNNER)?;
        fs::write(folder.join("log4j2.properties"), LOGGING)?;
        for (name, sql) in files {
            let change = |sql: String, (from, to): &(&str, String)| sql.replace(from, to);
            fs::write(folder.join(name), changes.iter().fold(sql, change))?;
        }
        let (jars, brokers) = (self.jars.clone(), brokers.to_owned());
        Ok(FlinkViews { jars, folder, brokers, machines: Vec::new() })
    }
}

/// The jobs of the views, which can be killed and go on from their checkpoints.
#[derive(Debug)]
pub struct FlinkViews {
    jars: PathBuf,
    folder: PathBuf,
    brokers: String,
    machines: Vec<Machine>,
}

/// A Java machine, and the files whose jobs it runs.
#[derive(Debug)]
struct Machine {
    files: Vec<&'static str>,
    child: Child,
}

impl FlinkViews {
    /// Starts the jobs of these files in one Java machine, from their last checkpoints if there are any; they run then.
    pub fn start(&mut self, files: &[&'static str]) -> anyhow::Result<()> {
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
            .args(files)
            .env("BROKERS", &self.brokers)
            .env("CHECKPOINTS", self.checkpoints())
            .folder(folder)
            .spawn()?;
        for name in files {
            child.wait_for_line(&runs(name), START_DEADLINE).context("Flink did not start")?;
        }
        self.machines.push(Machine { files: files.to_vec(), child });
        Ok(())
    }

    /// Ends the Java machine that runs the job of this file, as `kill` does.
    pub fn stop(&mut self, file: &'static str) -> anyhow::Result<()> {
        let found = self.machines.iter().position(|machine| machine.files.contains(&file));
        let found = found.with_context(|| format!("{file} does not run"))?;
        self.machines.remove(found).child.terminate(STOP_DEADLINE).map(drop)
    }

    /// Kills all of them as a crash does.
    pub fn kill9(&mut self) {
        for mut machine in self.machines.drain(..) {
            machine.child.kill9();
        }
    }

    /// Fails once a Java machine has ended by itself, which it does when a job has failed for good.
    pub fn check(&mut self) -> anyhow::Result<()> {
        ensure!(!self.machines.is_empty(), "Flink is not started");
        for Machine { files, child } in &mut self.machines {
            if let Some(status) = child.exited() {
                bail!("Flink with {files:?} ended ({status})\n{}", child.log_tail());
            }
        }
        Ok(())
    }

    /// The files whose jobs run and have no checkpoint yet.
    pub fn without_checkpoint(&self) -> Vec<&'static str> {
        let names = self.machines.iter().flat_map(|machine| machine.files.iter().copied());
        names.filter(|name| !has_checkpoint(&self.checkpoints().join(name))).collect()
    }

    /// The files whose jobs run and began at the beginning rather than at a checkpoint, by what was printed then.
    pub fn from_the_beginning(&self) -> Vec<&'static str> {
        self.machines.iter().flat_map(Machine::begun_anew).collect()
    }

    /// The last lines that each Java machine wrote, for messages.
    pub fn log_tail(&self) -> String {
        let tails: Vec<String> =
            self.machines.iter().map(|machine| machine.child.log_tail()).collect();
        tails.join("\n")
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }
}

impl Machine {
    fn begun_anew(&self) -> Vec<&'static str> {
        let names = self.files.iter().copied();
        names.filter(|name| self.began_anew(name)).collect()
    }

    fn began_anew(&self, name: &str) -> bool {
        let line = self.child.line(&runs(name));
        line.is_none_or(|line| line.ends_with("the beginning"))
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

/// The channel that the README adds, as it says: what sales.sql begins with, and the statements that it shows.
fn phone() -> anyhow::Result<String> {
    let (beginning, _) = SALES.split_once("\n);\n").context("sales.sql has no table")?;
    let (_, shown) = README.split_once("```sql\n").context("the README shows no statements")?;
    let (statements, _) = shown.split_once("```").context("its statements have no end")?;
    Ok(format!("{beginning}\n);\n\n{statements}"))
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
