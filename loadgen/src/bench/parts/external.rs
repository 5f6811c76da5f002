//! Another program as product-service's relay: Debezium, by the recipe in `deploy/debezium`, in a Kafka Connect that is
//! started and stays warm while its connectors come and go.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::db::Conn;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use hyper::{Method, Uri};
use serde_json::Value;
use stockloop_tests::connect::{Debezium, KafkaConnect, connector};

use super::broker::Broker;
use super::client::{Client, Target};
use super::topics::Topics;
use crate::bench::block_on;
use crate::bench::options::Relay;
use crate::bench::wait::Wait;
use crate::process::{Process, Used};

/// What it is called where it is told what each program used.
pub(in crate::bench) const CONNECT: &str = "Kafka Connect";

const RECIPE: &str = include_str!("../../../../deploy/debezium/product-service.json");

/// Until a connector reads the log, or leaves it.
const READING: Wait = Wait { look: Duration::from_millis(100), within: Duration::from_secs(60) };

/// As the recipe has it; where the relay was the log, it is there.
const PUBLISH: &str = "DO $$ BEGIN
        CREATE PUBLICATION stockloop_outbox FOR TABLE outbox_event WITH (publish = 'insert');
    EXCEPTION WHEN duplicate_object THEN NULL;
    END $$";

/// Those who read all that commits in this database.
const READERS: &str = "SELECT count(*) AS n FROM pg_replication_slots \
    WHERE database = current_database() AND active AND confirmed_flush_lsn IS NOT NULL";

/// A Kafka Connect; it ends with this value.
pub(in crate::bench) struct Connect {
    worker: KafkaConnect,
    /// Connectors that it has had so far: none takes over what an earlier one noted.
    made: Cell<u32>,
}

impl Connect {
    /// One for `broker`, if any of `relays` needs it.
    pub(super) fn start_for(relays: &[Relay], broker: &Broker) -> Result<Option<Self>> {
        if !relays.contains(&Relay::External) {
            return Ok(None);
        }
        let worker = Debezium::shared()?.start_as_shipped(&broker.brokers())?;
        Ok(Some(Self { worker, made: Cell::new(0) }))
    }

    /// Has a connector send what commits from now on in the database at `url`, to which `conn` is a connection.
    pub(in crate::bench) fn read(
        &self,
        conn: &mut Conn,
        url: &str,
        topics: &Topics,
    ) -> Result<Connector<'_>> {
        conn.batch_execute(PUBLISH)?;
        self.made.set(self.made.get() + 1);
        let name = format!("stockloop_benchmark_{}", self.made.get());
        let config = config(&name, url, &topics.events)?.to_string();
        let connector = Connector { connect: self, name };
        connector.ask(Method::PUT, "/config", config)?;
        wait_for_readers(conn, 1).with_context(|| self.worker.log_tail())?;
        Ok(connector)
    }

    /// What it has used since its start.
    fn used(&self) -> Result<Used> {
        let pid = self.worker.pid().context("Kafka Connect does not run")?;
        Process { pid }.used()
    }
}

/// A connector, which sends what one database appends.
pub(in crate::bench) struct Connector<'a> {
    connect: &'a Connect,
    name: String,
}

impl Connector<'_> {
    /// Has it leave the log, until it is told to resume.
    pub(in crate::bench) fn stop(&self, conn: &mut Conn) -> Result<()> {
        self.ask(Method::PUT, "/stop", String::new())?;
        wait_for_readers(conn, 0)
    }

    /// Has it go on where it was.
    pub(in crate::bench) fn resume(&self) -> Result<()> {
        self.ask(Method::PUT, "/resume", String::new())
    }

    /// What the Kafka Connect has used since its start.
    pub(in crate::bench) fn used(&self) -> Result<Used> {
        self.connect.used()
    }

    /// Removes it, with its slot.
    pub(in crate::bench) fn end(self, conn: &mut Conn) -> Result<()> {
        self.ask(Method::DELETE, "", String::new())?;
        wait_for_readers(conn, 0)?;
        let Self { name, .. } = self;
        let without_slot = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
        );
        Ok(conn.batch_execute(&without_slot)?)
    }

    fn ask(&self, method: Method, what: &str, body: String) -> Result<()> {
        let target = Target::parse(&self.connect.worker.url())?;
        let path = format!("/connectors/{}{what}", self.name);
        let asked = block_on(async {
            let mut client = Client::connect(&target).await?;
            client.send(method, &path, body).await
        });
        asked.map(drop).with_context(|| self.connect.worker.log_tail())
    }
}

/// The recipe's settings, for a connector of this name on a server that asks for no password.
fn config(name: &str, url: &str, topic: &str) -> Result<Value> {
    let uri: Uri = url.parse()?;
    let host = uri.host().context("the database's URL names no host")?;
    let port = uri.port_u16().unwrap_or(5432).to_string();
    let database = uri.path().trim_start_matches('/');
    let settings = [
        ("database.hostname", host),
        ("database.port", port.as_str()),
        ("database.user", "postgres"),
        ("database.dbname", database),
        ("topic.prefix", name),
        ("slot.name", name),
        ("predicates.event.pattern", topic),
        ("transforms.outbox.route.topic.replacement", topic),
    ];
    let mut connector = connector(RECIPE, &settings)?;
    Ok(connector["config"].take())
}

fn wait_for_readers(conn: &mut Conn, expected: i64) -> Result<()> {
    #[derive(QueryableByName)]
    struct Readers {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let Conn::Pg(c) = conn else { bail!("only PostgreSQL has a log") };
    let others = || -> Result<Option<i64>> {
        let Readers { n } = sql_query(READERS).get_result(c)?;
        Ok((n != expected).then_some(n))
    };
    READING.until_none(others, |n| {
        let within = READING.within;
        format!("after {within:?}, {n} programs read the log, where {expected} should")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_connector_is_told_its_database_and_topic() {
        let url = "postgres://postgres@127.0.0.1:6543/postgres_stockloop_benchmark";
        let config = config("one", url, "events.7").unwrap();
        for (name, value) in [
            ("database.hostname", "127.0.0.1"),
            ("database.port", "6543"),
            ("database.dbname", "postgres_stockloop_benchmark"),
            ("slot.name", "one"),
            ("predicates.event.pattern", "events.7"),
            ("snapshot.mode", "no_data"),
        ] {
            assert_eq!(config[name], value, "{name}");
        }
    }
}
