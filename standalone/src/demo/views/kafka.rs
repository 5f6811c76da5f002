//! Apache Kafka for the views, where no broker is given: Java's clients don't understand the embedded one.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::Context;
use tokio::process::Command;

use super::jars::jars_of;
use super::java::{JavaProgram, run_to_end};

/// The tests', too.
const POM: &str = include_str!("../../../kafka-pom.xml");

/// Warnings, and the line that says that it runs.
const LOGGING: &str = concat!(
    include_str!("../../../kafka-log4j2.properties"),
    "logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"
);
const LOGGING_OPTION: &str = "-Dlog4j2.configurationFile=log4j2.properties";
const SETTINGS: &str = "server.properties";
const RUNS: &str = "Kafka Server started";

/// Any will do.
const CLUSTER_ID: &str = "c3RvY2tsb29wLWRlbW8wMA";

/// A broker on a port of its own, which ends when this is dropped.
pub(super) struct OwnKafka {
    port: u16,
    _program: JavaProgram,
}

impl OwnKafka {
    /// Starts one with its data in `folder`.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let classes = jars_of("kafka", POM).await?.join("*");
        println!("Starting Apache Kafka for the views.");
        let [port, controller_port] = free_ports().context("no port of 127.0.0.1 is free")?;
        prepare(folder, port, controller_port)
            .with_context(|| format!("{} can't be written", folder.display()))?;
        format_storage(folder, classes.as_os_str()).await?;
        let mut args: Vec<&OsStr> = ["-Xmx512m", LOGGING_OPTION, "-cp"].map(OsStr::new).into();
        args.push(classes.as_os_str());
        args.extend(["kafka.Kafka", SETTINGS].map(OsStr::new));
        let mut program = JavaProgram::start("Kafka", folder, &args, &[])?;
        program.wait_for(RUNS).await?;
        Ok(Self { port, _program: program })
    }

    /// Where it listens.
    pub(super) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn prepare(folder: &Path, port: u16, controller_port: u16) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    fs::write(folder.join("log4j2.properties"), LOGGING)?;
    fs::write(folder.join(SETTINGS), properties(port, controller_port))
}

async fn format_storage(folder: &Path, classes: &OsStr) -> anyhow::Result<()> {
    let mut format = Command::new("java");
    format
        .args([LOGGING_OPTION, "-cp"])
        .arg(classes)
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", SETTINGS])
        .current_dir(folder);
    run_to_end(&mut format, "Kafka's storage tool").await
}

/// Both are held until both are known.
fn free_ports() -> std::io::Result<[u16; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (one, other) = (bind()?, bind()?);
    Ok([one.local_addr()?.port(), other.local_addr()?.port()])
}

/// One node, broker and controller in one, small at rest; its data are in the folder that it runs in, whatever that is called.
fn properties(port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
"
    )
}
