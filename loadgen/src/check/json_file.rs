//! The file that everything is written to, beside what is printed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The file that everything is written to, if that was asked for.
pub(super) struct JsonFile<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> JsonFile<'a> {
    pub(super) fn create(path: Option<&'a Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Self { path, file }))
    }

    pub(super) fn write(mut self, json: &Value) -> Result<()> {
        let json = serde_json::to_vec_pretty(json)?;
        let written = self.file.write_all(&json);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}
