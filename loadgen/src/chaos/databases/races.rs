//! Transactions that a server rolls back since others went first, at a statement or not before they commit, as one does that
//! isolates them from each other (SQLSTATE 40001).
//!
//! PostgreSQL does so where a transaction asks for it, and the services ask for READ COMMITTED; other servers that speak its
//! protocol do it anyway. So triggers play it. They also see whether the services get the isolation that they ask for.

use anyhow::Result;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::server::connect;
use crate::chaos::fault::Race;

/// What is counted by sequences, which no rollback takes back: lost races, and transactions of another isolation.
pub(in crate::chaos) const LOST: &str = "trial_race";
pub(in crate::chaos) const ISOLATED: &str = "trial_isolation";

/// Triggers of each table: a statement's, and a commit's.
const EACH_TABLE: &str = "SELECT format( \
       'CREATE TRIGGER trial_statement AFTER INSERT OR UPDATE OR DELETE ON %1$I \
          FOR EACH STATEMENT EXECUTE FUNCTION trial(''statement''); \
        CREATE CONSTRAINT TRIGGER trial_commit AFTER INSERT OR UPDATE OR DELETE ON %1$I \
          DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trial(''commit'')', \
       tablename) AS sql \
     FROM pg_tables WHERE schemaname = 'public'";

#[derive(QueryableByName)]
struct Statement {
    #[diesel(sql_type = Text)]
    sql: String,
}

/// The triggers in both databases, once they are there.
#[derive(Default)]
pub(super) struct Races {
    are_there: bool,
}

impl Races {
    /// From now on transactions lose this race, or none.
    pub(super) fn be(&mut self, urls: &[String; 2], race: Option<Race>) -> Result<()> {
        for url in urls {
            let mut conn = connect(url)?;
            if !self.are_there {
                install(&mut conn)?;
            }
            conn.batch_execute(&function(race))?;
        }
        self.are_there = true;
        Ok(())
    }

    /// None is lost any more. The triggers stay and do nothing: to take them away would lock all tables.
    pub(super) fn end(&mut self, urls: &[String; 2]) -> Result<()> {
        if self.are_there { self.be(urls, None) } else { Ok(()) }
    }
}

/// Table by table, each by itself: who waits for all at once waits crosswise with others.
fn install(conn: &mut PgConnection) -> Result<()> {
    conn.batch_execute(&format!("CREATE SEQUENCE {LOST}; CREATE SEQUENCE {ISOLATED}"))?;
    conn.batch_execute(&function(None))?;
    let statements: Vec<Statement> = sql_query(EACH_TABLE).load(conn)?;
    statements.iter().try_for_each(|statement| conn.batch_execute(&statement.sql))?;
    Ok(())
}

/// What the triggers do. Which transactions lose is told by their numbers, so one that is tried again may pass.
fn function(race: Option<Race>) -> String {
    let loses = race.map_or("false".to_owned(), |Race { is_at_commit, one_in }| {
        let moment = if is_at_commit { "commit" } else { "statement" };
        format!("TG_ARGV[0] = '{moment}' AND txid_current() % {one_in} = 0")
    });
    format!(
        "CREATE OR REPLACE FUNCTION trial() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF current_setting('transaction_isolation') <> 'read committed' THEN \
             PERFORM nextval('{ISOLATED}'); \
           END IF; \
           IF {loses} THEN \
             PERFORM nextval('{LOST}'); \
             RAISE EXCEPTION 'could not serialize access, by a trial' USING ERRCODE = '40001'; \
           END IF; \
           RETURN NULL; END $$"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use stockloop_tests::database::TestDatabase;

    use super::*;

    /// Writes once more; the code with which that fails, if it does.
    fn write(conn: &mut PgConnection) -> Option<String> {
        let failed = conn.batch_execute("BEGIN; UPDATE stock SET n = n + 1; COMMIT").err();
        // What failed before the commit leaves its transaction open.
        conn.batch_execute("ROLLBACK").unwrap();
        failed.map(|error| error.to_string())
    }

    #[test]
    fn races_are_lost_at_their_moment_and_counted_though_they_are_undone() {
        let Some(database) = TestDatabase::postgres() else { return };
        let mut conn = PgConnection::establish(&database.url()).unwrap();
        conn.batch_execute("CREATE TABLE stock (n BIGINT); INSERT INTO stock VALUES (0)").unwrap();
        let urls = [database.url(), database.url()];
        let mut races = Races::default();
        // One after the other: both stand for one here.
        install(&mut conn).unwrap();
        races.are_there = true;
        for is_at_commit in [false, true] {
            assert_eq!(write(&mut conn), None);
            races.be(&urls, Some(Race { is_at_commit, one_in: 1 })).unwrap();
            assert!(write(&mut conn).unwrap().contains("by a trial"));
            races.end(&urls).unwrap();
        }
        assert_eq!(write(&mut conn), None);
        let seen = |conn: &mut PgConnection, sql: &str| -> String {
            sql_query(sql).get_result::<Statement>(conn).unwrap().sql
        };
        assert_eq!(seen(&mut conn, "SELECT n::text AS sql FROM stock"), "3");
        assert_eq!(seen(&mut conn, "SELECT last_value::text AS sql FROM trial_race"), "2");
        let isolated = "SELECT is_called::text AS sql FROM trial_isolation";
        assert_eq!(seen(&mut conn, isolated), "false");
        conn.batch_execute("SET default_transaction_isolation = 'serializable'").unwrap();
        assert_eq!(write(&mut conn), None);
        assert_eq!(seen(&mut conn, isolated), "true");
    }
}
