//! Tables for people, from the service's JSON; nothing in it reaches the terminal as a command.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row};
use common::clock::Timestamp;
use common::text::visible;
use serde_json::Value;

/// Spaces between two columns.
const GAP: u16 = 2;
/// A last column that is narrower than this would not be readable.
const MIN_READABLE: u16 = 12;

/// One column of a table: its title, where its value is in an item, and how that is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    /// Names separated by dots.
    path: &'static str,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Number,
    /// A moment, to the second, in UTC.
    Time,
    /// How long ago a moment was.
    Age,
    /// A duration, given in seconds.
    Seconds,
    /// How many per second.
    Rate,
    /// A list, or JSON.
    List,
}

impl Column {
    const fn new(title: &'static str, path: &'static str, format: Format) -> Self {
        Self { title, path, format }
    }

    /// A text as it is.
    pub(crate) const fn text(title: &'static str, path: &'static str) -> Self {
        Self::new(title, path, Format::Text)
    }

    /// A number, aligned as numbers are; of a list, how many it has.
    pub(crate) const fn number(title: &'static str, path: &'static str) -> Self {
        Self::new(title, path, Format::Number)
    }

    /// A moment in UTC.
    pub(crate) const fn time(title: &'static str, path: &'static str) -> Self {
        Self::new(title, path, Format::Time)
    }

    /// How long ago a moment was.
    pub(super) const fn age(title: &'static str, path: &'static str) -> Self {
        Self::new(title, path, Format::Age)
    }

    /// A duration, given in seconds.
    pub(super) const fn seconds(title: &'static str, path: &'static str) -> Self {
        Self::new(title, path, Format::Seconds)
    }

    /// How many per second.
    pub(super) const fn rate(title: &'static str, path: &'static str) -> Self {
        Self::new(title, path, Format::Rate)
    }

    /// Several values, or something with parts.
    pub(super) const fn list(title: &'static str, path: &'static str) -> Self {
        Self::new(title, path, Format::List)
    }

    /// Whether `item` has a value here.
    pub(super) fn is_in(&self, item: &Value) -> bool {
        !self.value(item).is_null()
    }

    fn value<'a>(&self, item: &'a Value) -> &'a Value {
        self.path.split('.').fold(item, |value, name| &value[name])
    }

    fn text_of(&self, item: &Value, now: Timestamp) -> String {
        let value = self.value(item);
        let moment = || value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        match (self.format, value) {
            (_, Value::Null) => "-".to_owned(),
            (Format::Time, _) => moment().map_or_else(|| plain(value), to_the_second),
            (Format::Age, _) => moment().map_or_else(|| plain(value), |at| age(now.since(at))),
            (Format::Seconds, _) => value.as_f64().map_or_else(|| plain(value), short_duration),
            (Format::Rate, _) => {
                value.as_f64().map_or_else(|| plain(value), |rate| format!("{rate:.1}/s"))
            }
            (Format::Number, Value::Array(values)) => values.len().to_string(),
            (Format::List, Value::Array(values)) if values.is_empty() => "-".to_owned(),
            (Format::List, Value::Array(values)) => {
                values.iter().map(plain).collect::<Vec<_>>().join(", ")
            }
            _ => plain(value),
        }
    }
}

/// A table: the columns, and how much room there is.
pub(crate) struct Table<'a> {
    pub(crate) columns: &'a [Column],
    pub(crate) now: Timestamp,
    pub(crate) width: Option<u16>,
    /// Whether the titles are printed above.
    pub(crate) with_header: bool,
}

impl Table<'_> {
    /// One line for each of `items`; where the terminal is too narrow, the last column is cut.
    pub(crate) fn render(&self, items: &[Value]) -> String {
        let mut table = self.empty();
        if self.with_header {
            let mut titles = Row::from(self.columns.iter().map(|column| column.title));
            titles.max_height(1);
            table.set_header(titles);
        }
        for item in items {
            let cells = self.columns.iter().map(|column| {
                let aligned = match column.format {
                    Format::Text | Format::Time | Format::List => CellAlignment::Left,
                    _ => CellAlignment::Right,
                };
                Cell::new(column.text_of(item, self.now)).set_alignment(aligned)
            });
            let mut row = Row::from(cells);
            row.max_height(1);
            table.add_row(row);
        }
        if let Some(width) = self.width {
            self.cut_last(&mut table, width);
        }
        flush_left(table)
    }

    /// One line for each column that the item has a value for.
    pub(crate) fn render_fields(&self, item: &Value) -> String {
        let mut table = self.empty();
        for column in self.columns {
            let text = column.text_of(item, self.now);
            if text != "-" {
                table.add_row([column.title, text.as_str()]);
            }
        }
        flush_left(table)
    }

    /// The last column stays whole where what is left of it would not be readable.
    fn cut_last(&self, table: &mut comfy_table::Table, width: u16) {
        let widths = table.column_max_content_widths();
        let Some((_, whole)) = widths.split_last() else { return };
        let taken: u16 = whole.iter().map(|width| width + GAP).sum();
        if width.saturating_sub(taken) >= MIN_READABLE {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
            table.set_constraints(vec![ColumnConstraint::ContentWidth; whole.len()]);
        }
    }

    fn empty(&self) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_truncation_indicator("…");
        table
    }
}

/// Without the padding on the left and at the ends of the lines.
fn flush_left(mut table: comfy_table::Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, GAP));
    });
    table.trim_fmt()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Null => "-".to_owned(),
        other => printable(&other.to_string()),
    }
}

/// `text` without what a terminal would obey, what turns the order of the letters round, or what nobody can see.
pub(crate) fn printable(text: &str) -> String {
    visible(text).into_owned()
}

/// JSON that means the same, on one line, and without what a terminal would obey.
pub(crate) fn harmless_json(raw: &str) -> String {
    raw.trim().chars().fold(String::with_capacity(raw.len()), |mut shown, c| {
        match c {
            // Bare ones stand between the parts only, where any white space will do.
            '\n' | '\r' | '\t' => shown.push(' '),
            // Others can stand in strings only, and none of them is beyond 16 bits.
            c if is_harmful(c) => drop(write!(shown, "\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
        shown
    })
}

fn is_harmful(c: char) -> bool {
    let turns_round =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns_round
}

fn to_the_second(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    let time = time.split('.').next().unwrap_or(time);
    format!("{date} {time}")
}

/// A short duration, precise enough to compare.
fn short_duration(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.1} ms", seconds * 1_000.0),
        ..120.0 => format!("{seconds:.1} s"),
        _ => age(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    }
}

/// A duration in its largest unit, as people say it.
pub(super) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A number with its thousands separated.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("KEY", "key"),
        Column::number("TRIES", "mail.tries"),
        Column::age("AGE", "at"),
        Column::time("AT (UTC)", "at"),
        Column::list("AREAS", "areas"),
        Column::text("ERROR", "error"),
    ];

    fn items() -> [Value; 2] {
        let at = Timestamp::from_micros(1_000_000);
        [
            json!({"key": "TEA", "mail": {"tries": 3}, "at": at, "areas": ["a", "b"], "error": "x ".repeat(40)}),
            json!({"key": "\u{1b}[2J\u{202e}", "at": null, "areas": [], "error": "a\nb\u{9b}"}),
        ]
    }

    fn table(width: Option<u16>) -> Table<'static> {
        let now = Timestamp::from_micros(301_000_000);
        Table { columns: COLUMNS, now, width, with_header: true }
    }

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        let shown = table(None).render(&items());
        assert!(shown.contains("\\u{1b}[2J\\u{202e}") && shown.contains("a\\nb\\u{9b}"), "{shown}");
        assert!(shown.lines().flat_map(str::chars).all(|c| !is_harmful(c)), "{shown}");
        assert_eq!(shown.lines().count(), 3);
        assert_eq!(printable("TEA\u{200b}"), r"TEA\u{200b}");
        let raw = "{\n\t\"a\": \"x\u{9b}\u{202e}\\u001b\"}\n";
        let shown = harmless_json(raw);
        assert_eq!(shown, "{  \"a\": \"x\\u009b\\u202e\\u001b\"}");
        let same: Result<Value, _> = serde_json::from_str(&shown);
        assert_eq!(same.ok(), serde_json::from_str(raw).ok());
    }

    #[test]
    fn a_narrow_terminal_cuts_the_last_column_only() {
        let shown = table(Some(85)).render(&items());
        for line in shown.lines() {
            assert!(line.chars().count() <= 85, "{line}");
        }
        assert!(shown.contains("1970-01-01 00:00:01") && shown.contains('…'), "{shown}");
        assert!(shown.starts_with("KEY") && shown.lines().count() == 3, "{shown}");
        assert_eq!(table(Some(20)).render(&items()), table(None).render(&items()));
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        let shown = [0, 119, 120, 7_199, 7_200, 172_799, 172_800]
            .map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
        let shown = [0.0047, 1.25, 119.94, 120.0, 1e30].map(short_duration);
        assert_eq!(shown[..4], ["4.7 ms", "1.2 s", "119.9 s", "2 min"]);
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
