//! The sales lines of a source, one after the other.

use std::io::BufRead;

use super::header::Header;
use super::refusal::{Reason, Refused};
use super::sale::SalesLine;
use super::source::{COLUMNS, DatasetError, Source};
use crate::tabular::{Record, Records, quoted};

/// The values of one line as they stand in the file, in the order of [`COLUMNS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawLine {
    /// The line's number in the file, 1-based; the header is line 1.
    pub(crate) line: u64,
    /// What stands there.
    pub(crate) columns: [String; COLUMNS.len()],
}

/// The lines of a source as they stand there, one at a time; only the line at hand is in memory.
///
/// After [`Reason::Unreadable`] there are no more.
pub(crate) struct RawLines {
    records: Records<Box<dyn BufRead + Send>>,
    header: Header,
    ended: bool,
}

impl RawLines {
    /// Checks the header of a source whose text this is.
    ///
    /// # Errors
    /// [`DatasetError`] if it can't be read, or if its first line isn't the header.
    pub(crate) fn of(source: &Source, text: Box<dyn BufRead + Send>) -> Result<Self, DatasetError> {
        let mut records = Records::new(text);
        let header = read_header(source, &mut records)?;
        Ok(Self { records, header, ended: false })
    }

    fn read(&self, record: Record) -> Result<RawLine, Refused> {
        let line = record.line;
        let columns =
            record.fields.map_err(Reason::from).and_then(|fields| self.header.pick(&fields));
        let columns = columns.map_err(|reason| Refused { line, reason })?;
        Ok(RawLine { line, columns })
    }
}

impl Iterator for RawLines {
    type Item = Result<RawLine, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.records.next_number();
        match self.records.next_record(self.header.separator, self.header.columns) {
            Ok(Some(record)) => Some(self.read(record)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                let reason = Reason::Unreadable { message: error.to_string() };
                Some(Err(Refused { line, reason }))
            }
        }
    }
}

/// The same as sales.
pub(crate) struct SalesLines(RawLines);

impl SalesLines {
    /// Opens the source and checks its header.
    ///
    /// # Errors
    /// [`DatasetError`] if it can't be opened or read, or if its first line isn't the header.
    pub(crate) fn open(source: &Source) -> Result<Self, DatasetError> {
        Ok(Self(RawLines::of(source, source.open()?)?))
    }
}

impl Iterator for SalesLines {
    type Item = Result<SalesLine, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = |raw: RawLine| {
            let parsed = SalesLine::parse(raw.line, raw.columns);
            parsed.map_err(|reason| Refused { line: raw.line, reason })
        };
        Some(self.0.next()?.and_then(read))
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
pub(crate) fn unless_fatal(source: &Source, refused: Refused) -> Result<Refused, DatasetError> {
    match refused.reason {
        Reason::Unreadable { message } => {
            Err(DatasetError::Unreadable { origin: source.clone(), line: refused.line, message })
        }
        reason => Ok(Refused { reason, ..refused }),
    }
}

fn read_header(
    source: &Source,
    records: &mut Records<Box<dyn BufRead + Send>>,
) -> Result<Header, DatasetError> {
    let line = records.next_line().map_err(|error| DatasetError::Unreadable {
        origin: source.clone(),
        line: 1,
        message: error.to_string(),
    })?;
    let found = match line.map(|line| line.text) {
        None => "the file is empty".to_owned(),
        Some(Err(_)) => "it is a single line without an end".to_owned(),
        Some(Ok(text)) => match Header::parse(&text) {
            Some(header) => return Ok(header),
            None => format!("it is {}", quoted(&text)),
        },
    };
    Err(DatasetError::Header { origin: source.clone(), found })
}
