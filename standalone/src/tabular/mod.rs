//! Files of lines as people have them: with commas, semicolons or tabs between fields; in UTF-8, UTF-16, Latin-1 or
//! Windows-1252; gzipped or not. A quoted text may hold line breaks, which become blanks, and an unquoted one may hold
//! quotes. Where the meaning is not plain, the line is refused.
//!
//! [`open`] opens a file, [`lines`] cuts it into lines, [`records`] joins what a quoted field spans, [`columns`] finds the
//! columns of a header, and [`amount`] reads prices.

mod amount;
mod bad_line;
mod columns;
mod lines;
mod open;
mod records;

pub(crate) use amount::{BadAmount, minor_units};
pub(crate) use bad_line::{BadLine, quoted};
pub(crate) use columns::{check_count, cuts, places_of};
pub(crate) use open::unpacked;
pub(crate) use records::{Record, Records, TextLine};
