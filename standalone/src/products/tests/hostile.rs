//! Files that nobody would call one of products.

use std::io::Cursor;

use stockloop_tests::fuzz::{self, Target};

use crate::products::FileFormat;
use crate::products::export::Sink;
use crate::products::product::Product;
use crate::products::reader::{FileError, ProductReader};

#[test]
fn any_file_is_read_or_refused_line_by_line() {
    fuzz::apart(Target::Products, |input| {
        for format in [None, Some(FileFormat::Csv), Some(FileFormat::Ndjson)] {
            let products = match read(input.bytes(), format) {
                Ok(products) => products,
                Err(error) => {
                    assert!(error.to_string().contains("the file"), "{error}");
                    continue;
                }
            };
            if products.is_empty() {
                continue;
            }
            for format in [FileFormat::Csv, FileFormat::Ndjson] {
                let written = written(&products, format);
                let again = read(written, Some(format));
                assert_eq!(again.unwrap_or_else(|error| panic!("{error}")), products);
            }
        }
    });
}

/// The products of a file; what is wrong with each line that has none is said, and lines are counted.
fn read(file: Vec<u8>, format: Option<FileFormat>) -> Result<Vec<Product>, FileError> {
    let mut reader = ProductReader::open(Cursor::new(file), "the file", format)?;
    let (mut products, mut last) = (Vec::new(), 0);
    while let Some(entry) = reader.next_entry()? {
        assert!(entry.line > last, "line {} after line {last}", entry.line);
        last = entry.line;
        match entry.product {
            Ok(product) => products.push(product),
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    }
    assert!(reader.ignored().count() <= 20);
    Ok(products)
}

fn written(products: &[Product], format: FileFormat) -> Vec<u8> {
    let mut sink = Sink::new(Vec::new(), format, false).unwrap();
    products.iter().for_each(|product| sink.add(product).unwrap());
    sink.into_inner().unwrap()
}
