//! A gate for the transactions that update a table: one of them waits there until it is opened, so whoever is killed
//! meanwhile is in the middle of just that.

use std::time::Duration;

use anyhow::Result;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::server::{connect, wait_within};
use crate::chaos::chores::Point;

/// What is waited for: a lock of PostgreSQL that nobody else asks for.
const LOCK: i64 = 7_311_200_545;

/// How long it may take until somebody comes there: keys that clients change meanwhile are looked at again for 30 s.
const DEADLINE: Duration = Duration::from_secs(120);

/// Those who wait for the session that asks.
const WAITING: &str = "SELECT count(*) AS n FROM pg_stat_activity \
     WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";

/// A gate that is closed, until it is opened or dropped.
pub(in crate::chaos) struct Gate {
    keeper: PgConnection,
    table: &'static str,
}

impl Gate {
    /// Closes one for the updates of `table` in the database at `url`: whichever comes to this point has to wait.
    pub(in crate::chaos) fn close(url: &str, table: &'static str, point: Point) -> Result<Self> {
        let Point { update, is_at_commit } = point;
        let initially = if is_at_commit { "DEFERRED" } else { "IMMEDIATE" };
        let mut keeper = connect(url)?;
        keeper.batch_execute(&format!(
            "SET client_min_messages = warning; \
             CREATE SEQUENCE IF NOT EXISTS trial_update; ALTER SEQUENCE trial_update RESTART; \
             CREATE OR REPLACE FUNCTION trial_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF nextval('trial_update') = {update} THEN \
                 PERFORM pg_advisory_xact_lock_shared({LOCK}); \
               END IF; \
               RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER trial_gate AFTER UPDATE ON {table} \
               DEFERRABLE INITIALLY {initially} FOR EACH ROW EXECUTE FUNCTION trial_gate(); \
             SELECT pg_advisory_lock({LOCK})"
        ))?;
        Ok(Self { keeper, table })
    }

    /// Waits until somebody waits there.
    pub(in crate::chaos) fn wait(&mut self) -> Result<()> {
        wait_within(DEADLINE, &mut self.keeper, WAITING)
    }

    /// Lets everybody through from now on; what a process had begun that is gone by then has ended, too.
    pub(in crate::chaos) fn open(mut self) -> Result<()> {
        let Self { keeper, table } = &mut self;
        keeper.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))?;
        keeper.batch_execute(&format!("DROP TRIGGER trial_gate ON {table}"))?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::thread;

    use diesel::sql_query;
    use diesel::sql_types::Text;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::poll::eventually_blocking;

    use super::*;

    #[derive(QueryableByName)]
    struct Said {
        #[diesel(sql_type = Text)]
        said: String,
    }

    /// What the one who waits at the gate has asked for, and how many updates are there.
    const WAITS_WITH: &str = "SELECT query AS said FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event = 'advisory'";
    const UPDATES: &str = "SELECT n::text AS said FROM work";

    fn update(url: &str) {
        let mut conn = PgConnection::establish(url).unwrap();
        for statement in ["BEGIN", "UPDATE work SET n = n + 1", "COMMIT"] {
            conn.batch_execute(statement).unwrap();
        }
    }

    #[test]
    fn one_update_waits_at_its_statement_or_its_commit_and_no_other_does() {
        let Some(database) = TestDatabase::postgres() else { return };
        let url = database.url();
        let mut conn = PgConnection::establish(&url).unwrap();
        conn.batch_execute("CREATE TABLE work (n BIGINT); INSERT INTO work VALUES (0)").unwrap();
        let mut said = |sql: &str| sql_query(sql).get_result::<Said>(&mut conn).map(|row| row.said);
        for (is_at_commit, asked, before) in [(false, "UPDATE work", "1"), (true, "COMMIT", "4")] {
            let point = Point { update: 2, is_at_commit };
            let mut gate = Gate::close(&url, "work", point).unwrap();
            update(&url);
            let second = thread::spawn({
                let url = url.clone();
                move || update(&url)
            });
            gate.wait().unwrap();
            // The server says a moment after that it waits for what it is kept from.
            eventually_blocking("what waits", DEADLINE, || said(WAITS_WITH)).unwrap();
            assert!(said(WAITS_WITH).unwrap().starts_with(asked), "{point}");
            assert_eq!(said(UPDATES).unwrap(), before, "{point}");
            gate.open().unwrap();
            second.join().unwrap();
            update(&url);
        }
        assert_eq!(said(UPDATES).unwrap(), "6");
    }
}
