//! A database file of the benchmark's own.

use std::path::Path;

use anyhow::{Context, Result};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

/// Makes an empty database; `cache` is its page cache in MiB.
pub(super) fn connect(file: &Path, cache: u32) -> Result<SqliteConnection> {
    remove(file)?;
    let name = file.to_str().context("the directory's name is not UTF-8")?;
    let mut connection = SqliteConnection::establish(name)?;
    // With automatic indexes, a compare-and-set from a VALUES list may scan the whole open table.
    connection.batch_execute(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA automatic_index = OFF; PRAGMA cache_size = -{}",
        u64::from(cache) * 1024
    ))?;
    Ok(connection)
}

/// Removes it, if it is there.
pub(super) fn remove(file: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
