//! LISTEN and NOTIFY: what one program tells the others on the same PostgreSQL database at once.

use std::time::Duration;

use diesel::pg::PgConnection;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl, sql_query};

use super::{Backend, Conn, Db, DbError, Pooler, pool};

/// Pause between two looks: libpq's socket can't be waited for without unsafe code. They take about 1 % of a core.
const LOOK: Duration = Duration::from_millis(10);

/// Notifications that one look takes at the most; the next look takes further ones.
const AT_ONCE: usize = 1_000;

/// A connection of its own that hears what is told on one channel. Dropping it ends it.
pub struct Subscription {
    conn: PgConnection,
}

impl Db {
    /// Whether programs on this database can hear each other: behind a pooler in transaction mode, a session that listens
    /// would soon be somebody else's.
    pub fn can_listen(&self) -> bool {
        self.backend() == Backend::Postgres && self.inner.location.pooler() == Pooler::None
    }

    /// Listens on `channel`, an SQL identifier, with a connection beside the pool: what was told before is not heard.
    ///
    /// # Errors
    /// When there is no connection to be had, or this database knows no such thing.
    pub async fn listen(&self, channel: &'static str) -> Result<Subscription, DbError> {
        let location = self.inner.location.clone();
        let task = tokio::task::spawn_blocking(move || match pool::connect(&location)? {
            Conn::Pg(mut conn) => {
                sql_query(format!("LISTEN {channel}")).execute(&mut conn)?;
                Ok(Subscription { conn })
            }
            Conn::Sqlite(_) => Err(DbError::Unusable {
                location: location.to_string(),
                reason: "SQLite has no LISTEN".to_owned(),
            }),
        });
        task.await.unwrap_or_else(|_stopped| Err(DbError::Closed))
    }

    /// Tells whoever listens on `channel`, also this program itself; nothing on a database that knows no such thing.
    ///
    /// It is a transaction of its own: PostgreSQL commits those that notify one at a time, in the whole server.
    ///
    /// # Errors
    /// When the statement fails; nobody is told then.
    pub async fn notify(&self, channel: &'static str, payload: String) -> Result<(), DbError> {
        self.read(move |conn| match conn {
            Conn::Pg(conn) => {
                let notify = sql_query("SELECT pg_notify($1, $2)");
                notify.bind::<Text, _>(channel).bind::<Text, _>(payload).execute(conn)?;
                Ok(())
            }
            Conn::Sqlite(_) => Ok(()),
        })
        .await
    }
}

impl Subscription {
    /// Waits until something is told, and returns it in order; nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn next(&mut self) -> QueryResult<Vec<String>> {
        loop {
            // Reads what has arrived and never blocks.
            let arrived = self.conn.notifications_iter().take(AT_ONCE);
            let told: Vec<String> =
                arrived.map(|told| Ok(told?.payload)).collect::<QueryResult<_>>()?;
            if !told.is_empty() {
                return Ok(told);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
