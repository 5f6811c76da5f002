//! A fresh, empty database for one test, on either backend, as a URL; the services' own tests use it too.

use tempfile::TempDir;

use crate::real;

/// A database of its own; a file goes with it, a server's database with the server.
pub struct TestDatabase {
    url: String,
    folder: Option<TempDir>,
}

impl TestDatabase {
    /// A new SQLite file.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        Self { url, folder: Some(folder) }
    }

    /// A new database of the shared PostgreSQL; `None`, said aloud, where there is none.
    pub fn postgres() -> Option<Self> {
        let url = real::postgres()?.database("test");
        Some(Self { url, folder: None })
    }

    /// Takes a server's database away, connections and all, as a failure would.
    pub fn lose(&self) {
        if let (None, Some(server), Some((_, name))) =
            (&self.folder, real::postgres(), self.url.rsplit_once('/'))
        {
            server
                .execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"))
                .expect("a test's database can be dropped");
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}
