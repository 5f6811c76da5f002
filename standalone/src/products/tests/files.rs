//! Files of products as people have them, and files of what was refused.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::products::FileFormat;
use crate::products::chunks::next_chunk;
use crate::products::product::Product;
use crate::products::reader::{Entry, ProductReader};
use crate::products::rejects::Rejects;

fn open(bytes: &[u8]) -> ProductReader {
    ProductReader::open(Cursor::new(bytes.to_vec()), "the file", None)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let mut reader = open(bytes);
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

fn error_of(bytes: &[u8], format: Option<FileFormat>) -> String {
    match ProductReader::open(Cursor::new(bytes.to_vec()), "the file", format) {
        Ok(_) => panic!("the file was taken"),
        Err(error) => error.to_string(),
    }
}

/// The only product of a file, which is `£5 café mugs`.
#[track_caller]
fn assert_mugs(bytes: &[u8]) {
    let entries = entries(bytes);
    assert_eq!(entries.len(), 1, "{entries:?}");
    let product = entries[0].product.clone().unwrap();
    assert_eq!(
        (product.sku.as_str(), product.description.as_str(), product.quantity),
        ("22423", "£5 café mugs", 3)
    );
    assert_eq!((product.unit_price_minor, product.allow_backorder), (255, true));
}

fn table(separator: &str) -> String {
    let header = ["sku", "description", "quantity", "unit_price", "allow_backorder"];
    let line = ["22423", "£5 café mugs", "3", "2.55", "true"];
    format!("{}\r\n{}\r\n", header.join(separator), line.join(separator))
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn any_usual_separator_is_read() {
    for separator in [",", ";", "\t"] {
        assert_mugs(table(separator).as_bytes());
    }
    assert_mugs(table(";").replace("2.55", "2,55").as_bytes());
}

#[test]
fn any_usual_encoding_is_read() {
    let marked = format!("\u{feff}{}", table(","));
    let json = "\u{feff}{\"sku\":\"22423\",\"description\":\"£5 café mugs\",\"quantity\":3,\"unit_price\":2.55,\"allow_backorder\":true}\r\n";
    for text in [&table(","), &marked, json] {
        assert_mugs(text.as_bytes());
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let utf_16: Vec<u8> = text.encode_utf16().flat_map(bytes).collect();
            assert_mugs(&utf_16);
            assert_mugs(&gzipped(&utf_16));
        }
    }
    let latin_1: Vec<u8> = table(";").chars().map(|c| u8::try_from(c).unwrap()).collect();
    assert_mugs(&latin_1);
    assert_mugs(&gzipped(&latin_1));
}

#[test]
fn columns_may_stand_anywhere_and_among_others() {
    let text = "colour;Unit Price Minor;ALLOW-BACKORDER;Quantity;Description;SKU;;line\n\
                blue;255;YES; 3 ;£5 café mugs; 22423 ;;7\n";
    assert_mugs(text.as_bytes());
    let mut reader = open(text.as_bytes());
    while reader.next_entry().unwrap().is_some() {}
    assert_eq!(reader.ignored().collect::<Vec<_>>(), ["colour"]);
    assert_eq!(reader.price_column(), Some("unit_price_minor"));
    let surplus = table(",").replace(",true", ",true,, ");
    assert_mugs(surplus.as_bytes());
    let without = "sku,description,quantity,unit_price\n22423,A,-3,2\n";
    assert_eq!(reasons(without.as_bytes())[0].0, 2);
}

#[test]
fn a_quoted_line_break_becomes_a_blank_and_a_bare_quote_is_text() {
    assert_mugs(table(",").replace("£5 café mugs", "\"£5 café\r\nmugs\"").as_bytes());
    let text = "sku,description,quantity,unit_price\nA,5\" plate,1,1\n\n , ,,\nB,\"one\ntwo\nthree\",1,1\nC,,1,1\n";
    let read = entries(text.as_bytes());
    let described: Vec<(u64, String)> =
        read.into_iter().map(|entry| (entry.line, entry.product.unwrap().description)).collect();
    let wanted = [(2, "5\" plate"), (5, "one two three"), (8, "")];
    assert_eq!(described, wanted.map(|(line, text)| (line, text.to_owned())));
}

#[test]
fn formulas_come_without_their_apostrophe() {
    let text = "sku,description,quantity,unit_price\n'=A,'-5% off;'+1,-5,1\n\"''=B\",'tis,1,1\n";
    let text = text.replace("unit_price", "unit_price,allow_backorder").replace(",1\n", ",1,1\n");
    let read: Vec<Product> =
        entries(text.as_bytes()).into_iter().map(|entry| entry.product.unwrap()).collect();
    assert_eq!((read[0].sku.as_str(), read[0].description.as_str()), ("=A", "-5% off;+1"));
    assert_eq!((read[1].sku.as_str(), read[1].description.as_str()), ("'=B", "'tis"));
    assert_eq!(read[0].quantity, -5);
}

/// The numbers of refused lines, and why they are.
fn reasons(bytes: &[u8]) -> Vec<(u64, String)> {
    let refused = entries(bytes).into_iter();
    refused.filter_map(|entry| Some((entry.line, entry.product.err()?.to_string()))).collect()
}

#[test]
fn what_is_wrong_with_a_line_is_said_and_the_rest_goes_on() {
    let mut text =
        b"sku,description,quantity,unit_price,allow_backorder\n\xc3\xa9,A,1,1,\n".to_vec();
    let cases: [(&[u8], &str); 17] = [
        (b"A,A", "2 columns instead of 5"),
        (b"A,A,1,1,,x", "6 columns"),
        (b"A,\"A\"x,1,1,", "misplaced"),
        (b"A,\"A,1,1,", "not closed"),
        (b"A,\xa3,1,1,", "not valid UTF-8"),
        (b",A,1,1,", "sku is missing"),
        (b"A,A,,1,", "quantity is missing"),
        (b"A,A,1.5,1,", "quantity \"1.5\" is not a whole number"),
        (b"A,A,99999999999999999999,1,", "whole number"),
        (b"A,A,-1,1,no", "below zero"),
        (b"A,A,1,,", "unit_price is missing"),
        (b"A,A,1,2.555,", "unit_price \"2.555\" has more than two decimals"),
        (b"A,A,1,-2,", "unit_price \"-2\" is negative"),
        (b"A,A,1,\xc2\xa32,", "is not an amount"),
        (b"A,A,1,1,maybe", "allow_backorder \"maybe\""),
        (b"A,A\tB,1,1,", "description must not hold control characters"),
        (b"A\0,A,1,1,", "SKU must not hold control characters"),
    ];
    for (line, _) in cases {
        text.extend([line, b"\n"].concat());
    }
    text.extend(b"Z,A,1,1,\n");
    let refused = reasons(&text);
    assert_eq!(refused.len(), cases.len(), "{refused:?}");
    for ((line, (_, says)), (number, reason)) in (3..).zip(cases).zip(refused) {
        assert_eq!(number, line, "{reason}");
        assert!(reason.contains(says), "{says}: {reason}");
    }
}

#[test]
fn what_is_wrong_with_a_line_of_json_is_said_too() {
    let good = r#"{"sku":"A","description":"","quantity":1,"unit_price_minor":255,"colour":"red"}"#;
    let text = [
        good,
        "[1]",
        "{\"sku\":",
        "",
        r#"{"sku":"A","description":"","quantity":1,"unit_price_minor":2.5}"#,
        r#"{"sku":"A","description":"","quantity":1,"unit_price_minor":250,"unit_price":2.5}"#,
        r#"{"sku":" A","description":"","quantity":1,"unit_price":2.5}"#,
        r#"{"sku":"A","description":null,"quantity":1,"unit_price":2.5}"#,
        r#"{"sku":7,"description":"","quantity":"1","unit_price":"2.5","allow_backorder":null}"#,
    ]
    .join("\n");
    let refused = reasons(text.as_bytes());
    let says = [
        "no JSON object",
        "no JSON object",
        "unit_price_minor \"2.5\"",
        "both",
        "white space",
        "description is missing",
    ];
    assert_eq!(refused.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 5, 6, 7, 8]);
    for ((_, reason), says) in refused.iter().zip(says) {
        assert!(reason.contains(says), "{says}: {reason}");
    }
    let mut reader = open(text.as_bytes());
    while reader.next_entry().unwrap().is_some() {}
    assert_eq!(reader.ignored().collect::<Vec<_>>(), ["colour"]);
}

#[test]
fn a_file_that_is_none_of_products_says_what_it_lacks() {
    assert!(error_of(b"", None).contains("the file is empty"));
    let header = |text: &str| error_of(text.as_bytes(), None);
    assert!(header("sku;description;quantity\n").contains("unit_price is missing in \"sku;desc"));
    assert!(
        header("sku,description,Quantity,QUANTITY,unit_price\n")
            .contains("quantity is there twice")
    );
    let both = header("sku,description,quantity,unit_price,unit_price_minor\n");
    assert!(both.contains("names both"), "{both}");
    assert!(header("[{\"sku\":1}]").contains("jq -c"));
    assert!(error_of(b"{}", Some(FileFormat::Csv)).contains("sku is missing"));
}

#[test]
fn a_damaged_file_says_how_far_it_can_be_read() {
    let line = "22423,A,1,2.55\n";
    let lines: String = (0..5_000).map(|n| line.replace("22423", &format!("S{n}"))).collect();
    let text = format!("sku,description,quantity,unit_price\n{lines}");
    let mut bytes = gzipped(text.as_bytes());
    bytes.truncate(bytes.len() / 2);
    let mut reader = open(&bytes);
    let mut read = 1;
    let broken = loop {
        let (chunk, broken) = next_chunk(&mut reader);
        assert!(chunk.entries.iter().all(|entry| entry.product.is_ok()));
        read += chunk.entries.len();
        if let Some(broken) = broken {
            break broken.to_string();
        }
    };
    let says = format!("the file can't be read beyond line {}", read + 1);
    assert!(read > 1 && broken.contains(&says), "{says}: {broken}");
}

#[test]
fn chunks_are_bounded_and_stay_when_a_line_is_put_right() {
    let mut lines: Vec<String> = (0..2_500).map(|n| format!("S{n},A,1,1")).collect();
    let chunks = |lines: &[String]| {
        let text = format!("sku,description,quantity,unit_price\n{}", lines.join("\n"));
        let mut reader = open(text.as_bytes());
        let chunks = std::iter::from_fn(|| {
            let (chunk, broken) = next_chunk(&mut reader);
            assert!(broken.is_none());
            (!chunk.entries.is_empty()).then_some(chunk)
        });
        chunks.collect::<Vec<_>>()
    };
    let whole = chunks(&lines);
    assert_eq!(
        whole.iter().map(|chunk| chunk.entries.len()).collect::<Vec<_>>(),
        [1_000, 1_000, 500]
    );
    lines[5] = "S5,A,none,1".to_owned();
    let refused = chunks(&lines);
    assert_eq!(refused[0].skus().len(), 999);
    assert_eq!(refused[1].skus(), whole[1].skus());
    let long: Vec<String> = (0..1_000).map(|n| format!("S{n},{},1,1", "x".repeat(1_000))).collect();
    assert!(chunks(&long).iter().all(|chunk| chunk.entries.len() < 300));
}

/// What a file of refused lines holds, and which of its own lines are refused when it is read.
fn rejected(bytes: &[u8]) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refused");
    let mut reader = open(bytes);
    let mut rejects = Rejects::create(&path, &reader).unwrap();
    while let Some(entry) = reader.next_entry().unwrap() {
        if let Err(refusal) = &entry.product {
            rejects.add(entry.line, &refusal.to_string(), &entry.original).unwrap();
        }
    }
    assert!(!path.exists(), "it is not complete yet");
    rejects.finish().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let again = reasons(text.as_bytes()).into_iter().map(|(_, reason)| reason).collect();
    (text, again)
}

#[test]
fn refused_lines_can_be_put_right_and_read_again() {
    let text = "unit_price_minor;sku;description;quantity\n\
                2.5;'=A;\"two; cells\";-1\n255;B;B;1\n1;C;\"C;1\n";
    let (file, again) = rejected(text.as_bytes());
    assert!(
        file.starts_with(
            "\"line\",\"reason\",\"sku\",\"description\",\"quantity\",\"unit_price_minor\""
        ),
        "{file}"
    );
    assert!(file.contains("2,\"quantity is below zero") && file.contains("'=A"), "{file}");
    assert!(file.contains("1;C;\"\"C;1"), "{file}");
    assert_eq!(again.len(), 2, "what is not put right is refused again: {again:?}");
    assert!(!file.contains("\"B\""), "{file}");
    let corrected =
        file.replace("-1,2.5", "1,250").replace("\"\",\"\",\"\",\"\",\"\",", "C,C,1,1,,");
    let read = entries(corrected.as_bytes());
    let skus: Vec<String> =
        read.into_iter().map(|entry| entry.product.unwrap().sku.as_str().to_owned()).collect();
    assert_eq!(skus, ["=A", "C"]);
}

#[test]
fn refused_json_keeps_its_fields() {
    let text = "{\"sku\":\"A\",\"description\":\"\",\"quantity\":\"?\",\"unit_price\":2.50,\"colour\":1}\nnothing\n";
    let (file, again) = rejected(text.as_bytes());
    let lines: Vec<serde_json::Value> =
        file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["line"], &lines[0]["colour"]), (&1.into(), &1.into()));
    assert!(file.contains("2.50"), "the price is as it was: {file}");
    assert_eq!((&lines[1]["line"], &lines[1]["text"]), (&2.into(), &"nothing".into()));
    assert_eq!(again.len(), 2, "{again:?}");
}
