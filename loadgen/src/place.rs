//! Databases that are made for a run and removed after it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::db::{Conn, DatabaseSettings, Db, ENGINE_MIGRATIONS, MigrationSet, Pooler};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use crate::reserved::reserve;

/// PostgreSQL cuts longer names off, so that two could become one.
const MAX_NAME: usize = 63;

/// How long those who read the log of a database may take to leave it.
const LEAVE_IN: Duration = Duration::from_secs(10);

/// Those that this run has made and not removed yet. Whoever makes or removes one holds it meanwhile.
static MADE: Mutex<Vec<Place>> = Mutex::new(Vec::new());

/// Where databases are made, one at a time.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a server: the URL by which to come in, and the database's name and URL.
    Postgres { server: String, name: String, url: String },
    /// In a file.
    Sqlite { file: PathBuf },
}

fn made() -> MutexGuard<'static, Vec<Place>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all that this run has made, and ends it; nothing more is made meanwhile.
pub(crate) fn remove_all_and_end(code: i32) -> ! {
    let made = made();
    for place in made.iter() {
        // Whoever uses it does not know that this is the end, and may come back in between.
        let began = Instant::now();
        while let Err(error) = place.remove() {
            if began.elapsed() > LEAVE_IN {
                eprintln!("a database of this benchmark was left behind: {error:#}");
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    std::process::exit(code)
}

/// The places that the command line names.
pub(crate) fn places(postgres_url: Option<&str>, sqlite_dir: Option<&Path>) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    let beside = |url| Place::beside("--postgres-url", url, "stockloop_benchmark");
    places.extend(postgres_url.map(beside).transpose()?);
    places.extend(sqlite_dir.map(Place::within).transpose()?);
    ensure!(!places.is_empty(), "give --postgres-url, --sqlite-dir or both");
    Ok(places)
}

impl Place {
    /// A database beside the one that `option` names as `server`, called after it with `_` and `suffix` behind.
    pub(crate) fn beside(option: &str, server: &str, suffix: &str) -> Result<Self> {
        let (address, options) = server.split_at(server.find('?').unwrap_or(server.len()));
        let is_postgres = |scheme: &str| matches!(scheme, "postgres" | "postgresql");
        let parts = address.split_once("://").filter(|(scheme, _)| is_postgres(scheme));
        let (scheme, rest) =
            parts.with_context(|| format!("{option}: write postgres://user@host/database"))?;
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let name = format!("{database}_{suffix}");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        ensure!(name.chars().all(is_plain), "{option}: give a database with a plain name");
        ensure!(
            name.len() <= MAX_NAME,
            "{option}: the name {name} would have more than {MAX_NAME} bytes: give a database with a shorter one"
        );
        let url = format!("{scheme}://{host}/{name}{options}");
        Ok(Self::Postgres { server: server.to_owned(), name, url })
    }

    /// A file in `folder`, which is made if need be.
    fn within(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} can't be made", folder.display()))?;
        Ok(Self::Sqlite { file: folder.join("stockloop-benchmark.db") })
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.is_postgres() { "PostgreSQL" } else { "SQLite" }
    }

    /// An empty database with the engine's tables.
    pub(crate) fn make(&self) -> Result<Scratch<'_>> {
        self.make_with(&[ENGINE_MIGRATIONS])
    }

    /// An empty database, brought up to date with `sets`; without any it has no tables.
    pub(crate) fn make_with(&self, sets: &[MigrationSet]) -> Result<Scratch<'_>> {
        let scratch = self.anew(|| match self {
            Self::Postgres { server, name, .. } => {
                execute(server, &format!("CREATE DATABASE \"{name}\""))
            }
            Self::Sqlite { .. } => Ok(()),
        })?;
        if !sets.is_empty() {
            scratch.open()?.migrate(sets)?;
        }
        Ok(scratch)
    }

    /// A copy of `template`, file by file, so that nothing of the copying is left to be written. Nobody may be connected to
    /// that.
    pub(crate) fn make_like(&self, template: &Scratch<'_>) -> Result<Scratch<'_>> {
        let (Self::Postgres { server, name, .. }, Self::Postgres { name: of, .. }) =
            (self, template.0)
        else {
            bail!("only databases on PostgreSQL can be copied");
        };
        // Earlier releases know no other way, and not how to ask for it.
        let files = if release(server)? >= 150_000 { "STRATEGY FILE_COPY" } else { "" };
        self.anew(|| {
            execute(server, &format!("CREATE DATABASE \"{name}\" TEMPLATE \"{of}\" {files}"))
        })
    }

    /// Removes what is there, and lets `make` make another one.
    fn anew(&self, make: impl FnOnce() -> Result<()>) -> Result<Scratch<'_>> {
        let mut made = made();
        self.remove()?;
        made.push(self.clone());
        let done = make();
        drop(made);
        // Dropped, it removes what was half made, for which it has to hold what is made itself.
        let scratch = Scratch(self);
        done.map(|()| scratch)
    }

    /// Removes what is there, unless another run uses it; from then on, no other one can.
    pub(crate) fn remove(&self) -> Result<()> {
        match self {
            Self::Postgres { server, name, .. } => {
                reserve(server, name)?;
                end_log_readers(server, name)?;
                execute(server, &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))
            }
            Self::Sqlite { file } => ["", "-wal", "-shm"].iter().try_for_each(|end| {
                let file = format!("{}{end}", file.display());
                match std::fs::remove_file(&file) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        Err(error).with_context(|| format!("{file} can't be removed"))
                    }
                    _ => Ok(()),
                }
            }),
        }
    }
}

fn execute(server: &str, statement: &str) -> Result<()> {
    let mut conn = Conn::Pg(PgConnection::establish(server)?);
    conn.batch_execute("SET client_min_messages = warning")?;
    conn.batch_execute(statement)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The number of the server's release.
fn release(server: &str) -> Result<i64> {
    let sql = "SELECT current_setting('server_version_num')::bigint AS number";
    let Number { number } = sql_query(sql).get_result(&mut PgConnection::establish(server)?)?;
    Ok(number)
}

/// Ends whoever reads the log of the database `name`: as long as somebody does, it can't be dropped. Its slots go with it.
fn end_log_readers(server: &str, name: &str) -> Result<()> {
    let (mut conn, began) = (PgConnection::establish(server)?, Instant::now());
    loop {
        let sql = "SELECT count(pg_terminate_backend(active_pid)) AS number \
                   FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL";
        let readers: Number = sql_query(sql).bind::<Text, _>(name).get_result(&mut conn)?;
        if readers.number == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < LEAVE_IN, "the log of the database {name} is still read");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A database that goes when its run is over.
pub(crate) struct Scratch<'a>(&'a Place);

impl Scratch<'_> {
    /// As a service would name it.
    pub(crate) fn url(&self) -> String {
        match self.0 {
            Place::Postgres { url, .. } => url.clone(),
            Place::Sqlite { file } => format!("sqlite:{}", file.display()),
        }
    }

    /// With a pool of its own.
    pub(crate) fn open(&self) -> Result<Db> {
        let (pool_size, connect_timeout) = (4, Duration::from_secs(10));
        let settings = DatabaseSettings {
            url: self.url().into(),
            pooler: Pooler::None,
            pool_size,
            loop_pool_size: 4,
            connect_timeout,
        };
        Ok(Db::open(&settings)?)
    }

    /// One connection.
    pub(crate) fn connect(&self) -> Result<Conn> {
        Ok(match self.0 {
            Place::Postgres { url, .. } => Conn::Pg(PgConnection::establish(url)?),
            Place::Sqlite { file } => {
                Conn::Sqlite(SqliteConnection::establish(&file.display().to_string())?)
            }
        })
    }

    /// A connection that has begun a transaction and does not end it.
    pub(crate) fn hold_open(&self, begin: &str) -> Result<Conn> {
        let mut conn = self.connect()?;
        conn.batch_execute(begin)?;
        Ok(conn)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let mut made = made();
        made.retain(|place| place != self.0);
        if let Err(error) = self.0.remove() {
            eprintln!("a database of this benchmark was left behind: {error:#}");
        }
    }
}
