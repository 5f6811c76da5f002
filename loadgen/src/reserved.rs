//! Names of databases, each of which one run at a time may use: two that make and remove the same would disturb each other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Integer, Text};

/// How long the server may take to see that a run has ended: the next one may begin at once.
const SEEN_IN: Duration = Duration::from_secs(2);

/// By the URL of the server. The server gives the names back when this process has ended, however that was.
static RESERVED: Mutex<BTreeMap<String, Reserved>> = Mutex::new(BTreeMap::new());

/// Takes `name` on the server that `server` leads to, for as long as this run lives.
///
/// # Errors
/// When another run has it, and who that is.
pub(crate) fn reserve(server: &str, name: &str) -> Result<()> {
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let reserved = match reserved.entry(server.to_owned()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Reserved::on(server)?),
    };
    reserved.take(name)
}

/// A session that holds names.
struct Reserved {
    conn: PgConnection,
    names: BTreeSet<String>,
}

impl Reserved {
    /// One that holds none yet.
    fn on(server: &str) -> Result<Self> {
        let mut conn = PgConnection::establish(server)?;
        // So whoever is kept out is told who does it.
        let program = format!("stockloop-loadgen, process {}", process::id());
        conn.batch_execute(&format!("SET application_name = '{program}'"))?;
        Ok(Self { conn, names: BTreeSet::new() })
    }

    fn take(&mut self, name: &str) -> Result<()> {
        if self.names.contains(name) {
            return Ok(());
        }
        let began = Instant::now();
        while !self.try_take(name)? {
            ensure!(
                began.elapsed() < SEEN_IN,
                "another run uses the database {name}: {}; let it end, or name another database",
                self.holder_of(name)?
            );
            thread::sleep(Duration::from_millis(20));
        }
        self.names.insert(name.to_owned());
        Ok(())
    }

    /// Takes `name`, if it is free; whether it was.
    fn try_take(&mut self, name: &str) -> QueryResult<bool> {
        #[derive(QueryableByName)]
        struct Taken {
            #[diesel(sql_type = Bool)]
            taken: bool,
        }
        let sql = "SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS taken";
        let taken: Taken = sql_query(sql).bind::<Text, _>(name).get_result(&mut self.conn)?;
        Ok(taken.taken)
    }

    /// Who has `name`, in words.
    fn holder_of(&mut self, name: &str) -> QueryResult<String> {
        #[derive(QueryableByName)]
        struct Holder {
            #[diesel(sql_type = Integer)]
            session: i32,
            #[diesel(sql_type = Text)]
            program: String,
            #[diesel(sql_type = Text)]
            machine: String,
            #[diesel(sql_type = Text)]
            since: String,
        }
        // The server shows a key of 64 bits as two halves.
        let sql = "SELECT a.pid AS session, COALESCE(a.application_name, '') AS program, \
                     COALESCE(host(a.client_addr), 'the same machine') AS machine, \
                     COALESCE(a.backend_start::text, 'a moment that is not told') AS since \
                   FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                     AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended($1, 0)";
        let holder: Option<Holder> =
            sql_query(sql).bind::<Text, _>(name).get_result(&mut self.conn).optional()?;
        Ok(match holder {
            Some(Holder { session, program, machine, since }) => {
                format!("{program}, on {machine}, since {since} (session {session} of the server)")
            }
            None => "one that has ended by now".to_owned(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use stockloop_tests::poll::eventually_blocking;
    use stockloop_tests::real;

    use super::*;

    #[test]
    fn a_name_is_one_runs_at_a_time() {
        let Some(postgres) = real::postgres() else { return };
        let url = postgres.database("reserved");
        let (mut one, mut other) = (Reserved::on(&url).unwrap(), Reserved::on(&url).unwrap());
        one.take("shop_stockloop_copy").unwrap();
        one.take("shop_stockloop_copy").unwrap();
        other.take("shop_stockloop_limit").unwrap();
        let refused = other.take("shop_stockloop_copy").unwrap_err().to_string();
        let who = format!("shop_stockloop_copy: stockloop-loadgen, process {}", process::id());
        assert!(refused.contains(&who), "{refused}");
        // It ends without a word, as one does that is killed.
        drop(one);
        let taken = eventually_blocking("the name", Duration::from_secs(30), || {
            other.take("shop_stockloop_copy").map_err(|error| error.to_string())
        });
        taken.unwrap();
    }
}
