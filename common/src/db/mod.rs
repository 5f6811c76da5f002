//! One code on two databases: PostgreSQL in production, SQLite as the embedded default.
//!
//! [`Db`] hands closures a [`Conn`] inside a transaction. On PostgreSQL they run on a pool; on SQLite one
//! writer thread takes them from a queue and commits several together (`writer.rs`), readers run apart. In memory, for
//! simulations, they run in place (`memory.rs`).
//! [`crate::on`] is the only place that knows that there are two dialects in typed queries.

mod bisect;
mod certificate;
mod check;
mod commit;
mod conn;
mod error;
mod fault;
mod gate;
mod kept;
mod listen;
mod location;
mod memory;
mod migrate;
mod now;
mod pool;
mod pooler;
mod secret_url;
mod stored;
mod unnest;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use diesel::QueryResult;
use diesel::result::Error::SerializationError;
use serde::{Deserialize, Serialize};

pub use bisect::bisect;
pub use conn::Conn;
pub use error::DbError;
pub use fault::Fault;
pub use kept::Kept;
pub use listen::Subscription;
pub use location::{Backend, Location, LocationError};
pub use memory::{Line, MemoryDatabase};
pub use migrate::{ENGINE_MIGRATIONS, EmbeddedMigrations, MigrationSet, embed_migrations};
pub use now::database_now;
pub use pooler::Pooler;
pub use secret_url::Url;
pub use unnest::Unnest;

use conn::Begin;
use gate::Gate;
use memory::InPlace;
use pool::Pool;
use writer::Writer;

/// Rows of one multi-row INSERT: below both databases' limits on bind parameters.
pub const ROWS_PER_INSERT: usize = 1_000;

/// One column of `rows`, as the arrays are bound that PostgreSQL's `unnest` takes.
pub fn column<'a, R, T>(rows: &'a [R], value: impl FnMut(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// `rows` as one text of JSON: to be stored in one column, or to be bound, since SQLite has no arrays, but `json_each`, which
/// takes that apart.
///
/// # Errors
/// When a row can't be written as JSON.
pub fn json_list(rows: &[impl Serialize]) -> QueryResult<String> {
    serde_json::to_string(rows).map_err(|error| SerializationError(Box::new(error)))
}

/// How to reach a database and how much of it to use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://user:password@host/database` or `sqlite:path/to/file.db`.
    pub url: Url,
    /// `none`, or `transaction` behind a pooler in transaction mode (PostgreSQL).
    pub pooler: Pooler,
    /// Connections at the most (PostgreSQL), or readers (SQLite).
    pub pool_size: u32,
    /// Connections more that the background work has for itself, so that requests can't keep it waiting.
    pub loop_pool_size: u32,
    /// How long to wait for a connection.
    #[serde(with = "crate::duration")]
    pub connect_timeout: Duration,
}

/// A database, ready for use from many tasks; cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    location: Location,
    access: Access,
}

/// How work gets to a connection.
enum Access {
    /// On connections of a pool.
    Pooled(Arc<Pooled>),
    /// On one connection in memory.
    InPlace(InPlace),
}

struct Pooled {
    pool: Pool,
    gate: Gate,
    writer: Option<Arc<Writer>>,
}

impl Db {
    /// Opens the database that `settings` names.
    ///
    /// # Errors
    /// One line that says what is wrong with the URL or the database and what to do. Blocks until then.
    pub fn open(settings: &DatabaseSettings) -> Result<Self, DbError> {
        let location = Location::parse(&settings.url)?
            .patient_for(settings.connect_timeout)
            .behind(settings.pooler);
        let writer = match &location {
            Location::Postgres { .. } => None,
            Location::Sqlite { .. } => Some(Arc::new(Writer::start(pool::connect(&location)?)?)),
        };
        // The first connection is made by hand: its error is the one that a person has to read.
        drop(pool::connect(&location)?);
        Ok(Self::pooled(location, writer, settings.pool_size, settings.connect_timeout))
    }

    /// The same database with `connections` of its own, which nobody else can use up.
    #[must_use]
    pub fn with_own_pool(&self, connections: u32, patience: Duration) -> Self {
        let Inner { location, access } = &*self.inner;
        match access {
            Access::Pooled(pooled) => {
                Self::pooled(location.clone(), pooled.writer.clone(), connections, patience)
            }
            Access::InPlace(_) => self.clone(),
        }
    }

    fn pooled(
        location: Location,
        writer: Option<Arc<Writer>>,
        connections: u32,
        patience: Duration,
    ) -> Self {
        let pool = Pool::new(&location, connections, patience);
        let gate = Gate::new(connections, patience);
        Self::by(location, Access::Pooled(Arc::new(Pooled { pool, gate, writer })))
    }

    fn by(location: Location, access: Access) -> Self {
        Self { inner: Arc::new(Inner { location, access }) }
    }

    /// Which database this is.
    pub fn backend(&self) -> Backend {
        self.inner.location.backend()
    }

    /// The URL as it may be printed.
    pub fn describe(&self) -> String {
        self.inner.location.to_string()
    }

    /// Runs `work` in one transaction and answers when it is committed.
    ///
    /// # Errors
    /// Whatever `work` returned (rolled back), why there was no connection or no commit, or [`DbError::NotKnown`]. But for that
    /// one, nothing was written.
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        let pooled = match &self.inner.access {
            Access::Pooled(pooled) => pooled,
            Access::InPlace(memory) => return memory.run(|conn| conn.transaction(work)).await,
        };
        match &pooled.writer {
            Some(writer) => writer.run(within_span(work)).await,
            None => {
                self.on_pool(pooled, |conn, pooler| {
                    conn.run(Begin::Plain(pooler), commit::failure, work)
                })
                .await
            }
        }
    }

    /// [`Db::write`], with the plans of [`Conn::plan_by_index`]: they cost no round trip of their own here.
    ///
    /// # Errors
    /// As for [`Db::write`].
    pub async fn write_by_index<T, E>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        match &self.inner.access {
            Access::Pooled(pooled) if pooled.writer.is_none() => {
                self.on_pool(pooled, |conn, pooler| {
                    conn.run(Begin::ByIndex(pooler), commit::failure, work)
                })
                .await
            }
            _ => self.write(work).await,
        }
    }

    /// Runs `work`, which only reads, on a connection of its own.
    ///
    /// # Errors
    /// Whatever `work` returned, or why there was no connection.
    pub async fn read<T, E>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        match &self.inner.access {
            Access::Pooled(pooled) => {
                self.on_pool(pooled, |conn, pooler| conn.reading(pooler, work)).await
            }
            Access::InPlace(memory) => memory.run(work).await,
        }
    }

    /// How many connections its pool has made so far. A server that crashes or ends takes all of them along, so between two
    /// uses of one server with the same number it did neither, unless a pooler stands in between.
    /// In memory there is one, which lives as long as its database.
    pub fn connections_made(&self) -> u64 {
        match &self.inner.access {
            Access::Pooled(pooled) => pooled.pool.made(),
            Access::InPlace(_) => 1,
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.read(|conn| conn.ping().map_err(DbError::from)).await
    }

    async fn on_pool<T, E>(
        &self,
        pooled: &Arc<Pooled>,
        work: impl FnOnce(&mut Conn, Pooler) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (pooled, pooler) = (Arc::clone(pooled), self.inner.location.pooler());
        let work = within_span(move |conn: &mut Conn| work(conn, pooler));
        let permit = pooled.gate.enter().await?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut conn = pooled.pool.get()?;
            work(&mut conn)
        });
        task.await.unwrap_or_else(|ended| {
            Err(E::from(if ended.is_panic() { DbError::Panicked } else { DbError::Closed }))
        })
    }

    /// Brings the schema up to what this binary needs: the engine's tables, then the service's own.
    ///
    /// # Errors
    /// When the schema is newer than the binary, or the database is read-only or refuses a migration.
    pub fn migrate(&self, sets: &[MigrationSet]) -> Result<Vec<String>, DbError> {
        let location = &self.inner.location;
        let done = match &self.inner.access {
            Access::Pooled(_) => migrate::run(&mut pool::connect(location)?, location, sets)?,
            Access::InPlace(memory) => migrate::run(&mut memory.conn(), location, sets)?,
        };
        // Prepares on a second connection what the first one prepared: a pooler that nobody told of shows here.
        self.pending_migrations(sets)?;
        Ok(done)
    }

    /// The migrations that this binary has and the database has not.
    ///
    /// # Errors
    /// When the schema is newer than the binary or can't be read.
    pub fn pending_migrations(&self, sets: &[MigrationSet]) -> Result<Vec<String>, DbError> {
        let location = &self.inner.location;
        let pending = |conn: &mut Conn| migrate::pending(conn, location, sets);
        match &self.inner.access {
            Access::Pooled(pooled) => pooled.pool.get()?.reading(location.pooler(), pending),
            Access::InPlace(memory) => pending(&mut memory.conn()),
        }
    }
}

/// `work` for another thread, whose log lines come from where the caller is.
fn within_span<T>(work: impl FnOnce(&mut Conn) -> T) -> impl FnOnce(&mut Conn) -> T {
    let caller = tracing::Span::current();
    move |conn| caller.in_scope(|| work(conn))
}
