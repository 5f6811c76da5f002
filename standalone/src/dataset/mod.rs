//! A retailer's real sales lines, read as a stream and played as stock adjustments.
//!
//! [`source`] opens a file, [`tabular`](crate::tabular) cuts it into lines and fields, [`header`] knows the columns,
//! [`sale`] reads one line and [`reader`] all of them.
//! [`catalogue`] passes over a file once to learn the products, and [`mod@batches`] passes over it again and hands out
//! what to play.
//!
//! # How a file may be written
//!
//! As people have them: with commas, semicolons or tabs between fields; with its columns in any order, under names in any
//! case (or `Invoice`, `Price` and `Customer ID`, as later files have them), and among others; in UTF-8, UTF-16, Latin-1 or Windows-1252; gzipped or not. A quoted text may hold line breaks,
//! which become blanks, and an unquoted one may hold quotes. Where the meaning is not plain, the line is refused.
//!
//! # What is played, and what is refused
//!
//! The rules were chosen by looking at the data set that comes with the program, and hold for any file
//! of the same columns. Every line ends up either played or refused under one named [`Reason`](refusal::Reason):
//!
//! - **A product's code** starts with five digits (`85123A`, `22423`), with `DCGS` and a digit
//!   (`DCGS0076`) or with `gift_` (`gift_0001_40`: vouchers, sold by the piece like goods). Anything else
//!   is a charge or a booking: `POST`, `DOT`, `C2` (carriage), `M`/`m` (manual), `D` (discount), `S` (samples),
//!   `AMAZONFEE`, `BANK CHARGES`. No shelf holds postage, so these are refused.
//! - **Internal entries** have neither a price nor a customer. Their quantity has two meanings in this data
//!   ("mouldy, thrown away." −2,600 took goods away, "Found" 53 brought some back, "amazon" 30 took some away), so
//!   no stock movement can be derived from one. They are also the only lines with remarks in place of a
//!   description, or with none.
//! - **Quantity 0** moves nothing.
//! - What remains is played as `delta = −quantity`: a sale lowers the stock; a cancellation (an invoice that
//!   starts with `C`) or another return has a negative quantity and raises it. A price of 0 with a customer is a gift
//!   that left the shelf, so it is played.
//!
//! **Codes that differ in case** (`85123A` and `85123a`: 59 such pairs among the played lines, surely one article
//! each, for they share a description) stay two products. A SKU is case-sensitive everywhere else in the system,
//! each spelling works as a stock of its own, and folding them would make the replay disagree with the file.

mod batches;
mod catalogue;
mod header;
mod reader;
mod refusal;
mod sale;
mod source;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use batches::{Batch, batches};
pub(crate) use catalogue::{Catalogue, EXAMPLES, Product, survey};
pub(crate) use reader::{RawLine, RawLines, unless_fatal};
pub(crate) use refusal::Refused;
pub(crate) use sale::{SalesLine, plain_time};
pub(crate) use source::{DatasetError, Source};
