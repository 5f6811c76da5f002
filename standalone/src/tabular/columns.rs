//! The first line of a table: how its fields are separated, and where each column is.

use super::bad_line::BadLine;
use super::lines::fields;

/// What may stand between fields.
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// A header's names under each separator that it may have been written with.
pub(crate) fn cuts(line: &str) -> impl Iterator<Item = (char, Vec<String>)> {
    SEPARATORS.into_iter().filter_map(|separator| Some((separator, fields(line, separator).ok()?)))
}

/// The places of the columns that are named so: none where it is missing, several where the header is wrong.
pub(crate) fn places_of(names: &[String], column: &str) -> Vec<usize> {
    let named = (0..).zip(names).filter(|(_, name)| is_name(name, column));
    named.map(|(place, _)| place).collect()
}

/// Case, blanks and the like don't count, nor does a byte order mark: `invoice no` is `InvoiceNo`.
fn is_name(name: &str, column: &str) -> bool {
    let letters = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
    };
    letters(name) == letters(column)
}

/// Checks that a line has as many fields as the header, or more that are blank.
///
/// # Errors
/// [`BadLine::ColumnCount`] if it has too few, or more and not all of them blank.
pub(crate) fn check_count(fields: &[String], expected: usize) -> Result<(), BadLine> {
    let found = fields.len();
    let surplus = fields.iter().skip(expected).any(|field| !field.trim().is_empty());
    if found < expected || surplus { Err(BadLine::ColumnCount { found, expected }) } else { Ok(()) }
}
