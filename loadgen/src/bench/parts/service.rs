//! The service that is measured: its own program, as a child process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use stockloop_tests::ports::free_port;
use stockloop_tests::process::{Child, Launch};

use super::broker::Broker;
use crate::process::{Process, Used};

/// How long a service may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long it may take to end.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// The line with which product-service says that it follows the log.
const FOLLOWS: &str = "events come by the log";

/// At New Year: a verification in the middle of a measurement would be measured with it.
const NEVER: &str = "0 0 0 1 1 *";

/// A service that runs and listens; it ends with this value.
pub(in crate::bench) struct Service {
    child: Child,
    /// Where it listens.
    pub(in crate::bench) url: String,
}

impl Service {
    /// Starts `program` on a database and a broker. All other settings are the ordinary ones, but for its port, and for
    /// what would be done beside the load.
    pub(in crate::bench) fn start(program: &Path, database: &str, broker: &Broker) -> Result<Self> {
        Self::start_with(program, database, broker, &[])
    }

    /// The same, with `more` settings.
    pub(in crate::bench) fn start_with(
        program: &Path,
        database: &str,
        broker: &Broker,
        more: &[(&str, String)],
    ) -> Result<Self> {
        // Nobody listens there: nothing is asked of another service.
        let nobody = format!("http://127.0.0.1:{}", free_port()?);
        let mut launch = Launch::new(program)
            .arg("serve")
            .env("STOCKLOOP__HTTP__BIND", "127.0.0.1:0")
            .env("STOCKLOOP__DATABASE__URL", database)
            .env("STOCKLOOP__KAFKA__BROKERS", broker.brokers())
            .env("STOCKLOOP__KAFKA__CREATE_TOPICS", "false")
            .env("STOCKLOOP__PEER__URL", nobody)
            .env("STOCKLOOP__VERIFY__CRON", NEVER);
        for (name, value) in broker.properties() {
            let name = name.replace('.', "_").to_uppercase();
            launch = launch.env(format!("STOCKLOOP__KAFKA__PROPERTIES__{name}"), value);
        }
        // The last word counts.
        for (name, value) in more {
            launch = launch.env(name, value);
        }
        let mut child = launch.spawn()?;
        let line = child
            .wait_for_line(" listens on http://", START_DEADLINE)
            .with_context(|| format!("{} did not start", program.display()))?;
        let (_, url) =
            line.split_once(" listens on ").context("it does not say where it listens")?;
        let url = url.trim().to_owned();
        Ok(Self { child, url })
    }

    /// Waits until it has said that it follows the log; fails with what it said last.
    pub(in crate::bench) fn wait_until_it_follows_the_log(&mut self) -> Result<()> {
        let said = self.child.wait_for_line(FOLLOWS, START_DEADLINE).map(drop);
        said.context("product-service does not read the log")
    }

    /// Ends it in good order.
    pub(in crate::bench) fn end(mut self) -> Result<()> {
        self.child.terminate(END_DEADLINE).map(drop)
    }

    /// The last lines that it wrote.
    pub(in crate::bench) fn log_tail(&self) -> String {
        self.child.log_tail()
    }

    /// What it has used since its start.
    pub(in crate::bench) fn used(&self) -> Result<Used> {
        Process { pid: self.child.pid() }.used()
    }
}
