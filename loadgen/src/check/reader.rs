//! A service's database, only read: page by page, each page in a short transaction of its own that sees one moment.
//!
//! A long snapshot would keep PostgreSQL from clearing dead rows away, so none lasts longer than a page. Nothing is locked
//! and nothing is written. Statements are not kept prepared, and nothing is set for longer than a transaction, so a pooler in
//! transaction mode may stand in between: what is set for a session would stay with a connection that the services use next.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use common::db::{Conn, Location, Url, json_list};
use common::ids::{EventId, EventIdSql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};
use diesel::sqlite::Sqlite;
use indicatif::ProgressBar;

use super::finding::Side;
use crate::progress::rows_bar;

/// Rows of a page.
pub(super) const PAGE: i64 = 2_000;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One moment for all statements of a page; who freezes in the middle of one holds nothing up for long.
const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL application_name = 'stockloop-check'; SET LOCAL statement_timeout = '60s'; \
     SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// A database that is only read.
pub(crate) struct Reader {
    pub(crate) side: Side,
    conn: Conn,
    /// The URL without its password.
    location: String,
}

impl Reader {
    /// Connects to `url`, where `side` has its tables: `proof` is one of them.
    pub(crate) fn open(side: Side, url: &Url, proof: &str) -> Result<Self> {
        let location = Location::parse(url)?.patient_for(PATIENCE);
        let connected = match &location {
            Location::Postgres { url, .. } => PgConnection::establish(url.expose()).map(Conn::Pg),
            Location::Sqlite { path } => {
                SqliteConnection::establish(&read_only(path)).map(Conn::Sqlite)
            }
        };
        let unreachable = |error: ConnectionError| {
            let words = location.printable(&error.to_string());
            anyhow!("the database of {side}, {location}, can't be reached: {words}")
        };
        let mut conn = connected.map_err(unreachable)?;
        let location = location.to_string();
        if let Conn::Sqlite(_) = conn {
            conn.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA query_only = ON")
                .with_context(|| format!("the database of {side}, {location}, can't be read"))?;
        }
        let mut reader = Self { side, conn, location };
        let look = format!("SELECT count(*) AS number FROM (SELECT 1 FROM {proof} LIMIT 1) AS one");
        reader.page(|conn| number(conn, &look)).with_context(|| {
            format!("{} is not the database of {side}, or has not been migrated", reader.location)
        })?;
        Ok(reader)
    }

    /// Reads one page: whatever `read` asks, it sees one moment.
    pub(crate) fn page<T>(&mut self, read: impl FnOnce(&mut Conn) -> QueryResult<T>) -> Result<T> {
        let begin = match &self.conn {
            Conn::Pg(_) => BEGIN_POSTGRES,
            Conn::Sqlite(_) => "BEGIN",
        };
        self.conn.batch_execute(begin)?;
        let rows = self.conn.plan_by_index().and_then(|()| read(&mut self.conn));
        // There is nothing to keep.
        let ended = self.conn.batch_execute("ROLLBACK");
        let rows = rows.with_context(|| format!("{} can't be read", self.location))?;
        ended?;
        Ok(rows)
    }

    /// Walks over all of something page by page: `read` gets where the last page ended and returns a page; `take` gets its
    /// rows and says where it ends. Rows are counted on a bar called `name`; returns how many there were.
    pub(crate) fn walk<T, C>(
        &mut self,
        name: &str,
        mut cursor: C,
        mut read: impl FnMut(&mut Conn, &C) -> QueryResult<Vec<T>>,
        mut take: impl FnMut(Vec<T>) -> Result<Option<C>>,
    ) -> Result<u64> {
        let bar = rows_bar(format!("{} {name}", self.side));
        let walked = self.walk_with(&bar, &mut cursor, &mut read, &mut take);
        bar.finish_and_clear();
        walked.with_context(|| format!("{name} of {}", self.side))
    }

    fn walk_with<T, C>(
        &mut self,
        bar: &ProgressBar,
        cursor: &mut C,
        read: &mut impl FnMut(&mut Conn, &C) -> QueryResult<Vec<T>>,
        take: &mut impl FnMut(Vec<T>) -> Result<Option<C>>,
    ) -> Result<u64> {
        let mut rows = 0;
        loop {
            let page = self.page(|conn| read(conn, cursor))?;
            let many = page.len() as u64;
            rows += many;
            bar.inc(many);
            let next = take(page)?;
            match next.filter(|_| i64::try_from(many).unwrap_or(i64::MAX) >= PAGE) {
                Some(next) => *cursor = next,
                None => return Ok(rows),
            }
        }
    }
}

/// A URI by which SQLite opens a file for reading only.
fn read_only(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?mode=ro")
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
    number: Option<i64>,
}

/// The one `number` that `sql` selects; 0 for none.
pub(crate) fn number(conn: &mut Conn, sql: &str) -> QueryResult<i64> {
    Ok(maybe_number(conn, sql)?.unwrap_or(0))
}

/// The `number` that `sql` selects, if it selects one.
pub(super) fn maybe_number(conn: &mut Conn, sql: &str) -> QueryResult<Option<i64>> {
    let rows: Vec<NumberRow> = common::on!(conn, c => sql_query(sql).load(c))?;
    Ok(rows.into_iter().next().and_then(|row| row.number))
}

/// Rows whose ids are among `ids`: `{in}` stands in `sql` where that is asked.
pub(super) fn of_ids<T>(conn: &mut Conn, sql: &str, ids: &[EventId]) -> QueryResult<Vec<T>>
where
    T: QueryableByName<Pg> + QueryableByName<Sqlite> + 'static,
{
    match conn {
        Conn::Pg(c) => {
            sql_query(sql.replace("{in}", "= ANY($1)")).bind::<Array<EventIdSql>, _>(ids).load(c)
        }
        Conn::Sqlite(c) => {
            sql_query(sql.replace("{in}", JSON_LIST)).bind::<Text, _>(json_list(ids)?).load(c)
        }
    }
}

/// Rows whose texts are among `keys`, as [`of_ids`].
pub(super) fn of_keys<T>(conn: &mut Conn, sql: &str, keys: &[String]) -> QueryResult<Vec<T>>
where
    T: QueryableByName<Pg> + QueryableByName<Sqlite> + 'static,
{
    match conn {
        Conn::Pg(c) => {
            sql_query(sql.replace("{in}", "= ANY($1)")).bind::<Array<Text>, _>(keys).load(c)
        }
        Conn::Sqlite(c) => {
            sql_query(sql.replace("{in}", JSON_LIST)).bind::<Text, _>(json_list(keys)?).load(c)
        }
    }
}

const JSON_LIST: &str = "IN (SELECT value FROM json_each($1))";

/// What makes of a SKU, which is bytewise, a text that finds an event's key by its index.
pub(super) const fn as_key(conn: &Conn) -> &'static str {
    match conn {
        Conn::Pg(_) => "COLLATE \"default\"",
        Conn::Sqlite(_) => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;

    use super::*;

    #[test]
    fn a_path_stays_one_in_a_uri() {
        assert_eq!(read_only(Path::new("/a b/50%?#.db")), "file:/a b/50%25%3f%23.db?mode=ro");
    }

    #[test]
    fn a_password_that_libpq_can_not_read_is_not_shown() {
        let url = Url::from("postgres://u:se%cret@127.0.0.1:1/d".to_owned());
        let error = format!("{:#}", Reader::open(Side::Product, &url, "product").err().unwrap());
        assert!(error.contains("write % as %25") && !error.contains("cret"), "{error}");
    }

    on_every_database!(std::convert::identity =>
        nothing_can_be_written, nothing_is_set_for_longer_than_a_page, what_is_not_there_is_said);

    async fn nothing_can_be_written(database: TestDatabase) {
        let _db = database.open(&[common::db::ENGINE_MIGRATIONS]);
        let url = Url::from(database.url());
        let mut reader = Reader::open(Side::Product, &url, "service_state").unwrap();
        let written = reader.page(|conn| conn.batch_execute("UPDATE service_state SET epoch = 2"));
        assert!(written.is_err());
        let epoch = reader.page(|conn| number(conn, "SELECT epoch AS number FROM service_state"));
        assert_eq!(epoch.unwrap(), 1);
    }

    async fn nothing_is_set_for_longer_than_a_page(database: TestDatabase) {
        let _db = database.open(&[common::db::ENGINE_MIGRATIONS]);
        let url = Url::from(database.url());
        let mut reader = Reader::open(Side::Product, &url, "service_state").unwrap();
        // Whoever gets this connection from a pooler next may write, as slowly as before.
        if let Conn::Pg(_) = &reader.conn {
            let sql = "SELECT count(*) AS number FROM pg_settings WHERE source = 'session' AND name IN \
                       ('default_transaction_read_only', 'client_min_messages', 'application_name', \
                        'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')";
            assert_eq!(number(&mut reader.conn, sql).unwrap(), 0);
            reader.conn.batch_execute("UPDATE service_state SET epoch = 2").unwrap();
        }
    }

    async fn what_is_not_there_is_said(database: TestDatabase) {
        let _db = database.open(&[common::db::ENGINE_MIGRATIONS]);
        let url = Url::from(database.url());
        let error = Reader::open(Side::Product, &url, "product").err().unwrap();
        assert!(
            format!("{error:#}").contains("is not the database of product-service"),
            "{error:#}"
        );
    }
}
