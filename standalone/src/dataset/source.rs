//! Where sales lines come from: the bundled data set, or a file or pipe, plain or gzipped, in any usual encoding.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::tabular::unpacked;

/// The columns a sales file must have.
pub(crate) const COLUMNS: [&str; 7] =
    ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"];

const BUNDLED: &[u8] = include_bytes!("../../../data/online_retail_2010-12.csv.gz");

/// Where sales lines come from. Each pass opens it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The data set built into the program, so it is there wherever the program is installed.
    Bundled,
    /// A `.csv` or a gzipped one; which of the two is told by its first bytes, not by its name.
    File(PathBuf),
    /// What can be read only once, such as a pipe, and the file it was copied into.
    Copied {
        /// What was read.
        origin: PathBuf,
        /// Its copy.
        copy: PathBuf,
    },
}

impl Source {
    /// The source at `path`; what is not a file is read to its end now, and copied into `folder`.
    ///
    /// # Errors
    /// [`DatasetError::Open`] if it can't be read.
    pub(crate) fn at(path: &Path, folder: &Path) -> Result<Self, DatasetError> {
        let source = Self::File(path.to_owned());
        let copied = folder.join("sales");
        let read = path.metadata().and_then(|known| match known.is_file() {
            true => Ok(false),
            false => copy(path, &copied).map(|()| true),
        });
        match read {
            Ok(false) => Ok(source),
            Ok(true) => Ok(Self::Copied { origin: path.to_owned(), copy: copied }),
            Err(error) => Err(DatasetError::Open { origin: source, error }),
        }
    }

    /// Opens the source as text, unpacking it on the way if it is gzipped. UTF-16 becomes UTF-8, other bytes stay.
    ///
    /// # Errors
    /// [`DatasetError::Open`] if the file can't be opened or its first bytes can't be read.
    pub(crate) fn open(&self) -> Result<Box<dyn BufRead + Send>, DatasetError> {
        match self {
            Self::Bundled => unpacked(BUNDLED),
            Self::File(path) | Self::Copied { copy: path, .. } => {
                File::open(path).and_then(|file| unpacked(BufReader::new(file)))
            }
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
            Self::File(path) | Self::Copied { origin: path, .. } => write!(f, "{}", path.display()),
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

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut File::create(to)?).map(drop)
}
