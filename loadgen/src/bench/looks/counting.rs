//! How many events a service has sent, or settled, by its own count.
//!
//! While something is measured, only that is read, a few rows: what counts the events themselves walks over all that were
//! deleted, too, and takes from what it measures.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::on;
use common::schema::counter;
use diesel::prelude::*;

use super::events::PATIENCE;
use crate::backlog::log_bytes;

/// How often a count is read: the last moment of a measurement is known as well as that.
const LOOK: Duration = Duration::from_millis(5);

/// A count under way.
pub(in crate::bench) struct Counting {
    /// Which, such as [`engine::counters::SENT`].
    name: &'static str,
    events: usize,
    /// The count when it began, and what the server's log held.
    before: i64,
    written: i64,
}

/// What is known once all events are counted.
pub(in crate::bench) struct Counted {
    /// When that was.
    pub(in crate::bench) at: Timestamp,
    /// By which the server's log grew meanwhile.
    pub(in crate::bench) wal_bytes_per_event: f64,
}

impl Counting {
    /// Begins, before any of these `events` is counted.
    pub(in crate::bench) fn begin(
        conn: &mut Conn,
        name: &'static str,
        events: usize,
    ) -> Result<Self> {
        let (before, written) = (counted(conn, name)?, log_bytes(conn)?);
        Ok(Self { name, events, before, written })
    }

    /// Waits until all of them are.
    pub(in crate::bench) fn end(self, conn: &mut Conn) -> Result<Counted> {
        self.wait(conn)?;
        let at = Env::system().now();
        let written = log_bytes(conn)? - self.written;
        Ok(Counted { at, wal_bytes_per_event: written as f64 / self.events as f64 })
    }

    fn wait(&self, conn: &mut Conn) -> Result<()> {
        let goal = i64::try_from(self.events)?;
        let (mut done, mut moved) = (0, Instant::now());
        while done < goal {
            thread::sleep(LOOK);
            let now = counted(conn, self.name)? - self.before;
            if now > done {
                (done, moved) = (now, Instant::now());
            }
            ensure!(
                moved.elapsed() < PATIENCE,
                "after {done} of {goal} events, nothing was done for {PATIENCE:?}: what does the service write?"
            );
        }
        Ok(())
    }
}

/// A count of the service, which only grows.
fn counted(conn: &mut Conn, name: &str) -> QueryResult<i64> {
    let slots = counter::table.filter(counter::name.eq(name)).select(counter::value);
    let slots: Vec<i64> = on!(conn, c => slots.load(c))?;
    Ok(slots.iter().sum())
}
