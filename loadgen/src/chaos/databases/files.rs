//! A file of SQLite for each service.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stockloop_tests::process::ScratchFolder;

use crate::check::Side;

/// How long a checkpoint may take to come.
const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(30);

/// How often it is looked for: one takes milliseconds.
const LOOK: Duration = Duration::from_micros(50);

/// What SQLite puts beside a file: what was committed last, and an index of that.
const LOG: &str = "-wal";
const INDEX: &str = "-shm";

/// Where the index says how many pages of the log are in the file, and how many a checkpoint began to put there
/// (<https://sqlite.org/walformat.html>).
const DONE: usize = 96;
const BEGUN: usize = 128;

/// Both files, which end with this value.
pub(in crate::chaos) struct Files {
    folder: ScratchFolder,
}

impl Files {
    /// Two that are not there yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { folder: ScratchFolder::new("sqlite")? })
    }

    pub(super) fn urls(&self) -> [String; 2] {
        Side::BOTH.map(|side| format!("sqlite:{}", self.file(side, "").display()))
    }

    /// A service's file, or what lies beside it.
    fn file(&self, side: Side, beside: &str) -> PathBuf {
        self.folder.path().join(format!("{side}.db{beside}"))
    }

    /// Waits until a checkpoint of this service's file is under way: nothing else writes into it. False if none comes.
    pub(in crate::chaos) fn wait_for_checkpoint(&self, side: Side) -> Result<bool> {
        let (file, began) = (self.file(side, ""), Instant::now());
        let written = || fs::metadata(&file)?.modified().context("files have no times here");
        let before = written()?;
        while began.elapsed() < CHECKPOINT_DEADLINE {
            if written()? != before {
                return Ok(true);
            }
            thread::sleep(LOOK);
        }
        Ok(false)
    }

    /// Whether the last checkpoint of a service that is gone did not get to its end.
    pub(in crate::chaos) fn is_half_done(&self, side: Side) -> Result<bool> {
        let index = self.file(side, INDEX);
        let read =
            fs::read(&index).with_context(|| format!("{} can't be read", index.display()))?;
        Ok(is_half_done(&read))
    }

    /// Whether whoever starts from now on may write into this service's file.
    pub(in crate::chaos) fn let_write(&self, side: Side, may: bool) -> Result<()> {
        let mode = if may { 0o644 } else { 0o444 };
        let all = ["", LOG, INDEX].map(|beside| self.file(side, beside));
        for file in all.iter().filter(|file| file.exists()) {
            fs::set_permissions(file, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    pub(super) fn heal(&self) -> Result<()> {
        Side::BOTH.into_iter().try_for_each(|side| self.let_write(side, true))
    }
}

fn is_half_done(index: &[u8]) -> bool {
    let number = |at: usize| index.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    number(BEGUN) > number(DONE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;

    use super::*;

    #[test]
    fn a_checkpoint_is_seen_by_the_file_and_half_of_one_by_the_index() {
        let files = Files::new().unwrap();
        let path = files.file(Side::Order, "");
        let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        conn.batch_execute("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
        conn.batch_execute("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)").unwrap();
        assert!(!files.is_half_done(Side::Order).unwrap(), "there was none");
        let seen = thread::scope(|scope| {
            let seen = scope.spawn(|| files.wait_for_checkpoint(Side::Order));
            // Again and again: the thread may look late.
            while !seen.is_finished() {
                conn.batch_execute("INSERT INTO t VALUES (2); PRAGMA wal_checkpoint(PASSIVE)")
                    .unwrap();
            }
            seen.join().unwrap()
        });
        assert!(seen.unwrap());
        assert!(!files.is_half_done(Side::Order).unwrap(), "it got to its end");
        let mut index = fs::read(files.file(Side::Order, INDEX)).unwrap();
        index[BEGUN..BEGUN + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(is_half_done(&index));
        assert!(!is_half_done(&[]));
    }
}
