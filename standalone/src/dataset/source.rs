//! Where sales lines come from: the bundled data set, or a file, plain or gzipped.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

/// The columns a sales file must have, in this order.
pub(crate) const COLUMNS: [&str; 7] =
    ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"];

const BUNDLED: &[u8] = include_bytes!("../../../data/online_retail_2010-12.csv.gz");
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Where sales lines come from. Each pass opens it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The data set built into the program, so it is there wherever the program is installed.
    Bundled,
    /// A `.csv` or a gzipped one; which of the two is told by its first bytes, not by its name.
    File(PathBuf),
}

impl Source {
    /// Opens the source as plain text, unpacking it on the way if it is gzipped.
    ///
    /// # Errors
    /// [`DatasetError::Open`] if the file can't be opened or its first bytes can't be read.
    pub(crate) fn open(&self) -> Result<Box<dyn BufRead + Send>, DatasetError> {
        match self {
            Self::Bundled => plain(BUNDLED),
            Self::File(path) => File::open(path).and_then(|file| plain(BufReader::new(file))),
        }
        .map_err(|error| DatasetError::Open { origin: self.clone(), error })
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundled => f.write_str("the bundled data set"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a whole source can't be used. A single bad line is a [`Refused`](super::refusal::Refused) instead.
#[derive(Debug, Error)]
pub(crate) enum DatasetError {
    /// The file isn't there, or may not be read.
    #[error("can't open {origin}: {error}; check the path and that the file may be read")]
    Open {
        /// What was to be opened.
        origin: Source,
        /// What the system said.
        error: io::Error,
    },
    /// The first line isn't the expected header.
    #[error(
        "the first line of {origin} must name the columns {expected}, but {found}",
        expected = COLUMNS.join(",")
    )]
    Header {
        /// What was read.
        origin: Source,
        /// What stood there instead, as half a sentence.
        found: String,
    },
    /// Reading failed on the way: a damaged or cut-off gzip file, or a failing disk.
    #[error("{origin} can't be read beyond line {line}: {message}; get the file again")]
    Unreadable {
        /// What was read.
        origin: Source,
        /// The first line that could not be read, 1-based.
        line: u64,
        /// What the decoder or the system said.
        message: String,
    },
}

fn plain(mut bytes: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut start = [0; 2];
    let got = fill(&mut bytes, &mut start)?;
    let whole = io::Cursor::new(start).take(got as u64).chain(bytes);
    if got == start.len() && start == GZIP_MAGIC {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(whole))));
    }
    Ok(Box::new(whole))
}

/// Reads until `into` is full or the source ends; a pipe may hand out its first bytes one at a time.
fn fill(bytes: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = into.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match bytes.read(rest) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
