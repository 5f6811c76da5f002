//! A connection to either database, and its transactions.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use diesel::connection::{
    AnsiTransactionManager, SimpleConnection, TransactionManager, TransactionManagerStatus,
};
use diesel::pg::PgConnection;
use diesel::result::Error;
use diesel::sqlite::SqliteConnection;
use diesel::{Connection, QueryResult, RunQueryDsl, sql_query};

use super::{Backend, Pooler};

/// A connection to either database.
pub enum Conn {
    /// PostgreSQL through libpq.
    Pg(PgConnection),
    /// The embedded SQLite.
    Sqlite(SqliteConnection),
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

/// What a transaction begins with. With [`Pooler::None`] it is a savepoint where another one is around it; behind
/// [`Pooler::Transaction`] none may be, since it brings along what a session can't hold there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// Nothing besides.
    Plain(Pooler),
    /// The plans of [`Conn::plan_by_index`], in the same round trip if no other transaction is around it.
    ByIndex(Pooler),
}

const INDEX_PLANS: &str = "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
     SET LOCAL enable_mergejoin = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
     SET LOCAL max_parallel_workers_per_gather = 0";

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
        on!(self, c => c.batch_execute(sql))
    }

    /// Runs `work` in a transaction (nested: a savepoint), which an `Err` rolls back.
    pub fn transaction<T, E>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.run(Begin::Plain(Pooler::None), E::from, work)
    }

    /// [`Conn::transaction`], with the plans of [`Conn::plan_by_index`], which come in the message that begins it.
    ///
    /// # Errors
    /// Whatever `work` returned (rolled back), or why there was no transaction or no commit.
    pub fn transaction_by_index<T, E>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.run(Begin::ByIndex(Pooler::None), E::from, work)
    }

    /// Runs `work` in a transaction that no other is around.
    pub(super) fn outermost<T, E>(
        &mut self,
        pooler: Pooler,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.run(Begin::Plain(pooler), E::from, work)
    }

    /// Runs `work`, which only reads: without a transaction, unless a `pooler` asks for one.
    pub(super) fn reading<T, E>(
        &mut self,
        pooler: Pooler,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        match pooler {
            Pooler::None => work(self),
            Pooler::Transaction => self.outermost(pooler, work),
        }
    }

    /// Runs `work` in a transaction, which an `Err` rolls back; `of_commit` says what it is that COMMIT failed.
    pub(super) fn run<T, E>(
        &mut self,
        begin: Begin,
        of_commit: impl FnOnce(Error) -> E,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.begin(begin)?;
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
                self.begin(Begin::ByIndex(Pooler::None))?;
                let read = work(self);
                // There is nothing to keep, and within another transaction the plans end here, too.
                self.roll_back();
                read
            }
            // A reader must not stand in the writer's queue.
            Self::Sqlite(_) => work(self),
        }
    }

    pub(super) fn begin(&mut self, begin: Begin) -> QueryResult<()> {
        match self {
            Self::Pg(c) => match (begin, is_outermost(c)) {
                (Begin::Plain(Pooler::None), _) => AnsiTransactionManager::begin_transaction(c),
                (Begin::Plain(pooler), _) => begin_with(c, pooler.begin()),
                (Begin::ByIndex(pooler), true) => {
                    begin_with(c, &format!("{}; {INDEX_PLANS}", pooler.begin()))
                }
                (Begin::ByIndex(_), false) => {
                    AnsiTransactionManager::begin_transaction(c)?;
                    self.plan_by_index().inspect_err(|_| self.roll_back())
                }
            },
            // A deferred transaction that reads first and writes later fails at once when another wrote between.
            Self::Sqlite(c) => match is_outermost(c) {
                true => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
                false => AnsiTransactionManager::begin_transaction(c),
            },
        }
    }

    pub(super) fn commit(&mut self) -> QueryResult<()> {
        on!(self, c => AnsiTransactionManager::commit_transaction(c))
    }

    pub(super) fn roll_back(&mut self) {
        let rolled_back = on!(self, c => AnsiTransactionManager::rollback_transaction(c));
        if let Err(error) = rolled_back {
            tracing::warn!(%error, "a transaction could not be rolled back; its connection is given up");
        }
    }

    pub(super) fn is_broken(&mut self) -> bool {
        on!(self, c => AnsiTransactionManager::is_broken_transaction_manager(c))
    }

    /// Whether the other side has not hung up, as far as is known here: without asking it.
    pub(super) fn is_alive(&mut self) -> bool {
        match self {
            // What it said at its end is taken in first, and that there is no more shows behind it.
            Self::Pg(c) => (0..2).all(|_| !c.notifications_iter().any(|said| said.is_err())),
            Self::Sqlite(_) => true,
        }
    }

    pub(super) fn ping(&mut self) -> QueryResult<()> {
        on!(self, c => sql_query("SELECT 1").execute(c)).map(|_| ())
    }
}

fn is_outermost<C>(conn: &mut C) -> bool
where
    C: Connection<TransactionManager = AnsiTransactionManager>,
{
    let status: &mut TransactionManagerStatus =
        <AnsiTransactionManager as TransactionManager<C>>::transaction_manager_status_mut(conn);
    matches!(status.transaction_depth(), Ok(None))
}

/// Begins a transaction that no other is around with several statements, of which BEGIN is the first.
fn begin_with(conn: &mut PgConnection, sql: &str) -> QueryResult<()> {
    AnsiTransactionManager::begin_transaction_sql(conn, sql).inspect_err(|_| {
        // What fails behind BEGIN leaves a transaction that diesel does not know of.
        _ = conn.batch_execute("ROLLBACK");
    })
}
