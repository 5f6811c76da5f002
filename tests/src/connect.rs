//! A real Kafka Connect with Debezium's connector for PostgreSQL, as the recipe in `deploy/debezium` has it.

use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, mem};

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;

use crate::kafka::LOGGING;
use crate::once::Once;
use crate::poll::eventually_blocking;
use crate::ports::{free_port, start_on_free_ports};
use crate::process::{Child, Launch};
use crate::{parts, scratch};

const POM: &str = include_str!("../../deploy/debezium/pom.xml");
const WORKER: &str = include_str!("../../deploy/debezium/worker.properties");

/// Where the recipe's connectors look for their password, and what they find: servers here ask for none.
const PASSWORD: (&str, &str) = ("STOCKLOOP_DEBEZIUM_PASSWORD", "none");

/// Java that starts soon.
const SOON: &[&str] = &["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Java as Kafka's own script starts it.
const AS_SHIPPED: &[&str] = &[
    "-Xms256M",
    "-Xmx2G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

const START_DEADLINE: Duration = Duration::from_secs(120);

static SHARED: Once<Debezium> = Once::new();

/// The jars of Kafka Connect and Debezium.
#[derive(Debug)]
pub struct Debezium {
    jars: PathBuf,
}

impl Debezium {
    /// What is kept in the target folder, fetched if it isn't there yet.
    pub fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get(|| Ok(Self { jars: parts::jars_of("connect-debezium", POM)? }))
    }

    /// A worker of its own for `connectors`, with the broker at `brokers`.
    pub fn start(&self, brokers: &str, connectors: &[Value]) -> anyhow::Result<KafkaConnect> {
        self.start_on(SOON, brokers, connectors)
    }

    /// One that has no connector yet and is to be measured: it starts later, and works as fast as it can.
    pub fn start_as_shipped(&self, brokers: &str) -> anyhow::Result<KafkaConnect> {
        self.start_on(AS_SHIPPED, brokers, &[])
    }

    fn start_on(
        &self,
        java: &'static [&'static str],
        brokers: &str,
        connectors: &[Value],
    ) -> anyhow::Result<KafkaConnect> {
        let folder = scratch::folder("connect")?;
        let mut files = Vec::new();
        for (number, connector) in connectors.iter().enumerate() {
            let file = folder.join(format!("connector-{number}.json"));
            fs::write(&file, connector.to_string())?;
            files.push(file);
        }
        fs::write(folder.join("log4j2.properties"), LOGGING)?;
        let jars = self.jars.clone();
        let mut worker =
            KafkaConnect { java, jars, folder, connectors: files, port: 0, child: None };
        let start = || {
            worker.port = free_port()?;
            worker.write_settings(brokers)?;
            worker.start_again()
        };
        start_on_free_ports(start, |error| format!("{error:#}").contains("in use"))?;
        Ok(worker)
    }
}

/// A worker of Kafka Connect in standalone mode on a loopback port of its own.
#[derive(Debug)]
pub struct KafkaConnect {
    java: &'static [&'static str],
    jars: PathBuf,
    folder: PathBuf,
    connectors: Vec<PathBuf>,
    port: u16,
    child: Option<Child>,
}

impl KafkaConnect {
    /// Where its REST interface listens.
    pub fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The number of its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// Kills it as a crash does: how far it was is known by what it wrote down last.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill9();
        }
    }

    /// Starts it, or starts it again with what it wrote down before.
    ///
    /// It listens then; its connectors may take a little longer.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let logging = self.folder.join("log4j2.properties");
        let mut child = Launch::new("java")
            .args(self.java)
            // What one that is killed leaves there goes with the folder.
            .arg(format!("-Djava.io.tmpdir={}", self.folder.display()))
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .arg(self.folder.join("worker.properties"))
            .args(&self.connectors)
            .env(PASSWORD.0, PASSWORD.1)
            .folder(&self.folder)
            .spawn()?;
        wait_until_it_listens(self.port, &mut child).with_context(|| {
            format!("Kafka Connect did not start on port {}\n{}", self.port, child.log_tail())
        })?;
        self.child = Some(child);
        Ok(())
    }

    /// The last lines that it wrote, for messages.
    pub fn log_tail(&self) -> String {
        self.child.as_ref().map_or_else(|| "it does not run".to_owned(), Child::log_tail)
    }

    fn write_settings(&self, brokers: &str) -> anyhow::Result<()> {
        let offsets = self.folder.join("offsets");
        let mut text = with(WORKER, "bootstrap.servers", brokers)?;
        text = with(&text, "listeners", &self.url())?;
        text = with(&text, "offset.storage.file.filename", &offsets.display().to_string())?;
        Ok(fs::write(self.folder.join("worker.properties"), text)?)
    }
}

impl Drop for KafkaConnect {
    fn drop(&mut self) {
        self.kill9();
        scratch::discard(mem::take(&mut self.folder));
    }
}

/// The connector of one of the recipe's files, with other values of its settings.
pub fn connector(recipe: &str, settings: &[(&str, &str)]) -> anyhow::Result<Value> {
    let mut connector: Value = serde_json::from_str(recipe)?;
    let config = connector.get_mut("config").context("the recipe has no settings")?;
    for (name, value) in settings {
        let known = config.get_mut(*name).with_context(|| format!("the recipe has no {name}"))?;
        *known = (*value).into();
    }
    Ok(connector)
}

/// The recipe's `properties` with another value of `name`.
fn with(properties: &str, name: &str, value: &str) -> anyhow::Result<String> {
    let is_it = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
    ensure!(properties.lines().any(is_it), "the recipe's worker.properties does not set {name}");
    let line = |line: &str| match is_it(line) {
        true => format!("{name}={value}\n"),
        false => format!("{line}\n"),
    };
    Ok(properties.lines().map(line).collect())
}

fn wait_until_it_listens(port: u16, child: &mut Child) -> anyhow::Result<()> {
    eventually_blocking("Kafka Connect to listen", START_DEADLINE, || {
        if let Some(status) = child.exited() {
            // Its log says which port is in use, if that was it.
            return Ok(Err(anyhow!("it ended at once ({status})")));
        }
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(Ok(())),
            Err(error) => Err(error.to_string()),
        }
    })?
}
