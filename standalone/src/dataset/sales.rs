//! One sales line: read from its columns, and judged whether it can be played as a stock adjustment.

use std::io::BufRead;

use chrono::NaiveDateTime;
use thiserror::Error;

use super::lines::{BadQuotes, Line, Lines, fields};
use super::{COLUMNS, DatasetError, Source};

/// The longest SKU and the longest invoice number taken, in characters.
pub(crate) const MAX_CODE: usize = 64;
/// The largest quantity taken either way: far above any sale, and far from overflowing a sum.
pub(crate) const MAX_QUANTITY: i64 = 1_000_000_000;
/// How a sale's time is written, e.g. `2010-12-01T08:26:00`.
pub(crate) const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S";

/// One line of a sales file. Blanks around a value are typing noise and are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SalesLine {
    /// The line's number in the file, 1-based; the header is line 1.
    pub(crate) line: u64,
    /// The invoice it belongs to; cancellations start with `C`.
    pub(crate) invoice: String,
    /// The product's code as it stands in the file, case included.
    pub(crate) sku: String,
    /// What the file calls the product; `None` where it says nothing.
    pub(crate) description: Option<String>,
    /// Pieces sold; negative for a return. Never beyond [`MAX_QUANTITY`] either way.
    pub(crate) quantity: i64,
    /// When, on the shop's clock: the file names no time zone.
    pub(crate) sold_at: NaiveDateTime,
    /// The price of one piece in pence; 0 where the file has none.
    pub(crate) unit_price_minor: i64,
    /// The customer's number; `None` for anonymous sales.
    pub(crate) customer: Option<String>,
}

impl SalesLine {
    /// What the line does to the stock of its SKU: a sale lowers it, a return raises it.
    pub(crate) fn delta(&self) -> i64 {
        -self.quantity
    }

    /// Passes the line on if it can be played as a stock adjustment; the module's introduction says why not.
    ///
    /// # Errors
    /// [`Reason::NotAProduct`], [`Reason::InternalEntry`] or [`Reason::QuantityZero`].
    pub(crate) fn playable(self) -> Result<Self, Refused> {
        let reason = if !is_product(&self.sku) {
            Reason::NotAProduct { sku: self.sku }
        } else if self.unit_price_minor == 0 && self.customer.is_none() {
            Reason::InternalEntry
        } else if self.quantity == 0 {
            Reason::QuantityZero
        } else {
            return Ok(self);
        };
        Err(Refused { line: self.line, reason })
    }
}

/// Whether a code names something that stands on a shelf, rather than a charge or a booking.
pub(crate) fn is_product(sku: &str) -> bool {
    let article = sku.bytes().take_while(u8::is_ascii_digit).count() >= 5;
    let dotcom = sku
        .strip_prefix("DCGS")
        .is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
    let voucher = sku.starts_with("gift_");
    article || dotcom || voucher
}

/// A line that is left out, and why. The lines around it go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub(crate) struct Refused {
    /// The line's number in the file, 1-based; the header is line 1.
    pub(crate) line: u64,
    /// Why it is left out.
    pub(crate) reason: Reason,
}

/// Why a line is left out. The text is for people; [`Reason::category`] is for counting.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Reason {
    /// Reading failed here; nothing follows, and the passes over a file turn this into a [`DatasetError`].
    #[error("reading failed: {message}")]
    Unreadable {
        /// What the decoder or the system said.
        message: String,
    },
    /// The line has more bytes than [`super::lines::MAX_LINE`].
    #[error("the line is longer than {max} bytes", max = super::lines::MAX_LINE)]
    LineTooLong,
    /// The line isn't UTF-8.
    #[error("the line is not valid UTF-8; save the file as UTF-8")]
    NotUtf8,
    /// A quote is opened and not closed on the same line.
    #[error("a quoted field is not closed on this line")]
    QuoteNotClosed,
    /// Text follows a closing quote, or a quote stands inside an unquoted field.
    #[error("a quote is misplaced: quote the whole field and double the quotes inside it")]
    QuoteMisplaced,
    /// The line has too many or too few columns.
    #[error("{found} columns instead of {expected}", expected = COLUMNS.len())]
    ColumnCount {
        /// How many it has.
        found: usize,
    },
    /// A value holds a tab, a NUL or another control character.
    #[error("{column} holds a control character")]
    ControlCharacter {
        /// The column's name.
        column: &'static str,
    },
    /// The invoice number or the SKU is missing.
    #[error("{column} is empty")]
    CodeEmpty {
        /// The column's name.
        column: &'static str,
    },
    /// The invoice number or the SKU is longer than [`MAX_CODE`].
    #[error("{column} has {length} characters; at most {MAX_CODE} are taken")]
    CodeTooLong {
        /// The column's name.
        column: &'static str,
        /// Its length in characters.
        length: usize,
    },
    /// The quantity isn't a whole number, or is beyond [`MAX_QUANTITY`].
    #[error("Quantity {value} is not a whole number within ±{MAX_QUANTITY}")]
    Quantity {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The time isn't written as [`TIME_FORMAT`].
    #[error("InvoiceDate {value} is not a time like 2010-12-01T08:26:00")]
    Time {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The price isn't a decimal number, or too large to count in pence.
    #[error("UnitPrice {value} is not an amount like 2.55")]
    Price {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The price has parts of a penny, which rounding would falsify.
    #[error("UnitPrice {value} has more than two decimals; whole pence are needed")]
    PriceTooPrecise {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The price is below zero: a booking such as a bad debt, not a sale.
    #[error("UnitPrice {value} is negative: a booking, not a sale")]
    PriceNegative {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The code names a charge or a booking, not something on a shelf.
    #[error("{sku:?} is not a product but a charge or a booking, and has no stock")]
    NotAProduct {
        /// The code.
        sku: String,
    },
    /// Neither a price nor a customer: a write-off, a find or a correction of unclear direction.
    #[error("no price and no customer: an internal entry, whose effect on the stock can't be told")]
    InternalEntry,
    /// The line moves nothing.
    #[error("the quantity is 0, so there is nothing to adjust")]
    QuantityZero,
}

impl Reason {
    /// A short, fixed name to count by.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::LineTooLong => "line too long",
            Self::NotUtf8 => "not UTF-8",
            Self::QuoteNotClosed | Self::QuoteMisplaced => "bad quotes",
            Self::ColumnCount { .. } => "wrong number of columns",
            Self::ControlCharacter { .. } => "control character",
            Self::CodeEmpty { .. } => "code missing",
            Self::CodeTooLong { .. } => "code too long",
            Self::Quantity { .. } => "bad quantity",
            Self::Time { .. } => "bad time",
            Self::Price { .. } | Self::PriceTooPrecise { .. } => "bad price",
            Self::PriceNegative { .. } => "negative price",
            Self::NotAProduct { .. } => "not a product",
            Self::InternalEntry => "internal entry",
            Self::QuantityZero => "quantity zero",
        }
    }
}

impl From<BadQuotes> for Reason {
    fn from(bad: BadQuotes) -> Self {
        match bad {
            BadQuotes::NotClosed => Self::QuoteNotClosed,
            BadQuotes::Misplaced => Self::QuoteMisplaced,
        }
    }
}

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
            Ok(Some(Line::Whole(bytes))) => parse(line, bytes),
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
        Some(Line::Whole(bytes)) => format!("it is {}", shown(&String::from_utf8_lossy(bytes))),
    };
    Err(DatasetError::Header { origin: source.clone(), found })
}

/// A byte-order mark before the header, as spreadsheets write it, does no harm.
fn is_header(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let columns = std::str::from_utf8(bytes).ok().map(fields);
    matches!(columns, Some(Ok(columns)) if columns.iter().map(|name| name.trim()).eq(COLUMNS))
}

fn parse(line: u64, bytes: &[u8]) -> Result<SalesLine, Reason> {
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?;
    let columns = fields(text)?;
    let columns: [String; COLUMNS.len()] = columns
        .try_into()
        .map_err(|columns: Vec<String>| Reason::ColumnCount { found: columns.len() })?;
    for (value, column) in columns.iter().zip(COLUMNS) {
        if value.contains(char::is_control) {
            return Err(Reason::ControlCharacter { column });
        }
    }
    let [invoice, sku, description, quantity, sold_at, price, customer] = columns;
    Ok(SalesLine {
        line,
        invoice: code(COLUMNS[0], &invoice)?,
        sku: code(COLUMNS[1], &sku)?,
        description: unless_blank(&description),
        quantity: pieces(quantity.trim())?,
        sold_at: time(sold_at.trim())?,
        unit_price_minor: pence(price.trim())?,
        customer: unless_blank(&customer),
    })
}

fn code(column: &'static str, value: &str) -> Result<String, Reason> {
    let value = value.trim();
    let length = value.chars().count();
    match length {
        0 => Err(Reason::CodeEmpty { column }),
        1..=MAX_CODE => Ok(value.to_owned()),
        _ => Err(Reason::CodeTooLong { column, length }),
    }
}

fn unless_blank(value: &str) -> Option<String> {
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn pieces(value: &str) -> Result<i64, Reason> {
    let whole = value.parse::<i64>().ok();
    whole
        .filter(|pieces| (-MAX_QUANTITY..=MAX_QUANTITY).contains(pieces))
        .ok_or_else(|| Reason::Quantity { value: shown(value) })
}

fn time(value: &str) -> Result<NaiveDateTime, Reason> {
    NaiveDateTime::parse_from_str(value, TIME_FORMAT)
        .map_err(|_| Reason::Time { value: shown(value) })
}

/// Pounds and pence as whole pence, digit by digit: 2.55 has no exact binary fraction.
fn pence(value: &str) -> Result<i64, Reason> {
    let bad = || Reason::Price { value: shown(value) };
    let amount = value.strip_prefix('-').unwrap_or(value);
    let (pounds, decimals) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(pounds) || !digits(decimals) {
        return Err(bad());
    }
    if amount.len() < value.len() {
        return Err(Reason::PriceNegative { value: shown(value) });
    }
    let decimals = match decimals.len() {
        1 => format!("{decimals}0"),
        2 => decimals.to_owned(),
        _ => {
            return Err(Reason::PriceTooPrecise { value: shown(value) });
        }
    };
    format!("{pounds}{decimals}").parse().map_err(|_| bad())
}

/// A value as an error may show it: quoted, control characters escaped, and not longer than a line.
fn shown(value: &str) -> String {
    const MOST: usize = 80;
    let cut: String = value.chars().take(MOST).collect();
    let more = if cut.len() < value.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::NamedTempFile;

    use super::*;

    /// A sales file with a header and these lines.
    pub(in crate::dataset) fn file_of(lines: &[&str]) -> (NamedTempFile, Source) {
        let mut text = COLUMNS.join(",");
        for line in lines {
            text.push_str("\r\n");
            text.push_str(line);
        }
        file_with(text.as_bytes())
    }

    /// A file with exactly these bytes.
    pub(in crate::dataset) fn file_with(bytes: &[u8]) -> (NamedTempFile, Source) {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let source = Source::from(file.path());
        (file, source)
    }

    /// The same bytes, gzipped.
    pub(in crate::dataset) fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(lines: &[&str]) -> Vec<Result<SalesLine, Refused>> {
        let (_file, source) = file_of(lines);
        SalesLines::open(&source).unwrap().collect()
    }

    fn reason_of(line: &str) -> Reason {
        let read = read(&[line]);
        let [Err(Refused { line: 2, reason })] = read.as_slice() else {
            panic!("expected line 2 refused, got {read:?}");
        };
        reason.clone()
    }

    fn header_error(bytes: &[u8]) -> String {
        let (_file, source) = file_with(bytes);
        match SalesLines::open(&source) {
            Ok(_) => panic!("the header was taken"),
            Err(error) => error.to_string(),
        }
    }

    const GOOD: &str = "536365,85123A,\"HOLDER, \"\"WHITE\"\" \",6,2010-12-01T08:26:00,2.55,17850";

    #[test]
    fn a_line_is_read_column_by_column() {
        let lines = read(&[GOOD, "C536379, 22423 ,,-1,2010-12-01T09:41:00,10.9,"]);
        assert_eq!(
            lines[0],
            Ok(SalesLine {
                line: 2,
                invoice: "536365".to_owned(),
                sku: "85123A".to_owned(),
                description: Some("HOLDER, \"WHITE\"".to_owned()),
                quantity: 6,
                sold_at: "2010-12-01T08:26:00".parse().unwrap(),
                unit_price_minor: 255,
                customer: Some("17850".to_owned()),
            })
        );
        let cancelled = lines[1].clone().unwrap();
        assert_eq!((cancelled.line, cancelled.sku.as_str()), (3, "22423"));
        assert_eq!((cancelled.description.clone(), cancelled.customer.clone()), (None, None));
        assert_eq!((cancelled.delta(), cancelled.unit_price_minor), (1, 1090));
    }

    #[test]
    fn a_malformed_line_is_refused_and_the_rest_goes_on() {
        let lines = read(&[GOOD, "536365,85123A", "", "1,\"open,2,3,4,5,6", GOOD]);
        let numbers: Vec<_> = lines
            .iter()
            .map(|line| line.as_ref().map(|good| good.line).map_err(|bad| bad.line))
            .collect();
        assert_eq!(numbers, [Ok(2), Err(3), Err(4), Err(5), Ok(6)]);
        let first = lines[1].clone().unwrap_err();
        assert_eq!(first.to_string(), "line 3: 2 columns instead of 7");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let cases = [
            ("1,22423,A,x,2010-12-01T08:26:00,1,", "bad quantity", "Quantity \"x\""),
            ("1,22423,A,1.5,2010-12-01T08:26:00,1,", "bad quantity", "whole number"),
            ("1,22423,A,1000000001,2010-12-01T08:26:00,1,", "bad quantity", "1000000000"),
            ("1,22423,A,1,12/1/2010 8:26,1,", "bad time", "2010-12-01T08:26:00"),
            ("1,22423,A,1,2010-13-01T08:26:00,1,", "bad time", "InvoiceDate"),
            ("1,22423,A,1,2010-12-01T08:26:00,£2,", "bad price", "£2"),
            ("1,22423,A,1,2010-12-01T08:26:00,1e3,", "bad price", "1e3"),
            ("1,22423,A,1,2010-12-01T08:26:00,,", "bad price", "UnitPrice \"\""),
            ("1,22423,A,1,2010-12-01T08:26:00,2.,", "bad price", "amount"),
            ("1,22423,A,1,2010-12-01T08:26:00,0.001,", "bad price", "two decimals"),
            ("1,22423,A,1,2010-12-01T08:26:00,99999999999999999999,", "bad price", "amount"),
            ("1,22423,A,1,2010-12-01T08:26:00,-11062.06,", "negative price", "-11062.06"),
            ("1, ,A,1,2010-12-01T08:26:00,1,", "code missing", "StockCode is empty"),
            (",22423,A,1,2010-12-01T08:26:00,1,", "code missing", "InvoiceNo is empty"),
            ("1,22423,A\tB,1,2010-12-01T08:26:00,1,", "control character", "Description"),
            ("1,22423\u{7f},A,1,2010-12-01T08:26:00,1,", "control character", "StockCode"),
            ("1,22423,\"A\"B,1,2010-12-01T08:26:00,1,", "bad quotes", "misplaced"),
            ("1,22423,A,1,2010-12-01T08:26:00,1,,x", "wrong number of columns", "8 columns"),
        ];
        for (line, category, says) in cases {
            let reason = reason_of(line);
            assert_eq!(reason.category(), category, "{line}");
            assert!(reason.to_string().contains(says), "{line}: {reason}");
        }
        let long = format!("1,{},A,1,2010-12-01T08:26:00,1,", "9".repeat(MAX_CODE + 1));
        assert_eq!(
            reason_of(&long).to_string(),
            "StockCode has 65 characters; at most 64 are taken"
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_cost_only_their_line() {
        let mut bytes = format!("{}\n1,22423,", COLUMNS.join(",")).into_bytes();
        bytes.extend(b"\xa3 sign,1,2010-12-01T08:26:00,1,\n");
        bytes.extend(GOOD.as_bytes());
        let (_file, source) = file_with(&bytes);
        let lines: Vec<_> = SalesLines::open(&source).unwrap().collect();
        let refused = lines[0].clone().unwrap_err();
        assert_eq!((refused.line, refused.reason), (2, Reason::NotUtf8));
        assert_eq!(lines[1].clone().unwrap().line, 3);
    }

    #[test]
    fn prices_are_exact_pence() {
        let good = [("0", 0), ("2.5", 250), ("13541.33", 1_354_133), ("007.07", 707), ("0.29", 29)];
        for (text, minor) in good {
            assert_eq!(pence(text), Ok(minor));
        }
    }

    #[test]
    fn a_missing_or_wrong_header_names_the_expected_columns() {
        let expected = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID";
        for bytes in [b"".as_slice(), GOOD.as_bytes(), b"InvoiceNo,Quantity\n", b"\xff\xfe\0I\n"] {
            let error = header_error(bytes);
            assert!(error.contains(expected), "{error}");
        }
        assert!(header_error(b"").contains("the file is empty"));
        assert!(header_error(b"a,b\n1,2\n").contains("it is \"a,b\""));
        let (_file, marked) = file_with(format!("\u{feff}{expected}\n{GOOD}\n").as_bytes());
        assert_eq!(SalesLines::open(&marked).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Source::from(std::path::Path::new("no/such.csv")).open();
        let text = error.err().unwrap().to_string();
        assert!(text.contains("no/such.csv") && text.contains("check the path"), "{text}");
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes_and_may_have_several_members() {
        let mut bytes = gzipped(format!("{}\n{GOOD}\n", COLUMNS.join(",")).as_bytes());
        bytes.extend(gzipped(format!("{GOOD}\n").as_bytes()));
        let (_file, source) = file_with(&bytes);
        let lines: Vec<_> = SalesLines::open(&source).unwrap().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(Result::is_ok));
    }

    #[test]
    fn a_cut_off_gzip_ends_with_an_unreadable_line() {
        let text = format!("{}\n{}", COLUMNS.join(","), format!("{GOOD}\n").repeat(500));
        let mut bytes = gzipped(text.as_bytes());
        bytes.truncate(bytes.len() - 9);
        let (_file, source) = file_with(&bytes);
        let last = SalesLines::open(&source).unwrap().last().unwrap();
        assert_eq!(last.unwrap_err().reason.category(), "unreadable");
    }

    #[test]
    fn products_are_told_from_charges() {
        for sku in ["85123A", "85123a", "22423", "15056BL", "DCGS0076", "gift_0001_40"] {
            assert!(is_product(sku), "{sku}");
        }
        for sku in
            ["POST", "DOT", "M", "m", "D", "C2", "S", "AMAZONFEE", "BANK CHARGES", "DCGS", "1234"]
        {
            assert!(!is_product(sku), "{sku}");
        }
    }

    #[test]
    fn a_line_that_moves_no_goods_is_not_playable() {
        let cases = [
            ("1,POST,POSTAGE,1,2010-12-01T08:26:00,18,1", Some("not a product")),
            ("1,22617,mouldy,-2600,2010-12-01T08:26:00,0,", Some("internal entry")),
            ("1,22423,CAKESTAND,0,2010-12-01T08:26:00,1,1", Some("quantity zero")),
            ("1,22423,CAKESTAND,10,2010-12-01T08:26:00,0,14911", None),
            ("C1,22423,CAKESTAND,-1,2010-12-01T08:26:00,1,", None),
        ];
        for (line, refused) in cases {
            let judged = read(&[line]).remove(0).and_then(SalesLine::playable);
            let category = judged.err().map(|bad| bad.reason.category());
            assert_eq!(category, refused, "{line}");
        }
    }
}
