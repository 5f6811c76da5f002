//! Sales files for the tests, and what all of them need.
#![allow(clippy::unwrap_used, clippy::panic)]

mod batches;
mod bundled;
mod catalogue;
mod sales;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::source::{COLUMNS, Source};

/// A sales file with a header and these lines.
fn file_of(lines: &[&str]) -> (NamedTempFile, Source) {
    let mut text = COLUMNS.join(",");
    for line in lines {
        text.push_str("\r\n");
        text.push_str(line);
    }
    file_with(text.as_bytes())
}

/// A file with exactly these bytes.
fn file_with(bytes: &[u8]) -> (NamedTempFile, Source) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let source = Source::from(file.path());
    (file, source)
}

/// The same bytes, gzipped.
fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
