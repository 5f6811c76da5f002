//! Files that are written once all is measured, which may be long after they were named.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result};

/// Fails where `file` could not be written later; what it holds stays until then.
pub(crate) fn ensure_writable(file: &Path) -> Result<()> {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.map(drop).with_context(|| not_written(file))
}

/// Writes `content` in the place of what `file` holds.
pub(crate) fn write(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(file, content).with_context(|| not_written(file))
}

fn not_written(file: &Path) -> String {
    format!("cannot write {}", file.display())
}
