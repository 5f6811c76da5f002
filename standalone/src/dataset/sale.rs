//! One sales line: read from its columns, and judged whether it can be played as a stock adjustment.

use chrono::NaiveDateTime;
use common::text::check_identifier;

use super::refusal::{MAX_CODE, MAX_DESCRIPTION, MAX_QUANTITY, Reason, Refused};
use super::source::COLUMNS;
use crate::tabular::{BadAmount, minor_units, quoted};

/// How a sale's time is written, e.g. `2010-12-01T08:26:00`. A blank for the `T` and times without seconds are plain too;
/// `12/1/2010` is not, since its day and month can't be told apart.
pub(super) const TIME_FORMATS: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

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
    /// Reads the values of a line, in the order of [`COLUMNS`].
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn parse(line: u64, columns: [String; COLUMNS.len()]) -> Result<Self, Reason> {
        for (value, column) in columns.iter().zip(COLUMNS) {
            if value.contains(char::is_control) {
                return Err(Reason::ControlCharacter { column });
            }
        }
        let [invoice, sku, description, quantity, sold_at, price, customer] = columns;
        Ok(Self {
            line,
            invoice: code(COLUMNS[0], &invoice)?,
            sku: code(COLUMNS[1], &sku)?,
            description: unless_blank(&description).map(described).transpose()?,
            quantity: pieces(quantity.trim())?,
            sold_at: time(sold_at.trim())?,
            unit_price_minor: pence(price.trim())?,
            customer: unless_blank(&customer),
        })
    }

    /// What the line does to the stock of its SKU: a sale lowers it, a return raises it.
    pub(crate) fn delta(&self) -> i64 {
        -self.quantity
    }

    /// Passes the line on if it can be played as a stock adjustment; [`super`] says which can't.
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
pub(super) fn is_product(sku: &str) -> bool {
    let article = sku.bytes().take_while(u8::is_ascii_digit).count() >= 5;
    let dotcom = sku
        .strip_prefix("DCGS")
        .is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
    let voucher = sku.starts_with("gift_");
    article || dotcom || voucher
}

fn code(column: &'static str, value: &str) -> Result<String, Reason> {
    let value = value.trim();
    let length = value.chars().count();
    match length {
        0 => Err(Reason::CodeEmpty { column }),
        1..=MAX_CODE => match check_identifier(value) {
            Ok(()) => Ok(value.to_owned()),
            Err(error) => Err(Reason::Lookalike { column, error }),
        },
        _ => Err(Reason::TooLong { column, length, most: MAX_CODE }),
    }
}

fn described(text: String) -> Result<String, Reason> {
    match text.chars().count() {
        0..=MAX_DESCRIPTION => Ok(text),
        length => Err(Reason::TooLong { column: COLUMNS[2], length, most: MAX_DESCRIPTION }),
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
        .ok_or_else(|| Reason::Quantity { value: quoted(value) })
}

fn time(value: &str) -> Result<NaiveDateTime, Reason> {
    plain_time(value).ok_or_else(|| Reason::Time { value: quoted(value) })
}

/// A time that is written in one of [`TIME_FORMATS`].
pub(crate) fn plain_time(value: &str) -> Option<NaiveDateTime> {
    let mut formats = TIME_FORMATS.iter();
    formats.find_map(|format| NaiveDateTime::parse_from_str(value, format).ok())
}

/// Pounds and pence as whole pence.
pub(super) fn pence(value: &str) -> Result<i64, Reason> {
    minor_units(value).map_err(|bad| {
        let value = quoted(value);
        match bad {
            BadAmount::NotAnAmount => Reason::Price { value },
            BadAmount::Negative => Reason::PriceNegative { value },
            BadAmount::TooPrecise => Reason::PriceTooPrecise { value },
        }
    })
}
