//! A line of a till as its message.

use chrono::{NaiveDateTime, Timelike};
use clap::ValueEnum;
use serde::Serialize;

use crate::dataset::{RawLine, plain_time};

/// What the messages' keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    /// The invoice, such as 536365. Equal lines of an invoice count once, as one that was sent twice.
    Invoice,
    /// The invoice and the line's number in the file, such as 536365-L17. Equal lines count as often as they stand there.
    Line,
}

impl KeyKind {
    /// The key of a line.
    pub(crate) fn of(self, raw: &RawLine) -> String {
        let [invoice, ..] = &raw.columns;
        let invoice = invoice.trim();
        match self {
            Self::Invoice => invoice.to_owned(),
            Self::Line => format!("{invoice}-L{}", raw.line),
        }
    }
}

/// A line under the names of a till's columns, each value as text.
#[derive(Serialize)]
struct TillLine<'a> {
    #[serde(rename = "Invoice")]
    invoice: &'a str,
    #[serde(rename = "StockCode")]
    stock_code: &'a str,
    #[serde(rename = "Description")]
    description: &'a str,
    #[serde(rename = "Quantity")]
    quantity: &'a str,
    #[serde(rename = "InvoiceDate")]
    invoice_date: &'a str,
    #[serde(rename = "Price")]
    price: &'a str,
    #[serde(rename = "Customer ID")]
    customer: &'a str,
}

/// The line as JSON. The values stay as they are, since the reader of the topic judges them; only a date that is written
/// in another way becomes one of a till, such as `1/12/2010 8:26`.
pub(super) fn json(raw: &RawLine) -> Vec<u8> {
    let [invoice, stock_code, description, quantity, _, price, customer] = &raw.columns;
    let invoice_date = &invoice_date(raw);
    let line =
        TillLine { invoice, stock_code, description, quantity, invoice_date, price, customer };
    // Texts can always be written as JSON.
    serde_json::to_vec(&line).unwrap_or_default()
}

/// When a till says that the line was sold.
pub(crate) fn invoice_date(raw: &RawLine) -> String {
    let [_, _, _, _, date, _, _] = &raw.columns;
    plain_time(date.trim()).map_or_else(|| date.clone(), till_date)
}

fn till_date(moment: NaiveDateTime) -> String {
    let format = if moment.second() == 0 { "%-d/%-m/%Y %-H:%M" } else { "%-d/%-m/%Y %-H:%M:%S" };
    moment.format(format).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 7] =
        ["536365", "85123A", "HOLDER, \"WHITE\"", "6", "2010-12-01T08:26:00", "2.55", "17850"];

    fn raw(columns: [&str; 7]) -> RawLine {
        RawLine { line: 2, columns: columns.map(str::to_owned) }
    }

    fn written(columns: [&str; 7]) -> String {
        String::from_utf8(json(&raw(columns))).unwrap()
    }

    #[test]
    fn a_line_is_an_object_of_texts() {
        let expected = r#"{"Invoice":"536365","StockCode":"85123A","Description":"HOLDER, \"WHITE\"","Quantity":"6","InvoiceDate":"1/12/2010 8:26","Price":"2.55","Customer ID":"17850"}"#;
        assert_eq!(written(COLUMNS), expected);
    }

    #[test]
    fn only_dates_are_written_in_another_way() {
        let date = |date: &str| {
            let mut columns = COLUMNS;
            columns[4] = date;
            let line: serde_json::Value = serde_json::from_str(&written(columns)).unwrap();
            line["InvoiceDate"].as_str().unwrap().to_owned()
        };
        assert_eq!(date("2010-12-31 18:05"), "31/12/2010 18:05");
        assert_eq!(date("2010-12-01T08:26:07"), "1/12/2010 8:26:07");
        for kept in ["1/12/2010 8:26", "31/2/2011", "2011-02-31T08:26:00", "soon", ""] {
            assert_eq!(date(kept), kept);
        }
        let nonsense = written(["", " ", "", "six", "", "-1", "17850.0"]);
        assert_eq!(
            nonsense,
            r#"{"Invoice":"","StockCode":" ","Description":"","Quantity":"six","InvoiceDate":"","Price":"-1","Customer ID":"17850.0"}"#
        );
    }

    #[test]
    fn a_line_has_a_key_of_its_own_where_that_is_asked_for() {
        let keys = |kind: KeyKind| {
            let mut other = COLUMNS;
            other[0] = " 536366 ";
            // The second line of the first invoice comes behind one of another.
            let lines = (2..).zip([COLUMNS, other, COLUMNS]);
            let keys = lines.map(|(line, columns)| kind.of(&RawLine { line, ..raw(columns) }));
            keys.collect::<Vec<_>>()
        };
        assert_eq!(keys(KeyKind::Invoice), ["536365", "536366", "536365"]);
        assert_eq!(keys(KeyKind::Line), ["536365-L2", "536366-L3", "536365-L4"]);
    }
}
