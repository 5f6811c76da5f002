//! What is sent together.

use std::collections::HashSet;

use super::reader::{Entry, FileError, Original, ProductReader};

/// The lines of one request at the most: as many as the service takes.
const MAX_LINES: usize = 1_000;
/// The bytes of its texts at the most, so that it stays far below what the service takes.
const MAX_BYTES: usize = 256 * 1024;

/// Entries that follow each other in the file.
///
/// Those that are refused before they are sent count too: when they are put right, the chunks behind them stay as
/// they were, and what an earlier run has done of them is known again.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) entries: Vec<Entry>,
}

impl Chunk {
    /// The products that it names.
    pub(super) fn skus(&self) -> HashSet<String> {
        let products = self.entries.iter().filter_map(|entry| entry.product.as_ref().ok());
        products.map(|product| product.sku.as_str().to_owned()).collect()
    }
}

/// The next chunk; it is empty at the end.
///
/// # Errors
/// Where the file can't be read any further, beside the entries above.
pub(super) fn next_chunk(reader: &mut ProductReader) -> (Chunk, Option<FileError>) {
    let mut chunk = Chunk::default();
    let mut bytes = 0;
    while chunk.entries.len() < MAX_LINES && bytes < MAX_BYTES {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                bytes += size(&entry.original);
                chunk.entries.push(entry);
            }
            Ok(None) => break,
            Err(error) => return (chunk, Some(error)),
        }
    }
    (chunk, None)
}

fn size(original: &Original) -> usize {
    match original {
        Original::Values(values) => values.iter().flatten().map(String::len).sum(),
        Original::Text(text) => text.len(),
        Original::Unreadable => 0,
    }
}
