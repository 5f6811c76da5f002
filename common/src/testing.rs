//! Databases for tests: each body runs on SQLite, and on PostgreSQL where there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use crate::db::{DatabaseSettings, Db, ENGINE_MIGRATIONS};

/// A fresh database with the engine's tables; gone when it is dropped.
pub(crate) struct TestDb {
    pub(crate) db: Db,
    _folder: Option<tempfile::TempDir>,
}

impl TestDb {
    /// A new SQLite file.
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        Self { db: open(url), _folder: Some(folder) }
    }

    /// A new database of the shared server; `None`, said aloud, where there is none.
    pub(crate) fn postgres() -> Option<Self> {
        let url = stockloop_tests::real::postgres()?.database("common");
        Some(Self { db: open(url), _folder: None })
    }
}

fn open(url: String) -> Db {
    let settings = DatabaseSettings {
        url: url.into(),
        pool_size: 4,
        connect_timeout: Duration::from_secs(10),
    };
    let db = Db::open(&settings).unwrap();
    db.migrate(&[ENGINE_MIGRATIONS]).unwrap();
    db
}

/// Makes a test of each body for each database: `on_every_database!(body, …)`, bodies take a [`TestDb`].
macro_rules! on_every_database {
    ($($body:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $body() {
                super::$body($crate::testing::TestDb::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $body() {
                if let Some(db) = $crate::testing::TestDb::postgres() {
                    super::$body(db).await;
                }
            })+
        }
    };
}
pub(crate) use on_every_database;
