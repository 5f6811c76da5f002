//! Embedded migrations, run at start and by `migrate`.

use std::collections::BTreeSet;

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel::sqlite::Sqlite;
use diesel::{RunQueryDsl, sql_query};
use diesel_migrations::MigrationHarness;

pub use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::{Conn, DbError, Location, Pooler, check};
use crate::on;

/// The same schema for both databases.
#[derive(Clone, Copy)]
pub struct MigrationSet {
    /// For PostgreSQL.
    pub postgres: &'static EmbeddedMigrations,
    /// For SQLite.
    pub sqlite: &'static EmbeddedMigrations,
}

static ENGINE_POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/common/postgres");
static ENGINE_SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/common/sqlite");

/// The engine's own tables: the first set that a service runs.
pub const ENGINE_MIGRATIONS: MigrationSet =
    MigrationSet { postgres: &ENGINE_POSTGRES, sqlite: &ENGINE_SQLITE };

/// Any number, as long as every instance takes the same: one of them migrates, the others wait.
const MIGRATION_LOCK: i64 = 0x5354_4f43_4b4c_4f50;

pub(super) fn run(
    conn: &mut Conn,
    location: &Location,
    sets: &[MigrationSet],
) -> Result<Vec<String>, DbError> {
    check::encoding(conn, location)?;
    let mut done = Vec::new();
    while let Some(migration) = run_next(conn, location, sets)? {
        done.push(migration);
    }
    check_writable(conn, location.pooler()).map_err(|error| {
        refused(location, format!("it can't be written to: {error}; check that it is not read-only and that the user may write to its tables"))
    })?;
    Ok(done)
}

/// Runs the next migration, if there is one, in a transaction that holds the lock.
///
/// The lock is a transaction's: one of a session could not be given back behind a pooler. Each migration looks under it
/// what is still to be done, so it does not matter which instance runs which. One transaction around all of them would
/// keep the tables of the first one locked until the last one is through.
fn run_next(
    conn: &mut Conn,
    location: &Location,
    sets: &[MigrationSet],
) -> Result<Option<String>, DbError> {
    let next = conn.outermost(location.pooler(), |conn| {
        if let Conn::Pg(_) = conn {
            conn.batch_execute(&lock())?;
        }
        let todo = pending(conn, location, sets)?;
        if todo.is_empty() {
            return Ok(None);
        }
        check::alone(conn, location, &todo)?;
        run_first(conn, location, sets)
    });
    next.map_err(|error| match error {
        DbError::Query(error) => refused(
            location,
            format!("it can't be migrated: {error}; check that it is not read-only"),
        ),
        told => told,
    })
}

/// To wait for another instance, or to build an index, may take longer than any other statement may.
fn lock() -> String {
    format!(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
         SET LOCAL idle_in_transaction_session_timeout = 0; \
         SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
    )
}

/// Runs the first migration that is not applied.
fn run_first(
    conn: &mut Conn,
    location: &Location,
    sets: &[MigrationSet],
) -> Result<Option<String>, DbError> {
    for set in sets {
        let done = match conn {
            Conn::Pg(c) => run_first_of::<Pg, _>(c, set.postgres),
            Conn::Sqlite(c) => run_first_of::<Sqlite, _>(c, set.sqlite),
        };
        let done = done.map_err(|error| {
            told(location, error, |error| format!("a migration failed: {error}; check that the user may create tables and that the database is not read-only"))
        })?;
        if done.is_some() {
            return Ok(done);
        }
    }
    Ok(None)
}

fn run_first_of<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    set: &'static EmbeddedMigrations,
) -> Boxed<Option<String>>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let pending = conn.pending_migrations(Only(set))?;
    let Some(first) = pending.first() else { return Ok(None) };
    Ok(Some(conn.run_migration(first)?.to_string()))
}

fn refused(location: &Location, reason: String) -> DbError {
    DbError::Unusable { location: location.to_string(), reason }
}

/// An error of diesel's migrations with its `reason`, unless it knows by itself what to do.
fn told(
    location: &Location,
    error: Box<dyn std::error::Error + Send + Sync>,
    reason: impl FnOnce(&dyn std::error::Error) -> String,
) -> DbError {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => match DbError::from(*error) {
            pooler @ DbError::Pooler(_) => pooler,
            other => refused(location, reason(&other)),
        },
        Err(other) => refused(location, reason(&*other)),
    }
}

/// A schema that is up to date needs no write, so whether there can be one is asked for by itself.
fn check_writable(conn: &mut Conn, pooler: Pooler) -> diesel::QueryResult<()> {
    let undone = conn.outermost(pooler, |conn| {
        on!(conn, c => sql_query("UPDATE service_state SET epoch = epoch").execute(c))?;
        Err::<(), _>(diesel::result::Error::RollbackTransaction)
    });
    match undone {
        Err(diesel::result::Error::RollbackTransaction) => Ok(()),
        other => other,
    }
}

pub(super) fn pending(
    conn: &mut Conn,
    location: &Location,
    sets: &[MigrationSet],
) -> Result<Vec<String>, DbError> {
    let applied = applied(conn).map_err(|error| {
        told(location, error, |error| format!("its schema can't be read: {error}; check that it is not read-only and that the user owns its tables"))
    })?;
    let known = known(conn, sets).map_err(|error| refused(location, error.to_string()))?;
    let mut once = BTreeSet::new();
    if let Some(twice) = known.iter().find(|version| !once.insert(*version)) {
        // They would count as one: the second would never run, and nothing would say so.
        return Err(refused(
            location,
            format!(
                "two migrations have the number {twice}; give one of the service's own another one"
            ),
        ));
    }
    let unknown: Vec<_> = applied.iter().filter(|version| !known.contains(version)).collect();
    if !unknown.is_empty() {
        return Err(refused(
            location,
            format!(
                "its schema is newer than this binary (it has {unknown:?}); run the binary that made it, or a newer one"
            ),
        ));
    }
    Ok(known.into_iter().filter(|version| !applied.contains(version)).collect())
}

type Boxed<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn applied(conn: &mut Conn) -> Boxed<Vec<String>> {
    let versions = match conn {
        Conn::Pg(c) => MigrationHarness::<Pg>::applied_migrations(c)?,
        Conn::Sqlite(c) => MigrationHarness::<Sqlite>::applied_migrations(c)?,
    };
    Ok(versions.iter().map(MigrationVersion::to_string).collect())
}

fn known(conn: &Conn, sets: &[MigrationSet]) -> Boxed<Vec<String>> {
    let mut known = Vec::new();
    for set in sets {
        match conn {
            Conn::Pg(_) => known.extend(versions::<Pg>(set.postgres)?),
            Conn::Sqlite(_) => known.extend(versions::<Sqlite>(set.sqlite)?),
        }
    }
    Ok(known)
}

fn versions<DB: diesel::backend::Backend>(source: &EmbeddedMigrations) -> Boxed<Vec<String>>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let migrations: Vec<Box<dyn Migration<DB>>> = MigrationSource::<DB>::migrations(source)?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}

/// Lends a static set to diesel, which wants a source by value.
struct Only(&'static EmbeddedMigrations);

impl<DB: diesel::backend::Backend> MigrationSource<DB> for Only
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<DB>>>> {
        self.0.migrations()
    }
}
