//! What the database takes of sending: the relay's own statements, one after the other on one connection, with no broker.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use common::db::{Conn, Db};
use common::env::Env;
use engine::outbox::{RelayStatements, renew};

use super::AS_A_SERVICE;
use crate::backlog::checkpoint;
use crate::bench::block_on;
use crate::bench::parts::{PARTITIONS, Server};
use crate::place::Scratch;

/// Events of one page, as a service has it.
const BATCH: usize = 1_000;

/// Longer than it takes: a heartbeat would only disturb.
const LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// A relay that has all shards of a database, and sends nothing.
pub(in crate::bench) struct RelayAlone {
    statements: RelayStatements,
}

impl RelayAlone {
    /// One that takes the shards, which nobody else has.
    pub(super) async fn on(db: &Db) -> Result<Self> {
        let held = renew(db, "benchmark", LEASE).await?;
        Ok(Self { statements: RelayStatements::new(Env::system(), held, PARTITIONS, BATCH) })
    }

    /// Reads all events that wait, which have to be so many, and notes them as SENT.
    pub(super) fn note_all(&mut self, conn: &mut Conn, events: usize) -> Result<()> {
        let mut all = 0;
        loop {
            match self.statements.run_once(conn)? {
                0 => break,
                noted => all += noted,
            }
        }
        ensure!(all == events, "{all} of {events} events were noted as SENT");
        Ok(())
    }

    /// Events a second, on a copy of `backlog`, in which so many wait.
    pub(in crate::bench) fn rate(
        server: &Server,
        backlog: &Scratch<'_>,
        events: usize,
    ) -> Result<f64> {
        let database = server.of_limit.make_like(backlog)?;
        let mut relay = block_on(async { Self::on(&database.open()?).await })?;
        let mut conn = database.connect()?;
        conn.batch_execute(AS_A_SERVICE)?;
        checkpoint(&mut conn)?;
        let began = Instant::now();
        relay.note_all(&mut conn, events)?;
        Ok(events as f64 / began.elapsed().as_secs_f64())
    }
}
