//! Cuts a stream into lines of bounded length, and a line into its separated fields.

use std::io::{self, BufRead};

/// The longest line that is read, in bytes; what is longer is skipped to its end and reported.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// One physical line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The line's bytes without its end (`\n` or `\r\n`).
    Whole(&'a [u8]),
    /// The line is longer than [`MAX_LINE`]; its bytes are gone.
    TooLong,
}

/// Reads lines one at a time into one buffer that never outgrows [`MAX_LINE`].
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Starts before the first line.
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), number: 0 }
    }

    /// The 1-based number of the line read last (0 before the first).
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line, or `None` at the end.
    ///
    /// # Errors
    /// What the input reports, damaged compression included.
    pub(crate) fn read(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let Some(fits) = self.fill_line()? else {
            return Ok(None);
        };
        self.number += 1;
        if !fits {
            return Ok(Some(Line::TooLong));
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok(Some(Line::Whole(line.strip_suffix(b"\r").unwrap_or(line))))
    }

    /// Reads up to and including the next newline; says whether it all fitted, `None` at the end.
    fn fill_line(&mut self) -> io::Result<Option<bool>> {
        let (mut any, mut fits) = (false, true);
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                return Ok(any.then_some(fits));
            }
            any = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(chunk.len(), |at| at + 1);
            fits &= self.buffer.len() + taken <= MAX_LINE;
            if fits {
                self.buffer.extend_from_slice(&chunk[..taken]);
            }
            self.input.consume(taken);
            if end.is_some() {
                return Ok(Some(fits));
            }
        }
    }
}

/// Why a line can't be cut into fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadQuotes {
    /// A field starts with a quote that isn't closed on the same line.
    NotClosed,
    /// Something other than a separator follows a closing quote.
    Misplaced,
}

/// Cuts a line at its separators; a field in double quotes may hold separators and, doubled, quotes (RFC 4180).
///
/// A quote inside a field that doesn't start with one is text, as in `5" plate`; blanks around a quoted field are not.
///
/// # Errors
/// [`BadQuotes`] where the quotes don't add up: guessing there would shift values into wrong columns.
pub(crate) fn fields(line: &str, separator: char) -> Result<Vec<String>, BadQuotes> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.trim_start_matches(' ').strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, separator)?,
            None => bare_field(rest, separator),
        };
        fields.push(field);
        match after {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// A field, and what follows its separator (`None` at the end of the line).
type Cut<'a> = (String, Option<&'a str>);

fn bare_field(rest: &str, separator: char) -> Cut<'_> {
    match rest.split_once(separator) {
        Some((field, after)) => (field.to_owned(), Some(after)),
        None => (rest.to_owned(), None),
    }
}

fn quoted_field(mut rest: &str, separator: char) -> Result<Cut<'_>, BadQuotes> {
    let mut field = String::new();
    loop {
        let (piece, after) = rest.split_once('"').ok_or(BadQuotes::NotClosed)?;
        field.push_str(piece);
        if let Some(more) = after.strip_prefix('"') {
            field.push('"');
            rest = more;
            continue;
        }
        let after = after.trim_start_matches(' ');
        return match after.strip_prefix(separator) {
            Some(next) => Ok((field, Some(next))),
            None if after.is_empty() => Ok((field, None)),
            None => Err(BadQuotes::Misplaced),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Result<String, u64>> {
        // A tiny buffer makes every line cross a chunk's edge.
        let mut lines = Lines::new(io::BufReader::with_capacity(7, input));
        let mut out = Vec::new();
        while let Some(line) = lines.read().unwrap() {
            let whole = match line {
                Line::Whole(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
                Line::TooLong => None,
            };
            out.push(whole.ok_or(lines.number()));
        }
        out
    }

    #[test]
    fn both_line_ends_and_a_missing_last_one_are_read() {
        let lines = all(b"first one\r\nsecond\n\nlast");
        assert_eq!(lines, ["first one", "second", "", "last"].map(|l| Ok(l.to_owned())));
        assert!(all(b"").is_empty());
    }

    #[test]
    fn an_endless_line_is_skipped_and_the_next_one_is_read() {
        let mut input = b"a\n".to_vec();
        input.extend(std::iter::repeat_n(b'x', 3 * MAX_LINE));
        input.extend(b"\nb\n");
        assert_eq!(all(&input), [Ok("a".to_owned()), Err(2), Ok("b".to_owned())]);
    }

    #[test]
    fn quoted_fields_keep_commas_and_quotes() {
        let cut = fields(r#"1,"A, ""big"" one",,"",x"#, ',').unwrap();
        assert_eq!(cut, ["1", r#"A, "big" one"#, "", "", "x"]);
        assert_eq!(fields("", ',').unwrap(), [""]);
        assert_eq!(fields("a,", ',').unwrap(), ["a", ""]);
        assert_eq!(fields("\"a\",", ',').unwrap(), ["a", ""]);
        assert_eq!(fields(r#"a; "b;c" ;d,e"#, ';').unwrap(), ["a", "b;c", "d,e"]);
        assert_eq!(fields("a\t\"b\tc\"\td", '\t').unwrap(), ["a", "b\tc", "d"]);
    }

    #[test]
    fn a_bare_quote_in_a_text_is_text() {
        assert_eq!(fields(r#"1,5" plate,2"#, ',').unwrap(), ["1", "5\" plate", "2"]);
        assert_eq!(fields(r#"1,a "big" one"#, ',').unwrap(), ["1", "a \"big\" one"]);
    }

    #[test]
    fn quotes_that_do_not_add_up_are_refused() {
        assert_eq!(fields(r#"1,"open,2"#, ','), Err(BadQuotes::NotClosed));
        assert_eq!(fields(r#"1,"a"b,2"#, ','), Err(BadQuotes::Misplaced));
    }
}
