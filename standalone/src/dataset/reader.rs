//! The sales lines of a source, one after the other.

use std::io::BufRead;

use super::lines::{Line, Lines, fields};
use super::refusal::{Reason, Refused, quoted};
use super::sale::SalesLine;
use super::source::{COLUMNS, DatasetError, Source};

/// The sales lines of a source, one at a time; only the line at hand is in memory.
///
/// After [`Reason::Unreadable`] there are no more.
pub(crate) struct SalesLines {
    lines: Lines<Box<dyn BufRead + Send>>,
    ended: bool,
}

impl SalesLines {
    /// Opens the source and checks its header.
    ///
    /// # Errors
    /// [`DatasetError`] if it can't be opened or read, or if its first line isn't the header.
    pub(crate) fn open(source: &Source) -> Result<Self, DatasetError> {
        let mut lines = Lines::new(source.open()?);
        check_header(source, &mut lines)?;
        Ok(Self { lines, ended: false })
    }
}

impl Iterator for SalesLines {
    type Item = Result<SalesLine, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.lines.number() + 1;
        let read = match self.lines.read() {
            Ok(Some(Line::Whole(bytes))) => SalesLine::parse(line, bytes),
            Ok(Some(Line::TooLong)) => Err(Reason::LineTooLong),
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(error) => {
                self.ended = true;
                Err(Reason::Unreadable { message: error.to_string() })
            }
        };
        Some(read.map_err(|reason| Refused { line, reason }))
    }
}

/// The first `limit` lines of a source, each judged whether it can be played. Both passes read through here, so they
/// agree.
///
/// # Errors
/// As [`SalesLines::open`].
pub(super) fn playable_lines(
    source: &Source,
    limit: Option<u64>,
) -> Result<impl Iterator<Item = Result<SalesLine, Refused>> + Send + use<>, DatasetError> {
    let limit = limit.and_then(|lines| usize::try_from(lines).ok());
    let lines = SalesLines::open(source)?.take(limit.unwrap_or(usize::MAX));
    Ok(lines.map(|line| line.and_then(SalesLine::playable)))
}

/// Lets a refused line pass, and turns the end of a broken source into its error.
pub(super) fn unless_fatal(source: &Source, refused: Refused) -> Result<Refused, DatasetError> {
    match refused.reason {
        Reason::Unreadable { message } => {
            Err(DatasetError::Unreadable { origin: source.clone(), line: refused.line, message })
        }
        reason => Ok(Refused { reason, ..refused }),
    }
}

fn check_header(
    source: &Source,
    lines: &mut Lines<Box<dyn BufRead + Send>>,
) -> Result<(), DatasetError> {
    let line = lines.read().map_err(|error| DatasetError::Unreadable {
        origin: source.clone(),
        line: 1,
        message: error.to_string(),
    })?;
    let found = match line {
        None => "the file is empty".to_owned(),
        Some(Line::TooLong) => "it is a single line without an end".to_owned(),
        Some(Line::Whole(bytes)) if is_header(bytes) => return Ok(()),
        Some(Line::Whole(bytes)) => format!("it is {}", quoted(&String::from_utf8_lossy(bytes))),
    };
    Err(DatasetError::Header { origin: source.clone(), found })
}

/// A byte-order mark before the header, as spreadsheets write it, does no harm.
fn is_header(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let columns = std::str::from_utf8(bytes).ok().map(fields);
    matches!(columns, Some(Ok(columns)) if columns.iter().map(|name| name.trim()).eq(COLUMNS))
}
