//! One sales line: read from its columns, and judged whether it can be played as a stock adjustment.

use chrono::NaiveDateTime;

use super::lines::fields;
use super::refusal::{MAX_CODE, MAX_QUANTITY, Reason, Refused, quoted};
use super::source::COLUMNS;

/// How a sale's time is written, e.g. `2010-12-01T08:26:00`.
pub(super) const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S";

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
    /// Reads a line of the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(line: u64, bytes: &[u8]) -> Result<Self, Reason> {
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
        Ok(Self {
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
        .ok_or_else(|| Reason::Quantity { value: quoted(value) })
}

fn time(value: &str) -> Result<NaiveDateTime, Reason> {
    NaiveDateTime::parse_from_str(value, TIME_FORMAT)
        .map_err(|_| Reason::Time { value: quoted(value) })
}

/// Pounds and pence as whole pence, digit by digit: 2.55 has no exact binary fraction.
pub(super) fn pence(value: &str) -> Result<i64, Reason> {
    let bad = || Reason::Price { value: quoted(value) };
    let amount = value.strip_prefix('-').unwrap_or(value);
    let (pounds, decimals) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(pounds) || !digits(decimals) {
        return Err(bad());
    }
    if amount.len() < value.len() {
        return Err(Reason::PriceNegative { value: quoted(value) });
    }
    let decimals = match decimals.len() {
        1 => format!("{decimals}0"),
        2 => decimals.to_owned(),
        _ => {
            return Err(Reason::PriceTooPrecise { value: quoted(value) });
        }
    };
    format!("{pounds}{decimals}").parse().map_err(|_| bad())
}
