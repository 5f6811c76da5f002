//! Why a line of a file can't be read, whatever it should say.

use thiserror::Error;

use super::lines::{BadQuotes, MAX_LINE};

/// Why a line can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BadLine {
    /// The line has more bytes than [`MAX_LINE`].
    #[error("the line is longer than {max} bytes", max = MAX_LINE)]
    TooLong,
    /// The line isn't UTF-8, while lines above are.
    #[error("the line is not valid UTF-8, as lines above are; save the file as UTF-8")]
    NotUtf8,
    /// A quote is opened, and not closed where that would make a record.
    #[error("a quoted field is not closed, on this line or below")]
    QuoteNotClosed,
    /// Text follows a closing quote.
    #[error("a quote is misplaced: quote the whole field and double the quotes inside it")]
    QuoteMisplaced,
    /// The line has too many or too few columns.
    #[error("{found} columns instead of {expected}")]
    ColumnCount {
        /// How many it has.
        found: usize,
        /// How many the header has.
        expected: usize,
    },
}

impl BadLine {
    /// A short, fixed name to count by.
    pub(crate) fn category(self) -> &'static str {
        match self {
            Self::TooLong => "line too long",
            Self::NotUtf8 => "not UTF-8",
            Self::QuoteNotClosed | Self::QuoteMisplaced => "bad quotes",
            Self::ColumnCount { .. } => "wrong number of columns",
        }
    }
}

impl From<BadQuotes> for BadLine {
    fn from(bad: BadQuotes) -> Self {
        match bad {
            BadQuotes::NotClosed => Self::QuoteNotClosed,
            BadQuotes::Misplaced => Self::QuoteMisplaced,
        }
    }
}

/// A value as an error may show it: quoted, control characters escaped, and not longer than a line.
pub(crate) fn quoted(value: &str) -> String {
    const MOST: usize = 80;
    let cut: String = value.chars().take(MOST).collect();
    let more = if cut.len() < value.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
