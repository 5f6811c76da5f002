//! One code on two databases: PostgreSQL in production, SQLite as the embedded default.
//!
//! [`Db`] hands closures a [`Conn`] inside a transaction. On PostgreSQL they run on a pool; on SQLite one
//! writer thread takes them from a queue and commits several together (`writer.rs`), readers run apart.
//! [`crate::on`] is the only place that knows that there are two dialects in typed queries.

mod bisect;
mod check;
mod commit;
mod fault;
mod gate;
mod kept;
mod listen;
mod location;
mod migrate;
mod now;
mod pool;
mod pooler;
mod secret_url;
mod stored;
mod unnest;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::pg::PgConnection;
use diesel::sqlite::SqliteConnection;
use diesel::{Connection, QueryResult, RunQueryDsl, sql_query};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use bisect::bisect;
pub use fault::Fault;
pub use kept::Kept;
pub use listen::Subscription;
pub use location::{Backend, Location, LocationError};
pub use migrate::{ENGINE_MIGRATIONS, EmbeddedMigrations, MigrationSet, embed_migrations};

pub use now::database_now;
pub use pooler::Pooler;
pub use secret_url::Url;
pub use unnest::Unnest;

use gate::Gate;
use pool::Pool;
use writer::Writer;

/// A connection to either database.
pub enum Conn {
    /// PostgreSQL through libpq.
    Pg(PgConnection),
    /// The embedded SQLite.
    Sqlite(SqliteConnection),
}

/// Rows of one multi-row INSERT: below both databases' limits on bind parameters.
pub const ROWS_PER_INSERT: usize = 1_000;

/// One column of `rows`, as the arrays are bound that PostgreSQL's `unnest` takes.
pub fn column<'a, R, T>(rows: &'a [R], value: impl FnMut(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Runs the same typed diesel expression on whichever backend a [`Conn`] is.
///
/// `on!(conn, c => query.load(c))` compiles the expression once for each backend.
#[macro_export]
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn {
            $crate::db::Conn::Pg($c) => $body,
            $crate::db::Conn::Sqlite($c) => $body,
        }
    };
}

impl Conn {
    /// Which database this is.
    pub fn backend(&self) -> Backend {
        match self {
            Self::Pg(_) => Backend::Postgres,
            Self::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Runs several statements given as text.
    pub fn batch_execute(&mut self, sql: &str) -> QueryResult<()> {
        use diesel::connection::SimpleConnection;
        on!(self, c => c.batch_execute(sql))
    }

    /// Runs `work` in a transaction (nested: a savepoint), which an `Err` rolls back.
    pub fn transaction<T, E>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<diesel::result::Error>,
    {
        self.begin()?;
        self.end(work, E::from)
    }

    /// Runs `work` in a transaction that no other is around, which behind a `pooler` brings along what a session can't
    /// hold there.
    fn outermost<T, E>(
        &mut self,
        pooler: Pooler,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<diesel::result::Error>,
    {
        self.begin_outermost(pooler)?;
        self.end(work, E::from)
    }

    /// As [`Conn::outermost`], and where nobody knows whether it was committed, the error says so.
    fn writing<T, E>(
        &mut self,
        pooler: Pooler,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<diesel::result::Error> + From<DbError>,
    {
        self.begin_outermost(pooler)?;
        self.end(work, commit::failure)
    }

    /// Runs `work` in a transaction with the plans of [`Conn::plan_by_index`], which come in the message that begins it.
    ///
    /// # Errors
    /// Whatever `work` returned (rolled back), or why there was no transaction or no commit.
    pub fn transaction_by_index<T, E>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<diesel::result::Error>,
    {
        self.begin_by_index(Pooler::None)?;
        self.end(work, E::from)
    }

    /// Runs `work`, which only reads: without a transaction, unless a `pooler` asks for one.
    fn reading<T, E>(
        &mut self,
        pooler: Pooler,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<diesel::result::Error>,
    {
        match pooler {
            Pooler::None => work(self),
            Pooler::Transaction => self.outermost(pooler, work),
        }
    }

    fn end<T, E>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
        of_commit: impl FnOnce(diesel::result::Error) -> E,
    ) -> Result<T, E> {
        // A panic that passes here must not leave a transaction open that all later ones would be part of.
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(Ok(value)) => self.commit().map(|()| value).map_err(of_commit),
            Ok(Err(error)) => {
                self.roll_back();
                Err(error)
            }
            Err(panic) => {
                self.roll_back();
                resume_unwind(panic)
            }
        }
    }

    /// Asks PostgreSQL, for the rest of this transaction, for the plans that the loop's statements are made for.
    ///
    /// They touch a batch of rows by key. Where statistics are stale (a queue that was empty when they were
    /// taken), the planner sorts or scans the whole backlog for each batch instead. A table of a few rows that is read
    /// whole then counts as dear, for which PostgreSQL would compile the statement: that alone takes milliseconds.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn plan_by_index(&mut self) -> QueryResult<()> {
        match self {
            Self::Pg(_) => self.batch_execute(INDEX_PLANS),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Runs `work`, which only reads, with the plans of [`Conn::plan_by_index`].
    ///
    /// # Errors
    /// Whatever `work` returned.
    pub fn read_by_index<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> QueryResult<T>,
    ) -> QueryResult<T> {
        match self {
            Self::Pg(_) => {
                self.begin_by_index(Pooler::None)?;
                let read = work(self);
                // There is nothing to keep, and within another transaction the plans end here, too.
                self.roll_back();
                read
            }
            // A reader must not stand in the writer's queue.
            Self::Sqlite(_) => work(self),
        }
    }

    fn begin_outermost(&mut self, pooler: Pooler) -> QueryResult<()> {
        match (&mut *self, pooler) {
            (Self::Pg(c), Pooler::Transaction) => begin_with(c, pooler::BEGIN),
            _ => self.begin(),
        }
    }

    fn begin(&mut self) -> QueryResult<()> {
        match self {
            Self::Pg(c) => AnsiTransactionManager::begin_transaction(c),
            // A deferred transaction that reads first and writes later fails at once when another wrote between.
            Self::Sqlite(c) => match is_outermost(c) {
                true => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
                false => AnsiTransactionManager::begin_transaction(c),
            },
        }
    }

    /// Begins a transaction with the plans of [`Conn::plan_by_index`], in one round trip if no other is around it.
    fn begin_by_index(&mut self, pooler: Pooler) -> QueryResult<()> {
        if let Self::Pg(c) = self
            && is_outermost(c)
        {
            let begin = match pooler {
                Pooler::None => "BEGIN",
                Pooler::Transaction => pooler::BEGIN,
            };
            return begin_with(c, &format!("{begin}; {INDEX_PLANS}"));
        }
        self.begin()?;
        self.plan_by_index().inspect_err(|_| self.roll_back())
    }

    fn commit(&mut self) -> QueryResult<()> {
        on!(self, c => AnsiTransactionManager::commit_transaction(c))
    }

    fn roll_back(&mut self) {
        let rolled_back = on!(self, c => AnsiTransactionManager::rollback_transaction(c));
        if let Err(error) = rolled_back {
            tracing::warn!(%error, "a transaction could not be rolled back; its connection is given up");
        }
    }

    fn is_broken(&mut self) -> bool {
        on!(self, c => AnsiTransactionManager::is_broken_transaction_manager(c))
    }

    /// Whether the other side has not hung up, as far as is known here: without asking it.
    fn is_alive(&mut self) -> bool {
        match self {
            // What it said at its end is taken in first, and that there is no more shows behind it.
            Self::Pg(c) => (0..2).all(|_| !c.notifications_iter().any(|said| said.is_err())),
            Self::Sqlite(_) => true,
        }
    }

    fn ping(&mut self) -> QueryResult<()> {
        on!(self, c => sql_query("SELECT 1").execute(c)).map(|_| ())
    }
}

const INDEX_PLANS: &str = "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
     SET LOCAL enable_mergejoin = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
     SET LOCAL max_parallel_workers_per_gather = 0";

fn is_outermost<C>(conn: &mut C) -> bool
where
    C: Connection<TransactionManager = AnsiTransactionManager>,
{
    use diesel::connection::TransactionManagerStatus;
    let status: &mut TransactionManagerStatus =
        <AnsiTransactionManager as TransactionManager<C>>::transaction_manager_status_mut(conn);
    matches!(status.transaction_depth(), Ok(None))
}

/// Begins a transaction that no other is around with several statements, of which BEGIN is the first.
fn begin_with(conn: &mut PgConnection, sql: &str) -> QueryResult<()> {
    use diesel::connection::SimpleConnection;
    AnsiTransactionManager::begin_transaction_sql(conn, sql).inspect_err(|_| {
        // What fails behind BEGIN leaves a transaction that diesel does not know of.
        _ = conn.batch_execute("ROLLBACK");
    })
}

/// What can go wrong between the program and its database.
#[derive(Debug, Error)]
pub enum DbError {
    /// No connection could be had.
    #[error(
        "the database {location} can't be reached: {reason}; check that it runs and that the URL, user and password are right"
    )]
    Unreachable {
        /// The URL without its password.
        location: String,
        /// What the driver said.
        reason: String,
    },
    /// It is there, but can't be used as it is.
    #[error("the database {location} can't be used: {reason}")]
    Unusable {
        /// The URL without its password.
        location: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Query(diesel::result::Error),
    /// A statement met a session that others use, too.
    #[error(
        "a pooler in transaction mode seems to stand between this program and its database, and nobody said so: set database.pooler = \"transaction\" (STOCKLOOP__DATABASE__POOLER), or connect directly or in session mode ({0})"
    )]
    Pooler(diesel::result::Error),
    /// All connections are in use, and too many wait for one already.
    #[error(
        "all connections to the database are in use; try again shortly, or raise database.pool_size or database.loop_pool_size"
    )]
    Busy,
    /// It was to be committed, and nobody said whether it was.
    #[error("whether a transaction was committed is not known: {reason}")]
    NotKnown {
        /// Whose fault it is.
        fault: Fault,
        /// What came instead of an answer.
        reason: String,
    },
    /// The program has a flaw: it panicked in the middle.
    #[error(
        "the work broke off because of a flaw in this program, and nothing of it was written; its log says where"
    )]
    Panicked,
    /// The program is stopping and takes no more work.
    #[error("the database is closed, since the program is stopping")]
    Closed,
}

impl From<diesel::result::Error> for DbError {
    fn from(error: diesel::result::Error) -> Self {
        match sqlstate::of(&error) {
            Some(code) if pooler::FOREIGN_SESSION.contains(&code) => Self::Pooler(error),
            _ => Self::Query(error),
        }
    }
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
        let Inner { location, writer, .. } = &*self.inner;
        Self::pooled(location.clone(), writer.clone(), connections, patience)
    }

    fn pooled(
        location: Location,
        writer: Option<Arc<Writer>>,
        connections: u32,
        patience: Duration,
    ) -> Self {
        let pool = Pool::new(&location, connections, patience);
        let gate = Gate::new(connections, patience);
        Self { inner: Arc::new(Inner { location, pool, gate, writer }) }
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
        match &self.inner.writer {
            Some(writer) => writer.run(within_span(work)).await,
            None => self.on_pool(|conn, pooler| conn.writing(pooler, work)).await,
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
        if self.inner.writer.is_some() {
            return self.write(work).await;
        }
        self.on_pool(|conn, pooler| {
            conn.begin_by_index(pooler)?;
            conn.end(work, commit::failure)
        })
        .await
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
        self.on_pool(|conn, pooler| conn.reading(pooler, work)).await
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.read(|conn| conn.ping().map_err(DbError::from)).await
    }

    async fn on_pool<T, E>(
        &self,
        work: impl FnOnce(&mut Conn, Pooler) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let pooler = inner.location.pooler();
        let work = within_span(move |conn: &mut Conn| work(conn, pooler));
        let permit = inner.gate.enter().await?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut conn = inner.pool.get()?;
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
        let done = migrate::run(&mut pool::connect(location)?, location, sets)?;
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
        let mut conn = self.inner.pool.get()?;
        conn.reading(location.pooler(), |conn| migrate::pending(conn, location, sets))
    }
}

/// `work` for another thread, whose log lines come from where the caller is.
fn within_span<T>(work: impl FnOnce(&mut Conn) -> T) -> impl FnOnce(&mut Conn) -> T {
    let caller = tracing::Span::current();
    move |conn| caller.in_scope(|| work(conn))
}
