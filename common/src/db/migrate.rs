//! Embedded migrations, run at start and by `migrate`.

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel::sqlite::Sqlite;
use diesel::{RunQueryDsl, sql_query};
use diesel_migrations::MigrationHarness;

pub use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::{Conn, DbError, Location, check};
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
    let refused = |reason: String| DbError::Unusable { location: location.to_string(), reason };
    check::encoding(conn, location)?;
    if let Conn::Pg(c) = conn {
        // To wait for another instance, or to build an index, may take longer than any other statement may.
        sql_query("SET statement_timeout = 0").execute(c)?;
        sql_query("SET lock_timeout = 0").execute(c)?;
        sql_query(format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).execute(c)?;
    }
    let todo = pending(conn, location, sets)?;
    for set in sets {
        let done = match conn {
            Conn::Pg(c) => c.run_pending_migrations(Only(set.postgres)).map(drop),
            Conn::Sqlite(c) => c.run_pending_migrations(Only(set.sqlite)).map(drop),
        };
        done.map_err(|error| {
            refused(format!("a migration failed: {error}; check that the user may create tables and that the database is not read-only"))
        })?;
    }
    if let Conn::Pg(c) = conn {
        sql_query(format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})")).execute(c)?;
    }
    check_writable(conn).map_err(|error| {
        refused(format!("it can't be written to: {error}; check that it is not read-only and that the user may write to its tables"))
    })?;
    Ok(todo)
}

/// A schema that is up to date needs no write, so whether there can be one is asked for by itself.
fn check_writable(conn: &mut Conn) -> diesel::QueryResult<()> {
    let undone = conn.transaction(|conn| {
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
    let refused = |reason: String| DbError::Unusable { location: location.to_string(), reason };
    let applied = applied(conn)
        .map_err(|error| refused(format!("its schema can't be read: {error}; check that it is not read-only and that the user owns its tables")))?;
    let known = known(conn, sets).map_err(|error| refused(error.to_string()))?;
    let unknown: Vec<_> = applied.iter().filter(|version| !known.contains(version)).collect();
    if !unknown.is_empty() {
        return Err(refused(format!(
            "its schema is newer than this binary (it has {unknown:?}); run the binary that made it, or a newer one"
        )));
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
