//! Backups of a service's database, and what it is to come back from one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use stockloop_tests::real;

use super::TestService;

/// A backup: a dump of PostgreSQL, or a copy of SQLite's file.
pub(crate) enum Backup {
    Dump(PathBuf),
    File(PathBuf),
}

impl TestService {
    /// Backs its database up; SQLite's file is copied while the service is stopped.
    pub(crate) async fn back_up(&mut self) -> Backup {
        let Some(file) = self.database_url.strip_prefix("sqlite:").map(PathBuf::from) else {
            let postgres = real::postgres().expect("it runs there");
            return Backup::Dump(postgres.dump(&self.database_url).expect("it can be dumped"));
        };
        self.stop().await;
        let copy = file.with_extension("backup");
        copy_with_wal(&file, &copy);
        self.start_in_process().await;
        Backup::File(copy)
    }

    /// Ends it, and starts it on the database as the backup has it, beside the other service at `peer`.
    pub(crate) async fn come_back(&mut self, backup: &Backup, peer: &str) {
        self.stop().await;
        // What the test has open is the database that is gone.
        self.database = OnceLock::new();
        self.database_url = match backup {
            Backup::Dump(dump) => {
                let postgres = real::postgres().expect("it runs there");
                postgres.restore(dump, self.name()).expect("it can be restored")
            }
            // Another file: SQLite would still clean up beside the old one.
            Backup::File(copy) => {
                let file = copy.with_extension("restored");
                copy_with_wal(copy, &file);
                format!("sqlite:{}", file.display())
            }
        };
        self.environment.push(("STOCKLOOP__DATABASE__URL", self.database_url.clone().leak()));
        self.environment.push(("STOCKLOOP__PEER__URL", peer.to_owned().leak()));
        self.start();
    }

    /// Starts it again beside the other service, which listens at `peer` now.
    pub(crate) async fn restart_beside(&mut self, peer: &str) {
        self.stop().await;
        self.environment.push(("STOCKLOOP__PEER__URL", peer.to_owned().leak()));
        self.start();
    }
}

/// What was committed last may be in the file beside it.
fn copy_with_wal(from: &Path, to: &Path) {
    fs::copy(from, to).expect("the file can be copied");
    if beside(from, "-wal").exists() {
        fs::copy(beside(from, "-wal"), beside(to, "-wal")).expect("the file can be copied");
    }
}

fn beside(file: &Path, name: &str) -> PathBuf {
    let mut beside = file.as_os_str().to_owned();
    beside.push(name);
    PathBuf::from(beside)
}
