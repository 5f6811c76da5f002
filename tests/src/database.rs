//! A fresh, empty database for one test, on either backend, and the macro that runs a test's body on both.

use std::sync::OnceLock;
use std::time::Duration;

use common::db::{Backend, Conn, DatabaseSettings, Db, MigrationSet, Pooler};
use diesel::QueryResult;
use tempfile::TempDir;

use crate::{real, template};

/// A database of its own; a file goes with it, a server's database with the server.
pub struct TestDatabase {
    /// Where it is; it is made when somebody first wants to know.
    url: OnceLock<String>,
    folder: Option<TempDir>,
}

impl TestDatabase {
    /// A new SQLite file.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { url: OnceLock::new(), folder: Some(folder) }
    }

    /// A new database of the shared PostgreSQL; `None`, said aloud, where there is none.
    pub fn postgres() -> Option<Self> {
        real::postgres()?;
        Some(Self { url: OnceLock::new(), folder: None })
    }

    /// Takes a server's database away, connections and all, as a failure would.
    pub fn lose(&self) {
        if let (None, Some(server), Some((_, name))) =
            (&self.folder, real::postgres(), self.url().rsplit_once('/'))
        {
            server
                .execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"))
                .expect("a test's database can be dropped");
        }
    }

    /// Opens it and brings it up to date with `sets`; without any it stays as it is.
    ///
    /// One that is made by this is a copy of one that they made, with the values that they chose at random.
    pub fn open(&self, sets: &[MigrationSet]) -> Db {
        let mut is_up_to_date = sets.is_empty();
        let url = self.url.get_or_init(|| {
            is_up_to_date = true;
            self.make(sets)
        });
        let db = open(url);
        if !is_up_to_date {
            db.migrate(sets).expect("a test's database can be migrated");
        }
        db
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.url.get_or_init(|| self.make(&[])).clone()
    }

    fn make(&self, sets: &[MigrationSet]) -> String {
        let Some(folder) = &self.folder else {
            let server = real::postgres().expect("it was there");
            return match sets {
                [] => server.database("test"),
                _ => template::copy_on(server, sets),
            };
        };
        let path = folder.path().join("test.db");
        if !sets.is_empty() {
            template::copy_file(sets, &path);
        }
        format!("sqlite:{}", path.display())
    }
}

/// Opens the database at `url` as it is.
pub fn open(url: &str) -> Db {
    let settings = DatabaseSettings {
        url: url.to_owned().into(),
        pooler: Pooler::None,
        pool_size: 4,
        loop_pool_size: 4,
        connect_timeout: Duration::from_secs(10),
    };
    Db::open(&settings).expect("a test's database can be opened")
}

/// Has a trigger refuse each row that is put into `table` with `poison` in `column`.
///
/// # Errors
/// When the statement fails.
pub fn refuse_poison(conn: &mut Conn, table: &str, column: &str) -> QueryResult<()> {
    let sql = match conn.backend() {
        Backend::Postgres => format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE 'no' USING ERRCODE = '23514'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW \
             WHEN (NEW.{column} = 'poison') EXECUTE FUNCTION refuse()"
        ),
        Backend::Sqlite => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN NEW.{column} = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'no'); END"
        ),
    };
    conn.batch_execute(&sql)
}

/// Makes a test of each body for each database: SQLite, and PostgreSQL where there is one.
///
/// `on_every_database!(Fixture::new => body, …)`: `Fixture::new` makes from a [`TestDatabase`] what the bodies, async
/// functions beside it, take. With `&Fixture::new` they take a reference to it. The tests are `sqlite::body` and
/// `postgres::body`; the crate that they are in needs actix-web.
#[macro_export]
macro_rules! on_every_database {
    (@tests $by:tt $make:expr => $($body:ident),+) => {
        mod sqlite {
            use super::*;
            $($crate::on_every_database!(
                @test $body $by $make, Some($crate::database::TestDatabase::sqlite())
            );)+
        }
        mod postgres {
            use super::*;
            $($crate::on_every_database!(
                @test $body $by $make, $crate::database::TestDatabase::postgres()
            );)+
        }
    };
    (@test $body:ident [$($by:tt)?] $make:expr, $database:expr) => {
        #[actix_web::test]
        async fn $body() {
            if let Some(database) = $database {
                super::$body($($by)? $make(database)).await;
            }
        }
    };
    (& $make:expr => $($body:ident),+ $(,)?) => {
        $crate::on_every_database!(@tests [&] $make => $($body),+);
    };
    ($make:expr => $($body:ident),+ $(,)?) => {
        $crate::on_every_database!(@tests [] $make => $($body),+);
    };
}
