//! The lines that were refused, as a file that can be put right and imported again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use csv::{QuoteStyle, Writer, WriterBuilder};
use serde_json::value::RawValue;

use super::apostrophes::without_formulas;
use super::part_file::PartFile;
use super::product::Values;
use super::reader::{Original, ProductReader};

/// What such a file says beside the products: an import passes it over.
pub(super) const OWN_COLUMNS: [&str; 3] = ["line", "reason", "text"];

/// Writes refused lines, in the form of the file that they came from.
pub(super) enum Rejects {
    Csv(Box<Writer<PartFile>>),
    Ndjson(PartFile),
}

impl Rejects {
    /// Begins the file, for the lines of a file that is read.
    pub(super) fn create(path: &Path, reader: &ProductReader) -> anyhow::Result<Self> {
        let file = PartFile::create(path)?;
        let Some(price) = reader.price_column() else { return Ok(Self::Ndjson(file)) };
        let mut csv = WriterBuilder::new().quote_style(QuoteStyle::NonNumeric).from_writer(file);
        let products = ["sku", "description", "quantity", price, "allow_backorder"];
        csv.write_record([&["line", "reason"][..], &products, &["text"]].concat())?;
        Ok(Self::Csv(Box::new(csv)))
    }

    /// Adds a line.
    pub(super) fn add(
        &mut self,
        line: u64,
        reason: &str,
        original: &Original,
    ) -> anyhow::Result<()> {
        match self {
            Self::Csv(csv) => csv.write_record(csv_record(line, reason, original))?,
            Self::Ndjson(out) => writeln!(out, "{}", json_object(line, reason, original)?)?,
        }
        Ok(())
    }

    /// Puts the file in its place.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(csv) => {
                let file = csv.into_inner().map_err(|error| error.into_error());
                file.context("the refused lines can't be written")?.finish()
            }
            Self::Ndjson(file) => file.finish(),
        }
    }
}

fn csv_record(line: u64, reason: &str, original: &Original) -> Vec<String> {
    let mut record = vec![line.to_string(), without_formulas(reason)];
    let (values, text) = match original {
        Original::Values(values) => (Values::clone(values), ""),
        Original::Text(text) => (Values::default(), text.as_str()),
        Original::Unreadable => (Values::default(), ""),
    };
    let [sku, description, quantity, price, price_minor, backorder] = values;
    let price = price.or(price_minor);
    let texts = [sku, description].map(|text| without_formulas(&text.unwrap_or_default()));
    record.extend(texts);
    record.extend([quantity, price, backorder].map(|number| typed(number.unwrap_or_default())));
    record.push(without_formulas(text));
    record
}

/// A number stays as it is, below zero too.
fn typed(value: String) -> String {
    if value.parse::<f64>().is_ok() { value } else { without_formulas(&value) }
}

fn json_object(line: u64, reason: &str, original: &Original) -> serde_json::Result<String> {
    let mut object: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    if let Original::Text(text) = original {
        match serde_json::from_str(text) {
            Ok(fields) => object = fields,
            Err(_) => {
                drop(object.insert("text".to_owned(), serde_json::value::to_raw_value(text)?))
            }
        }
    }
    object.insert("line".to_owned(), serde_json::value::to_raw_value(&line)?);
    object.insert("reason".to_owned(), serde_json::value::to_raw_value(reason)?);
    serde_json::to_string(&object)
}
