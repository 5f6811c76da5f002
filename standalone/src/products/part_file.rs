//! A file that appears once it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Written beside its place first, so that an incomplete file is never taken for a complete one; what is no file, such as
/// a pipe or a device, is written to directly.
pub(super) struct PartFile {
    path: PathBuf,
    part: Option<PathBuf>,
    out: BufWriter<File>,
}

impl PartFile {
    /// Begins the file that is to be at `path`.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        // Through links: the file that they lead to is the one that is meant.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_other = path.metadata().is_ok_and(|known| !known.is_file() && !known.is_dir());
        let part = (!is_other).then(|| {
            let mut part = path.as_os_str().to_owned();
            part.push(".part");
            PathBuf::from(part)
        });
        let opened = match &part {
            Some(part) => File::create(part),
            None => OpenOptions::new().write(true).open(&path),
        };
        let out = opened.with_context(|| cannot_write(&path))?;
        Ok(Self { path, part, out: BufWriter::new(out) })
    }

    /// Puts it in its place.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let path = self.path;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.with_context(|| cannot_write(&path))?;
        let Some(part) = self.part else { return Ok(()) };
        file.sync_all().with_context(|| cannot_write(&path))?;
        std::fs::rename(&part, &path).with_context(|| cannot_write(&path))
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
