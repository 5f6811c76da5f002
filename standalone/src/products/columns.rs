//! Where the columns of a CSV file of products are.

use super::apostrophes::with_formulas;
use super::product::{COLUMNS, Values};
use super::rejects::OWN_COLUMNS;
use crate::tabular::{BadLine, check_count, cuts, places_of};

/// The columns that have to be there; the price is in one of two more.
const REQUIRED: [&str; 3] = ["sku", "description", "quantity"];

/// Where the columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProductColumns {
    /// What stands between fields.
    pub(super) separator: char,
    /// Fields of every line.
    pub(super) count: usize,
    /// Names of further columns, which are not read.
    pub(super) ignored: Vec<String>,
    places: [Option<usize>; COLUMNS.len()],
}

impl ProductColumns {
    /// Finds the columns in a file's first line, in any order and case, among any others.
    ///
    /// # Errors
    /// What is wrong with the line, as half a sentence.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let mut wrong = None;
        for (separator, names) in cuts(line) {
            match Self::of(separator, &names) {
                Ok(columns) => return Ok(columns),
                // What is said is about the separator that cuts the line into most.
                Err(why) => match &wrong {
                    Some((most, _)) if *most >= names.len() => {}
                    _ => wrong = Some((names.len(), why)),
                },
            }
        }
        Err(wrong.map_or_else(|| "its quotes don't add up".to_owned(), |(_, why)| why))
    }

    fn of(separator: char, names: &[String]) -> Result<Self, String> {
        let mut places = [None; COLUMNS.len()];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            *place = match places_of(names, column)[..] {
                [] if REQUIRED.contains(&column) => return Err(format!("{column} is missing")),
                [] => None,
                [only] => Some(only),
                _ => return Err(format!("{column} is there twice")),
            };
        }
        match (places[3], places[4]) {
            (None, None) => return Err("unit_price is missing".to_owned()),
            (Some(_), Some(_)) => return Err("it names both, where one is enough".to_owned()),
            _ => {}
        }
        let is_read = |name: &str| {
            let mut known = COLUMNS.iter().chain(&OWN_COLUMNS);
            known.any(|column| !places_of(&[name.to_owned()], column).is_empty())
        };
        let ignored = names.iter().filter(|name| !name.trim().is_empty() && !is_read(name));
        let ignored = ignored.cloned().collect();
        Ok(Self { separator, count: names.len(), ignored, places })
    }

    /// The column that the prices are in.
    pub(super) fn price(&self) -> &'static str {
        if self.places[3].is_some() { COLUMNS[3] } else { COLUMNS[4] }
    }

    /// The values of a line.
    ///
    /// # Errors
    /// [`BadLine::ColumnCount`] where it has too few or too many.
    pub(super) fn pick(&self, fields: &[String]) -> Result<Values, BadLine> {
        check_count(fields, self.count)?;
        let [sku, description, rest @ ..] =
            self.places.map(|place| place.and_then(|place| fields.get(place)));
        let [quantity, price, price_minor, backorder] = rest.map(|field| typed(field?));
        // A blank around a text may be meant, elsewhere it is typing noise.
        let sku = sku.and_then(|sku| typed(sku)).map(|sku| with_formulas(&sku));
        let description = description.map(|text| with_formulas(text));
        Ok([sku, description, quantity, price, price_minor, backorder])
    }
}

/// What was typed; none if that is nothing.
fn typed(field: &str) -> Option<String> {
    let field = field.trim();
    (!field.is_empty()).then(|| field.to_owned())
}
