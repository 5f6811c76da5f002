//! A file that appears once it is complete.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Written beside its place first, so that an incomplete file is never taken for a complete one.
pub(super) struct PartFile {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
}

impl PartFile {
    /// Begins the file that is to be at `path`.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let out = File::create(&part).with_context(|| cannot_write(path))?;
        Ok(Self { path: path.to_owned(), part, out: BufWriter::new(out) })
    }

    /// Puts it in its place.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let path = self.path;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).with_context(|| cannot_write(&path))?;
        std::fs::rename(&self.part, &path).with_context(|| cannot_write(&path))
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn cannot_write(path: &Path) -> String {
    format!("{} can't be written", path.display())
}
