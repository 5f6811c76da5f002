//! Flink's local engine on the statements of deploy/flink.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use common::config::KafkaSettings;
use common::view_topics::{DEAD, PURCHASES, SALES, STOCK_VALUE, TILL};

use super::jars::jars_of;
use super::java::JavaProgram;

const POM: &str = include_str!("../../../../deploy/flink/pom.xml");

/// Each is a job.
const STATEMENTS: [(&str, &str); 4] = [
    ("inventory.sql", include_str!("../../../../deploy/flink/inventory.sql")),
    ("sales.sql", include_str!("../../../../deploy/flink/sales.sql")),
    ("till.sql", include_str!("../../../../deploy/flink/till.sql")),
    ("purchases.sql", include_str!("../../../../deploy/flink/purchases.sql")),
];
const FILES: [(&str, &str); 2] = [
    ("SqlRunner.java", include_str!("../../../../deploy/flink/SqlRunner.java")),
    ("log4j2.properties", include_str!("../../../../deploy/flink/log4j2.properties")),
];

/// Topics and groups in the statements that a run has for itself.
const OWN: [&str; 9] = [
    TILL,
    DEAD,
    SALES,
    STOCK_VALUE,
    PURCHASES,
    "stockloop.views.inventory",
    "stockloop.views.sales",
    "stockloop.views.till",
    "stockloop.views.purchases",
];

/// Topics of the services in the statements.
const EVENTS: &str = "stockloop.inventory.v1";
const ORDERS: &str = "stockloop.orders.v1";
const ORDER_ACKS: &str = "stockloop.orders.acks.v1";

/// The jars of Flink and its connector for Kafka.
pub(super) async fn jars() -> anyhow::Result<PathBuf> {
    jars_of("flink", POM).await
}

/// Starts all jobs, and waits until they run; `suffix` is behind the names that this run has for itself.
pub(super) async fn start(
    jars: &Path,
    folder: &Path,
    kafka: &KafkaSettings,
    suffix: &str,
) -> anyhow::Result<JavaProgram> {
    write_files(folder, &names(kafka, suffix))
        .with_context(|| format!("{} can't be written", folder.display()))?;
    let classes = jars.join("*");
    let mut args =
        ["-Xmx1g", "-Dlog4j2.configurationFile=log4j2.properties", "-cp"].map(OsStr::new).to_vec();
    args.extend([classes.as_os_str(), OsStr::new("SqlRunner.java")]);
    args.extend(STATEMENTS.map(|(file, _)| OsStr::new(file)));
    let checkpoints = folder.join("checkpoints");
    let env = [("BROKERS", OsStr::new(&kafka.brokers)), ("CHECKPOINTS", checkpoints.as_os_str())];
    let mut program = JavaProgram::start("Flink", folder, &args, &env)?;
    for (file, _) in STATEMENTS {
        program.wait_for(&format!("{file} runs, from ")).await?;
    }
    Ok(program)
}

fn write_files(folder: &Path, names: &[(&str, String)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text)?;
    }
    for (name, statements) in STATEMENTS {
        let rename = |sql: String, (name, own): &(&str, String)| {
            sql.replace(&format!("'{name}'"), &format!("'{own}'"))
        };
        fs::write(folder.join(name), names.iter().fold(statements.to_owned(), rename))?;
    }
    Ok(())
}

/// Names in the statements, and what stands there in this run.
fn names(kafka: &KafkaSettings, suffix: &str) -> Vec<(&'static str, String)> {
    let mut names: Vec<_> = OWN.map(|name| (name, format!("{name}{suffix}"))).into();
    names.push((EVENTS, kafka.outbound_topic.clone()));
    names.push((ORDERS, kafka.inbound_topic.clone()));
    names.push((ORDER_ACKS, kafka.inbound_ack_topic.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_in_a_file() {
        for name in OWN.into_iter().chain([EVENTS, ORDERS, ORDER_ACKS]) {
            let quoted = format!("'{name}'");
            assert!(STATEMENTS.iter().any(|(_, sql)| sql.contains(&quoted)), "{quoted}");
        }
    }
}
