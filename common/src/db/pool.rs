//! Connections to either database, kept in an r2d2 pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use diesel::connection::{CacheSize, SimpleConnection};
use diesel::{Connection, PgConnection, SqliteConnection};

use super::pooler::limits;
use super::{Conn, DbError, Location, Pooler};

/// A pool of [`Conn`].
pub(super) struct Pool {
    pool: r2d2::Pool<Manager>,
    location: Location,
    made: Arc<AtomicU64>,
}

impl Pool {
    /// A pool that connects when it is first used.
    pub(super) fn new(location: &Location, connections: u32, patience: Duration) -> Self {
        let made = Arc::default();
        let pool = r2d2::Pool::builder()
            .max_size(connections.max(1))
            .min_idle(Some(0))
            .connection_timeout(patience)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager { location: location.clone(), made: Arc::clone(&made) });
        Self { pool, location: location.clone(), made }
    }

    /// Connections so far.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    pub(super) fn get(&self) -> Result<r2d2::PooledConnection<Manager>, DbError> {
        self.pool.get().map_err(|error| DbError::Unreachable {
            location: self.location.to_string(),
            reason: error.to_string(),
        })
    }
}

/// Opens one connection with the settings that durability needs.
pub(super) fn connect(location: &Location) -> Result<Conn, DbError> {
    let established = match location {
        Location::Postgres { url, .. } => PgConnection::establish(url.expose()).map(Conn::Pg),
        Location::Sqlite { path } => {
            SqliteConnection::establish(&path.to_string_lossy()).map(Conn::Sqlite)
        }
    };
    let mut conn = established.map_err(|error| DbError::Unreachable {
        location: location.to_string(),
        reason: location.printable(&error.to_string()),
    })?;
    set_up(&mut conn, location.pooler()).map_err(|error| DbError::Unusable {
        location: location.to_string(),
        reason: format!("{error}; check that it is a database that may be written to"),
    })?;
    Ok(conn)
}

fn set_up(conn: &mut Conn, pooler: Pooler) -> diesel::QueryResult<()> {
    match conn {
        // Nothing may be left in a session: each transaction sets the same for itself, and what is not kept for later
        // diesel sends as an unnamed statement, in one message with its execution.
        Conn::Pg(c) if pooler == Pooler::Transaction => {
            c.set_prepared_statement_cache_size(CacheSize::Disabled);
            Ok(())
        }
        // An acknowledged change must survive a crash of the server, and a dead peer must be noticed. Who has waited for a
        // lock must see what its holder wrote, whatever the database isolates by itself.
        Conn::Pg(c) => c.batch_execute(concat!(
            "SET synchronous_commit = on; SET TIME ZONE 'UTC'; SET client_min_messages = warning; \
             SET tcp_user_timeout = '30s'; SET default_transaction_isolation = 'read committed'; ",
            limits!("false")
        )),
        Conn::Sqlite(c) => c.batch_execute(
            "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY",
        ),
    }
}

/// Makes and checks pooled connections.
pub(super) struct Manager {
    location: Location,
    /// How many it has made.
    made: Arc<AtomicU64>,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Conn;
    type Error = DbError;

    fn connect(&self) -> Result<Conn, DbError> {
        let conn = connect(&self.location)?;
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(conn)
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), DbError> {
        // A question to the server would be a round trip more for each use.
        match conn.is_alive() {
            true => Ok(()),
            false => Err(DbError::Unreachable {
                location: self.location.to_string(),
                reason: "the server has hung up".to_owned(),
            }),
        }
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        std::thread::panicking() || conn.is_broken()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::db::Url;

    #[test]
    fn a_password_that_libpq_can_not_read_is_not_shown() {
        let url = Url::from("postgres://u:se%cret@127.0.0.1:1/d".to_owned());
        let error = connect(&Location::parse(&url).unwrap()).err().unwrap().to_string();
        assert!(error.contains("write % as %25") && !error.contains("cret"), "{error}");
    }
}
