//! A migrated database of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::db::{DatabaseSettings, Db, DbError, ENGINE_MIGRATIONS};

/// Where `postgres()` makes its databases.
const POSTGRES_URL: &str = "STOCKLOOP_TEST_POSTGRES_URL";

static NEXT_DATABASE: AtomicU32 = AtomicU32::new(0);

/// A database that goes with the test.
pub(crate) struct TestDb {
    pub(crate) db: Db,
    _folder: Option<tempfile::TempDir>,
    dropped: Option<(Db, String)>,
}

fn open(url: String) -> Db {
    let settings =
        DatabaseSettings { url: url.into(), pool_size: 4, connect_timeout: Duration::from_secs(3) };
    Db::open(&settings).expect("the test's database opens")
}

impl TestDb {
    pub(crate) fn sqlite() -> Self {
        let test = Self::sqlite_unmigrated();
        test.db.migrate(&[ENGINE_MIGRATIONS]).unwrap();
        test
    }

    pub(crate) fn sqlite_unmigrated() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let db = open(format!("sqlite:{}", path.display()));
        Self { db, _folder: Some(folder), dropped: None }
    }

    pub(crate) fn postgres() -> Option<Self> {
        let Ok(url) = std::env::var(POSTGRES_URL) else {
            eprintln!("skipped on PostgreSQL: {POSTGRES_URL} is not set");
            return None;
        };
        let number = NEXT_DATABASE.fetch_add(1, Ordering::Relaxed);
        let name = format!("common_admin_{}_{number}", std::process::id());
        let server = open(url.clone());
        execute(&server, format!("CREATE DATABASE {name}"));
        let (base, _) = url.rsplit_once('/').expect("the URL names a database");
        let db = open(format!("{base}/{name}"));
        db.migrate(&[ENGINE_MIGRATIONS]).unwrap();
        Some(Self { db, _folder: None, dropped: Some((server, name)) })
    }
}

impl TestDb {
    /// Takes the server's database away, as a failure would.
    pub(crate) fn lose(&mut self) {
        if let Some((server, name)) = self.dropped.take() {
            execute(&server, format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        self.lose();
    }
}

/// Outside any transaction, which CREATE DATABASE asks for.
fn execute(server: &Db, sql: String) {
    let server = server.clone();
    let on_a_thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(server.read(move |conn| conn.batch_execute(&sql).map_err(DbError::from)))
    });
    on_a_thread.join().unwrap().unwrap();
}
