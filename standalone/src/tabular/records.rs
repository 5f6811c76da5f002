//! Decodes the lines of a file, and joins those that one quoted field spans.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use encoding_rs::WINDOWS_1252;

use super::bad_line::BadLine;
use super::lines::{BadQuotes, Line, Lines, MAX_LINE, fields};

/// A line as text, or why it has none.
pub(crate) struct TextLine {
    /// Its number in the file, from 1.
    pub(crate) number: u64,
    /// What it says.
    pub(crate) text: Result<String, BadLine>,
}

/// The fields of one record, or why it has none, and the number of its first line.
pub(crate) struct Record {
    /// Its number in the file, from 1.
    pub(crate) line: u64,
    /// What its first line says, where the fields are not to be had.
    pub(crate) text: Option<String>,
    /// Its values, in the file's order.
    pub(crate) fields: Result<Vec<String>, BadLine>,
}

/// Reads records one at a time; besides the record at hand, no more than [`MAX_LINE`] bytes are kept.
pub(crate) struct Records<R> {
    lines: Lines<R>,
    /// Lines that were read to see whether a quote closes on them, and that are still to be taken.
    ahead: VecDeque<TextLine>,
    /// Whether a line above had letters beyond ASCII in UTF-8.
    is_utf8: bool,
}

impl<R: BufRead> Records<R> {
    /// Starts before the first line.
    pub(crate) fn new(input: R) -> Self {
        Self { lines: Lines::new(input), ahead: VecDeque::new(), is_utf8: false }
    }

    /// The number of the line that is read next.
    pub(crate) fn next_number(&self) -> u64 {
        self.lines.number() + 1
    }

    /// The next line, whatever quotes it opens; `None` at the end.
    ///
    /// # Errors
    /// What the input reports.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<TextLine>> {
        if self.ahead.is_empty() {
            self.read_ahead()?;
        }
        Ok(self.ahead.pop_front())
    }

    /// Puts a line back, to be the next one.
    pub(crate) fn unread(&mut self, line: TextLine) {
        self.ahead.push_front(line);
    }

    /// The next record, which should have so many columns; `None` at the end.
    ///
    /// # Errors
    /// What the input reports.
    pub(crate) fn next_record(
        &mut self,
        separator: char,
        columns: usize,
    ) -> io::Result<Option<Record>> {
        let Some(TextLine { number: line, text }) = self.next_line()? else { return Ok(None) };
        let (text, fields) = match text {
            Err(reason) => (None, Err(reason)),
            Ok(text) => match fields(&text, separator) {
                Ok(fields) => (None, Ok(fields)),
                Err(BadQuotes::NotClosed) => {
                    (Some(text.clone()), self.continued(text, separator, columns)?)
                }
                Err(bad) => (Some(text), Err(bad.into())),
            },
        };
        Ok(Some(Record { line, text, fields }))
    }

    /// The fields of a record whose quoted field goes on in the lines below; a line break in it becomes a blank.
    ///
    /// If that makes no record, only its first line is refused: a quote that is never closed must not swallow the
    /// lines below.
    fn continued(
        &mut self,
        mut record: String,
        separator: char,
        columns: usize,
    ) -> io::Result<Result<Vec<String>, BadLine>> {
        let mut taken = 0;
        while taken < self.ahead.len() || self.read_ahead()? {
            let Some(Ok(line)) = self.ahead.get(taken).map(|line| &line.text) else { break };
            if record.len() + line.len() >= MAX_LINE {
                break;
            }
            record.push(' ');
            record.push_str(line);
            taken += 1;
            match fields(&record, separator) {
                Err(BadQuotes::NotClosed) => {}
                Ok(fields) if fields.len() >= columns => {
                    self.ahead.drain(..taken);
                    return Ok(Ok(fields));
                }
                _ => break,
            }
        }
        Ok(Err(BadLine::QuoteNotClosed))
    }

    /// Reads one more line; false at the end.
    fn read_ahead(&mut self) -> io::Result<bool> {
        let number = self.next_number();
        let text = match self.lines.read()? {
            None => return Ok(false),
            Some(Line::TooLong) => Err(BadLine::TooLong),
            Some(Line::Whole(bytes)) => decode(bytes, &mut self.is_utf8),
        };
        self.ahead.push_back(TextLine { number, text });
        Ok(true)
    }
}

/// UTF-8 where that is what it is, else Windows-1252 (which Latin-1 is a part of), unless the file is UTF-8.
fn decode(bytes: &[u8], is_utf8: &mut bool) -> Result<String, BadLine> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            *is_utf8 |= !text.is_ascii();
            Ok(text.to_owned())
        }
        Err(_) if *is_utf8 => Err(BadLine::NotUtf8),
        Err(_) => Ok(WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned()),
    }
}
