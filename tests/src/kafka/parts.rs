//! Kafka's programs, fetched and prepared once: jars, a storage folder that has been started from
//! before, and an archive of loaded classes. Both together save seconds at each start.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, ensure};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{ASK_TIMEOUT, client, settings, wait_until_ready};
use crate::once::Once;
use crate::parts;
use crate::poll::eventually_blocking;
use crate::ports::free_port;
use crate::process::Launch;

/// The demo's, too.
const POM: &str = include_str!("../../../standalone/kafka-pom.xml");
// Behind the name of the jars. The number goes up when what is prepared changes, so that nobody keeps an old one.
const PREPARED: &str = "-prepared-2";
const CLUSTER_ID: &str = "c3RvY2tsb29wLXRlc3RzAA";
const RUN_DEADLINE: Duration = Duration::from_secs(120);
const LOGGING_FILE: &str = "log4j2.properties";
const STORAGE: &str = "storage";
const CLASSES: &str = "classes.jsa";

/// The folder with everything a broker is started from.
#[derive(Debug, Clone)]
pub(super) struct KafkaParts {
    jars: PathBuf,
    prepared: PathBuf,
}

impl KafkaParts {
    /// What is kept in the target folder, fetched and prepared if it isn't there yet.
    pub(super) fn fetched() -> anyhow::Result<Self> {
        static PARTS: Once<KafkaParts> = Once::new();
        PARTS.get(Self::fetch).cloned()
    }

    fn fetch() -> anyhow::Result<Self> {
        let jars = parts::jars_of("kafka", POM)?;
        // Apart from the jars, and named after them: the class archive is only valid for these, where they were.
        let mut name = jars.file_name().unwrap_or_default().to_os_string();
        name.push(PREPARED);
        let prepared = parts::kept(&name.to_string_lossy(), |folder| {
            Self { jars: jars.clone(), prepared: folder.to_owned() }.prepare()
        })?;
        Ok(Self { jars, prepared })
    }

    pub(super) fn jars(&self) -> &Path {
        &self.jars
    }

    /// A Java child that runs `class`; `more` are further options of the Java machine.
    pub(super) fn java(&self, class: &str, more: &[String]) -> Launch {
        // The quick compiler alone and a collector without threads leave the cores to the tests.
        let mut launch =
            Launch::new("java").args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        let classes = self.prepared.join(CLASSES);
        if classes.is_file() {
            launch = launch.arg(format!("-XX:SharedArchiveFile={}", classes.display()));
        }
        let logging = self.prepared.join(LOGGING_FILE);
        launch
            .args(more)
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class)
    }

    /// Copies the prepared storage, which has no topics but Kafka's own, to `data`.
    pub(super) fn copy_storage(&self, data: &Path) -> anyhow::Result<()> {
        copy(&self.prepared.join(STORAGE), data)
            .with_context(|| format!("could not copy Kafka's storage to {}", data.display()))
    }

    fn prepare(&self) -> anyhow::Result<()> {
        fs::write(self.prepared.join(LOGGING_FILE), settings::BROKER_LOGGING)?;
        let port = free_port()?;
        let properties = self.prepared.join("training.properties");
        let storage = self.prepared.join(STORAGE);
        let text = settings::properties(settings::FIRST_NODE, &storage, port, free_port()?);
        fs::write(&properties, text)?;
        self.format_storage(&properties, &[])?;
        self.train(port, &properties)
    }

    /// Makes the empty storage that `properties` names; it knows `users`, such as `SCRAM-SHA-512=[name=n,password=p]`.
    pub(super) fn format_storage(&self, properties: &Path, users: &[String]) -> anyhow::Result<()> {
        let mut format = self
            .java("kafka.tools.StorageTool", &[])
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(properties)
            .args(users.iter().flat_map(|user| ["--add-scram", user.as_str()]))
            .spawn()?;
        let status = format.wait_for_exit(RUN_DEADLINE)?;
        ensure!(status.success(), "could not format storage\n{}", format.log_tail());
        Ok(())
    }

    /// Runs a broker once: Java writes down the classes it needs, and Kafka makes the topic for
    /// group offsets, for which the first group would otherwise wait.
    fn train(&self, port: u16, properties: &Path) -> anyhow::Result<()> {
        let archive = format!("-XX:ArchiveClassesAtExit={}", self.prepared.join(CLASSES).display());
        let mut broker = self.java("kafka.Kafka", &[archive]).arg(properties).spawn()?;
        wait_until_ready(&client(port), &mut broker).with_context(|| broker.log_tail())?;
        let member: BaseConsumer = client(port).set("group.id", "training").create()?;
        let mut anything = TopicPartitionList::new();
        anything.add_partition("training", 0);
        eventually_blocking("Kafka's topic for group offsets", RUN_DEADLINE, || {
            member.committed_offsets(anything.clone(), ASK_TIMEOUT)
        })?;
        drop(member);
        broker.terminate(RUN_DEADLINE)?;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
