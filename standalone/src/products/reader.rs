//! The products of a file, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use serde_json::value::RawValue;
use thiserror::Error;

use super::columns::ProductColumns;
use super::product::{COLUMNS, Product, Values};
use super::refusal::Refusal;
use super::rejects::OWN_COLUMNS;
use super::{FileFormat, NAMES};
use crate::tabular::{Record, Records, TextLine, quoted, unpacked};

/// Names of further columns that are kept, to be told of.
const MAX_IGNORED: usize = 20;

/// One line of a file, or several that a quoted text spans.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The number of its first line.
    pub(super) line: u64,
    /// What it said, to be written again if it is refused.
    pub(super) original: Original,
    /// What it says.
    pub(super) product: Result<Product, Refusal>,
}

/// What a line said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Original {
    /// Its values.
    Values(Box<Values>),
    /// Its text, which can't be cut into values, or was never one.
    Text(String),
    /// Nothing that can be shown.
    Unreadable,
}

/// Why a whole file can't be used.
#[derive(Debug, Error)]
pub(super) enum FileError {
    /// It isn't there, or may not be read.
    #[error("can't open {origin}: {error}; check the path and that the file may be read")]
    Open { origin: String, error: std::io::Error },
    /// It has no first line.
    #[error("{origin} is empty; its first line has to name {NAMES}")]
    Empty { origin: String },
    /// Its first line names no columns.
    #[error("the first line of {origin} has to name {NAMES}: {why}")]
    Header { origin: String, why: String },
    /// It is JSON, but not one object in each line.
    #[error("{origin} is one JSON array; write each product on a line of its own (jq -c '.[]')")]
    Array { origin: String },
    /// Reading failed on the way: a damaged or cut-off gzip file, or a failing disk.
    #[error("{origin} can't be read beyond line {line}: {message}; get the file again")]
    Unreadable { origin: String, line: u64, message: String },
}

/// The products of a file, one at a time; only the line at hand is in memory.
pub(super) struct ProductReader {
    records: Records<Box<dyn BufRead + Send>>,
    layout: Layout,
    ignored: BTreeSet<String>,
    origin: String,
}

enum Layout {
    Csv(ProductColumns),
    Ndjson,
}

impl ProductReader {
    /// Reads the first line of `input`, which `origin` names, and takes it in that form, or in the one that it has.
    ///
    /// # Errors
    /// [`FileError`] if it can't be read, or is no file of products.
    pub(super) fn open(
        input: impl BufRead + Send + 'static,
        origin: &str,
        format: Option<FileFormat>,
    ) -> Result<Self, FileError> {
        let origin = origin.to_owned();
        let unreadable = |error: std::io::Error| FileError::Unreadable {
            origin: origin.clone(),
            line: 1,
            message: error.to_string(),
        };
        let mut records = Records::new(unpacked(input).map_err(unreadable)?);
        let Some(first) = records.next_line().map_err(unreadable)? else {
            return Err(FileError::Empty { origin });
        };
        let layout = match format.unwrap_or_else(|| format_of(&first)) {
            FileFormat::Csv => Layout::Csv(columns_of(&first, &origin)?),
            FileFormat::Ndjson if begins_with(&first, '[') => {
                return Err(FileError::Array { origin });
            }
            FileFormat::Ndjson => {
                records.unread(first);
                Layout::Ndjson
            }
        };
        let mut ignored = BTreeSet::new();
        if let Layout::Csv(columns) = &layout {
            ignored.extend(columns.ignored.iter().take(MAX_IGNORED).cloned());
        }
        Ok(Self { records, layout, ignored, origin })
    }

    /// The column that the prices are in; none in NDJSON, where each line has its own.
    pub(super) fn price_column(&self) -> Option<&'static str> {
        match &self.layout {
            Layout::Csv(columns) => Some(columns.price()),
            Layout::Ndjson => None,
        }
    }

    /// Names that were found beside those of a product, as far as the file is read.
    pub(super) fn ignored(&self) -> impl Iterator<Item = &str> {
        self.ignored.iter().map(String::as_str)
    }

    /// The next entry; none at the end. Blank lines are passed over.
    ///
    /// # Errors
    /// [`FileError::Unreadable`], after which there are no more.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, FileError> {
        loop {
            let line = self.records.next_number();
            let read = match &self.layout {
                Layout::Csv(columns) => self
                    .records
                    .next_record(columns.separator, columns.count)
                    .map(|record| record.map(|record| csv_entry(columns, record))),
                Layout::Ndjson => {
                    let ignored = &mut self.ignored;
                    self.records.next_line().map(|line| line.map(|line| json_entry(line, ignored)))
                }
            };
            match read {
                Ok(None) => return Ok(None),
                Ok(Some(Some(entry))) => return Ok(Some(entry)),
                Ok(Some(None)) => {}
                Err(error) => {
                    let (origin, message) = (self.origin.clone(), error.to_string());
                    return Err(FileError::Unreadable { origin, line, message });
                }
            }
        }
    }
}

fn begins_with(line: &TextLine, sign: char) -> bool {
    line.text.as_ref().is_ok_and(|text| plain(text).starts_with(sign))
}

/// No header begins like JSON, whatever the file is called.
fn format_of(first: &TextLine) -> FileFormat {
    match begins_with(first, '{') || begins_with(first, '[') {
        true => FileFormat::Ndjson,
        false => FileFormat::Csv,
    }
}

/// Without a byte order mark, and what is white around it.
fn plain(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

fn columns_of(first: &TextLine, origin: &str) -> Result<ProductColumns, FileError> {
    let wrong = |why: String| FileError::Header { origin: origin.to_owned(), why };
    let text = first.text.as_ref().map_err(|bad| wrong(bad.to_string()))?;
    ProductColumns::parse(text).map_err(|why| wrong(format!("{why} in {}", quoted(text))))
}

/// None for a line of blanks.
fn csv_entry(columns: &ProductColumns, record: Record) -> Option<Entry> {
    let (line, text) = (record.line, record.text);
    let refused = |original, refusal: Refusal| Entry { line, original, product: Err(refusal) };
    let fields = match record.fields {
        Ok(fields) => fields,
        Err(bad) => {
            let original = text.map_or(Original::Unreadable, Original::Text);
            return Some(refused(original, bad.into()));
        }
    };
    if fields.iter().all(|field| field.trim().is_empty()) {
        return None;
    }
    Some(match columns.pick(&fields) {
        Ok(values) => {
            let original = Original::Values(Box::new(values.clone()));
            Entry { line, original, product: Product::parse(values) }
        }
        Err(bad) => {
            let text = fields.join(&columns.separator.to_string());
            refused(Original::Text(text), bad.into())
        }
    })
}

/// None for a line of blanks.
fn json_entry(line: TextLine, ignored: &mut BTreeSet<String>) -> Option<Entry> {
    let TextLine { number: line, text } = line;
    let text = match text {
        Ok(text) => plain(&text).to_owned(),
        Err(bad) => {
            return Some(Entry { line, original: Original::Unreadable, product: Err(bad.into()) });
        }
    };
    if text.is_empty() {
        return None;
    }
    let product = json_values(&text, ignored).and_then(Product::parse);
    Some(Entry { line, original: Original::Text(text), product })
}

fn json_values(text: &str, ignored: &mut BTreeSet<String>) -> Result<Values, Refusal> {
    let mut object: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| Refusal::NotAnObject(error.to_string()))?;
    if let Some(column) =
        COLUMNS.iter().find(|column| object.get(**column).is_some_and(|raw| is_nested(raw)))
    {
        return Err(Refusal::NotAnObject(format!("{column} is neither a text nor a number")));
    }
    let values = COLUMNS.map(|column| object.remove(column).and_then(json_text));
    for name in object.into_keys() {
        if ignored.len() < MAX_IGNORED && !OWN_COLUMNS.contains(&name.as_str()) {
            ignored.insert(name);
        }
    }
    Ok(values)
}

fn is_nested(raw: &RawValue) -> bool {
    raw.get().starts_with(['{', '['])
}

/// A string as it is, a number digit by digit.
fn json_text(raw: &RawValue) -> Option<String> {
    match raw.get() {
        "null" => None,
        text => Some(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())),
    }
}
