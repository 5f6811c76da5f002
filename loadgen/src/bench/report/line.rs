//! A line of a table: headings, and what stands below them.

use serde::Serialize;

use super::svg::Chart;

/// A line of a table, and an element of the JSON.
pub(in crate::bench) trait Line: Serialize + Sized {
    /// The headings, and what stands below them in this line; nothing where nothing is known.
    fn cells(&self) -> Cells;

    /// All lines as bars.
    fn chart(title: &str, lines: &[Self]) -> Chart;
}

/// Headings, and what stands below them.
pub(in crate::bench) type Cells = Vec<(&'static str, Option<String>)>;

/// A cell of a number.
pub(super) fn number(value: Option<f64>, digits: usize) -> Option<String> {
    value.map(|value| format!("{value:.digits$}"))
}

/// A cell of two numbers, both of which have to be known.
pub(super) fn range(low: Option<f64>, high: Option<f64>, digits: usize) -> Option<String> {
    low.zip(high).map(|(low, high)| format!("{low:.digits$}–{high:.digits$}"))
}
