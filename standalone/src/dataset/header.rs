//! The first line of a file: how its fields are separated, and where each column is.

use super::refusal::Reason;
use super::source::COLUMNS;
use crate::tabular::{check_count, cuts, places_of};

/// Where the columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// What stands between fields.
    pub(super) separator: char,
    /// Fields of every line.
    pub(super) columns: usize,
    /// The place of each of [`COLUMNS`].
    places: [usize; COLUMNS.len()],
}

impl Header {
    /// Finds the columns, in any order and case, among any others; `None` where one is missing or there twice.
    pub(super) fn parse(line: &str) -> Option<Self> {
        cuts(line).find_map(|(separator, names)| {
            Some(Self { separator, columns: names.len(), places: places(&names)? })
        })
    }

    /// The values of a line in the order of [`COLUMNS`].
    ///
    /// # Errors
    /// [`BadLine::ColumnCount`](crate::tabular::BadLine::ColumnCount) if it has too few, or more than the header and not all of them blank.
    pub(super) fn pick(&self, fields: &[String]) -> Result<[String; COLUMNS.len()], Reason> {
        check_count(fields, self.columns)?;
        Ok(self.places.map(|place| fields.get(place).cloned().unwrap_or_default()))
    }
}

fn places(names: &[String]) -> Option<[usize; COLUMNS.len()]> {
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let mut found = places_of(names, column);
        if let (true, Some(other)) = (found.is_empty(), other_name(column)) {
            found = places_of(names, other);
        }
        let [only] = found[..] else { return None };
        *place = only;
    }
    Some(places)
}

/// What the second release of the data set, and tills, call some of the columns.
fn other_name(column: &str) -> Option<&'static str> {
    match column {
        "InvoiceNo" => Some("Invoice"),
        "UnitPrice" => Some("Price"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[&str]) -> Vec<String> {
        fields.iter().map(|field| (*field).to_owned()).collect()
    }

    #[test]
    fn the_columns_are_found_wherever_they_are() {
        for line in [
            "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID",
            "\u{feff}invoiceno;STOCKCODE;Description;Quantity;InvoiceDate;UnitPrice;CustomerID",
            "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID",
            "\"Invoice No\"\tStock_Code\tDescription\tQuantity\tInvoiceDate\tUnitPrice\tCustomer ID",
        ] {
            let header = Header::parse(line).map(|header| (header.columns, header.places));
            assert_eq!(header, Some((7, [0, 1, 2, 3, 4, 5, 6])), "{line}");
        }
        let line =
            "Country,CustomerID,InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice";
        let header = Header::parse(line);
        let picked =
            header.map(|header| header.pick(&row(&["UK", "7", "1", "2", "D", "3", "4", "5"])));
        assert_eq!(picked, Some(Ok(["1", "2", "D", "3", "4", "5", "7"].map(str::to_owned))));
    }

    #[test]
    fn a_missing_and_a_doubled_column_are_refused() {
        let whole = COLUMNS.join(",");
        assert!(Header::parse(&whole).is_some());
        assert_eq!(Header::parse(whole.trim_end_matches(",CustomerID")), None);
        assert_eq!(Header::parse(&format!("{whole},quantity")), None);
        assert_eq!(Header::parse(""), None);
    }

    #[test]
    fn only_blanks_may_be_surplus() {
        let header = Header::parse(&COLUMNS.join(","));
        let pick = |fields: &[&str]| header.clone().map(|header| header.pick(&row(fields)).is_ok());
        let line = ["1", "2", "3", "4", "5", "6", "7"];
        assert_eq!(pick(&line), Some(true));
        assert_eq!(pick(&[&line[..], &["", " "]].concat()), Some(true));
        assert_eq!(pick(&[&line[..], &["", "x"]].concat()), Some(false));
        assert_eq!(pick(&line[..6]), Some(false));
    }
}
