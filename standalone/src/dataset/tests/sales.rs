//! Lines of a sales file: how they are read, and which are refused.

use super::{file_of, file_with, gzipped};
use crate::dataset::reader::SalesLines;
use crate::dataset::refusal::{MAX_CODE, MAX_DESCRIPTION, Reason, Refused};
use crate::dataset::sale::{SalesLine, is_product, pence};
use crate::dataset::source::{COLUMNS, Source};
use crate::tabular::BadLine;

fn read(lines: &[&str]) -> Vec<Result<SalesLine, Refused>> {
    let (_file, source) = file_of(lines);
    SalesLines::open(&source).unwrap().collect()
}

fn reason_of(line: &str) -> Reason {
    let read = read(&[line]);
    let [Err(Refused { line: 2, reason })] = read.as_slice() else {
        panic!("expected line 2 refused, got {read:?}");
    };
    reason.clone()
}

fn header_error(bytes: &[u8]) -> String {
    let (_file, source) = file_with(bytes);
    match SalesLines::open(&source) {
        Ok(_) => panic!("the header was taken"),
        Err(error) => error.to_string(),
    }
}

const GOOD: &str = "536365,85123A,\"HOLDER, \"\"WHITE\"\" \",6,2010-12-01T08:26:00,2.55,17850";

#[test]
fn a_line_is_read_column_by_column() {
    let lines = read(&[GOOD, "C536379, 22423 ,,-1,2010-12-01T09:41:00,10.9,"]);
    assert_eq!(
        lines[0],
        Ok(SalesLine {
            line: 2,
            invoice: "536365".to_owned(),
            sku: "85123A".to_owned(),
            description: Some("HOLDER, \"WHITE\"".to_owned()),
            quantity: 6,
            sold_at: "2010-12-01T08:26:00".parse().unwrap(),
            unit_price_minor: 255,
            customer: Some("17850".to_owned()),
        })
    );
    let cancelled = lines[1].clone().unwrap();
    assert_eq!((cancelled.line, cancelled.sku.as_str()), (3, "22423"));
    assert_eq!((cancelled.description.clone(), cancelled.customer.clone()), (None, None));
    assert_eq!((cancelled.delta(), cancelled.unit_price_minor), (1, 1090));
}

#[test]
fn a_malformed_line_is_refused_and_the_rest_goes_on() {
    let lines = read(&[GOOD, "536365,85123A", "", "1,\"open,2,3,4,5,6", GOOD]);
    let numbers: Vec<_> = lines
        .iter()
        .map(|line| line.as_ref().map(|good| good.line).map_err(|bad| bad.line))
        .collect();
    assert_eq!(numbers, [Ok(2), Err(3), Err(4), Err(5), Ok(6)]);
    let first = lines[1].clone().unwrap_err();
    assert_eq!(first.to_string(), "line 3: 2 columns instead of 7");
}

#[test]
fn what_is_wrong_with_a_line_is_said() {
    let cases = [
        ("1,22423,A,x,2010-12-01T08:26:00,1,", "bad quantity", "Quantity \"x\""),
        ("1,22423,A,1.5,2010-12-01T08:26:00,1,", "bad quantity", "whole number"),
        ("1,22423,A,1000000001,2010-12-01T08:26:00,1,", "bad quantity", "1000000000"),
        ("1,22423,A,1,12/1/2010 8:26,1,", "bad time", "2010-12-01T08:26:00"),
        ("1,22423,A,1,2010-13-01T08:26:00,1,", "bad time", "InvoiceDate"),
        ("1,22423,A,1,2010-12-01T08:26:00,£2,", "bad price", "£2"),
        ("1,22423,A,1,2010-12-01T08:26:00,1e3,", "bad price", "1e3"),
        ("1,22423,A,1,2010-12-01T08:26:00,,", "bad price", "UnitPrice \"\""),
        ("1,22423,A,1,2010-12-01T08:26:00,2.,", "bad price", "amount"),
        ("1,22423,A,1,2010-12-01T08:26:00,0.001,", "bad price", "two decimals"),
        ("1,22423,A,1,2010-12-01T08:26:00,99999999999999999999,", "bad price", "amount"),
        ("1,22423,A,1,2010-12-01T08:26:00,-11062.06,", "negative price", "-11062.06"),
        ("1, ,A,1,2010-12-01T08:26:00,1,", "code missing", "StockCode is empty"),
        (",22423,A,1,2010-12-01T08:26:00,1,", "code missing", "InvoiceNo is empty"),
        ("1,22423,A\tB,1,2010-12-01T08:26:00,1,", "control character", "Description"),
        ("1,22423\u{7f},A,1,2010-12-01T08:26:00,1,", "control character", "StockCode"),
        ("1,22423\u{200b},A,1,2010-12-01T08:26:00,1,", "code looks like another", "U+200B"),
        (
            "e\u{301}1,22423,A,1,2010-12-01T08:26:00,1,",
            "code looks like another",
            "InvoiceNo is not in NFC",
        ),
        ("1,22423,\"A\"B,1,2010-12-01T08:26:00,1,", "bad quotes", "misplaced"),
        ("1,22423,A,1,2010-12-01T08:26:00,1,,x", "wrong number of columns", "8 columns"),
    ];
    for (line, category, says) in cases {
        let reason = reason_of(line);
        assert_eq!(reason.category(), category, "{line}");
        assert!(reason.to_string().contains(says), "{line}: {reason}");
    }
    let long = format!("1,{},A,1,2010-12-01T08:26:00,1,", "9".repeat(MAX_CODE + 1));
    assert_eq!(reason_of(&long).to_string(), "StockCode has 65 characters; at most 64 are taken");
    let long = format!("1,22423,{},1,2010-12-01T08:26:00,1,", "ä".repeat(MAX_DESCRIPTION + 1));
    let says = "Description has 1001 characters; at most 1000 are taken";
    assert_eq!(reason_of(&long).to_string(), says);
}

/// A file of one line, which sells `£5 café mugs`, in any encoding and layout.
fn sold(bytes: &[u8]) -> Result<SalesLine, Refused> {
    let (_file, source) = file_with(bytes);
    let mut lines: Vec<_> = SalesLines::open(&source).unwrap().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

fn assert_sold(bytes: &[u8]) {
    let line = sold(bytes).unwrap();
    assert_eq!((line.invoice.as_str(), line.sku.as_str()), ("1", "22423"));
    assert_eq!(line.description.as_deref(), Some("£5 café mugs"));
    assert_eq!((line.quantity, line.unit_price_minor), (3, 255));
    assert_eq!(line.sold_at, "2010-12-01T08:26:00".parse().unwrap());
    assert_eq!(line.customer.as_deref(), Some("7"));
}

fn table(separator: &str) -> String {
    let line = ["1", "22423", "£5 café mugs", "3", "2010-12-01T08:26:00", "2.55", "7"];
    format!("{}\r\n{}\r\n", COLUMNS.join(separator), line.join(separator))
}

#[test]
fn any_usual_separator_is_read() {
    for separator in [",", ";", "\t"] {
        assert_sold(table(separator).as_bytes());
    }
    assert_sold(table(";").replace("2.55", "2,55").as_bytes());
}

#[test]
fn any_usual_encoding_is_read() {
    let text = table(",");
    let utf_16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    };
    let marked = format!("\u{feff}{text}");
    assert_sold(marked.as_bytes());
    for text in [&text, &marked] {
        assert_sold(&utf_16(text, u16::to_le_bytes));
        assert_sold(&utf_16(text, u16::to_be_bytes));
        assert_sold(&gzipped(&utf_16(text, u16::to_le_bytes)));
    }
    let latin_1: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    assert_sold(&latin_1);
    let euro = [COLUMNS.join(",").as_bytes(), b"\n1,22423,\x80,1,2010-12-01T08:26:00,1,"].concat();
    assert_eq!(sold(&euro).unwrap().description.as_deref(), Some("€"));
}

#[test]
fn a_bad_line_of_a_utf8_file_costs_only_itself() {
    let mut bytes = format!("{}\n1,22423,café,1,2010-12-01T08:26:00,1,\n", COLUMNS.join(","));
    bytes.push_str("1,22423,");
    let mut bytes = bytes.into_bytes();
    bytes.extend(b"\xa3 sign,1,2010-12-01T08:26:00,1,\n");
    bytes.extend(GOOD.as_bytes());
    let (_file, source) = file_with(&bytes);
    let lines: Vec<_> = SalesLines::open(&source).unwrap().collect();
    let refused = lines[1].clone().unwrap_err();
    assert_eq!((refused.line, refused.reason), (3, Reason::Line(BadLine::NotUtf8)));
    assert_eq!(lines[2].clone().unwrap().line, 4);
}

#[test]
fn columns_may_stand_anywhere_and_among_others() {
    assert_sold(
        "country,customerid,INVOICENO,StockCode,Description,Quantity,InvoiceDate,UnitPrice\n\
         UK,7,1,22423,£5 café mugs,3,2010-12-01 08:26,2.55\n"
            .as_bytes(),
    );
    let surplus =
        format!("{}\n1,22423,£5 café mugs,3,2010-12-01T08:26:00,2.55,7,,", COLUMNS.join(","));
    assert_sold(surplus.as_bytes());
}

#[test]
fn a_quoted_line_break_becomes_a_blank() {
    let quoted = table(",").replace("£5 café mugs", "\"£5 café\r\nmugs\"");
    assert_sold(quoted.as_bytes());
    let lines = read(&["1,22423,\"A\nB\nC\",1,2010-12-01T08:26:00,1,", GOOD]);
    assert_eq!(lines[0].clone().unwrap().description.as_deref(), Some("A B C"));
    let numbers: Vec<_> = lines.iter().map(|line| line.as_ref().unwrap().line).collect();
    assert_eq!(numbers, [2, 5]);
}

#[test]
fn a_quote_that_is_never_closed_costs_only_its_line() {
    let plain = "2,22423,A,1,2010-12-01T08:26:00,1,";
    let mut lines = vec!["1,22423,\"A,1,2010-12-01T08:26:00,1,"];
    lines.extend([plain; 1_000]);
    let read = read(&lines);
    assert_eq!(read.len(), 1_001);
    let refused = read[0].clone().unwrap_err();
    assert_eq!((refused.line, refused.reason), (2, Reason::Line(BadLine::QuoteNotClosed)));
    assert!(read[1..].iter().all(Result::is_ok));
}

#[test]
fn a_bare_quote_is_part_of_the_text() {
    let line = read(&["1,22423,5\" plate,1,2010-12-01T08:26:00,1,"]).remove(0).unwrap();
    assert_eq!(line.description.as_deref(), Some("5\" plate"));
}

#[test]
fn what_can_be_read_only_once_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = file_of(&[GOOD]);
    let source = Source::at(file.path(), folder.path()).unwrap();
    assert_eq!(source, Source::from(file.path()));
    let error = Source::at(folder.path(), folder.path()).unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_as_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::write(pipe, table(",")))
    };
    let source = Source::at(&pipe, folder.path()).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(source.to_string(), pipe.display().to_string());
    for _ in 0..2 {
        assert_eq!(SalesLines::open(&source).unwrap().filter(Result::is_ok).count(), 1);
    }
}

#[test]
fn prices_are_exact_pence() {
    let good = [("0", 0), ("2.5", 250), ("13541.33", 1_354_133), ("007.07", 707), ("0.29", 29)];
    for (text, minor) in good.into_iter().chain([("2,55", 255)]) {
        assert_eq!(pence(text), Ok(minor));
    }
}

#[test]
fn a_missing_or_wrong_header_names_the_expected_columns() {
    let expected = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID";
    for bytes in [b"".as_slice(), GOOD.as_bytes(), b"InvoiceNo,Quantity\n", b"\xff\xfe\0I\n"] {
        let error = header_error(bytes);
        assert!(error.contains(expected), "{error}");
    }
    assert!(header_error(b"").contains("the file is empty"));
    assert!(header_error(b"a,b\n1,2\n").contains("it is \"a,b\""));
    let (_file, marked) = file_with(format!("\u{feff}{expected}\n{GOOD}\n").as_bytes());
    assert_eq!(SalesLines::open(&marked).unwrap().count(), 1);
}

#[test]
fn a_missing_file_is_named() {
    let error = Source::from(std::path::Path::new("no/such.csv")).open();
    let text = error.err().unwrap().to_string();
    assert!(text.contains("no/such.csv") && text.contains("check the path"), "{text}");
}

#[test]
fn gzip_is_told_by_its_first_bytes_and_may_have_several_members() {
    let mut bytes = gzipped(format!("{}\n{GOOD}\n", COLUMNS.join(",")).as_bytes());
    bytes.extend(gzipped(format!("{GOOD}\n").as_bytes()));
    let (_file, source) = file_with(&bytes);
    let lines: Vec<_> = SalesLines::open(&source).unwrap().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(Result::is_ok));
}

#[test]
fn a_cut_off_gzip_ends_with_an_unreadable_line() {
    let text = format!("{}\n{}", COLUMNS.join(","), format!("{GOOD}\n").repeat(500));
    let mut bytes = gzipped(text.as_bytes());
    bytes.truncate(bytes.len() - 9);
    let (_file, source) = file_with(&bytes);
    let last = SalesLines::open(&source).unwrap().last().unwrap();
    assert_eq!(last.unwrap_err().reason.category(), "unreadable");
}

#[test]
fn products_are_told_from_charges() {
    for sku in ["85123A", "85123a", "22423", "15056BL", "DCGS0076", "gift_0001_40"] {
        assert!(is_product(sku), "{sku}");
    }
    for sku in
        ["POST", "DOT", "M", "m", "D", "C2", "S", "AMAZONFEE", "BANK CHARGES", "DCGS", "1234"]
    {
        assert!(!is_product(sku), "{sku}");
    }
}

#[test]
fn a_line_that_moves_no_goods_is_not_playable() {
    let cases = [
        ("1,POST,POSTAGE,1,2010-12-01T08:26:00,18,1", Some("not a product")),
        ("1,22617,mouldy,-2600,2010-12-01T08:26:00,0,", Some("internal entry")),
        ("1,22423,CAKESTAND,0,2010-12-01T08:26:00,1,1", Some("quantity zero")),
        ("1,22423,CAKESTAND,10,2010-12-01T08:26:00,0,14911", None),
        ("C1,22423,CAKESTAND,-1,2010-12-01T08:26:00,1,", None),
    ];
    for (line, refused) in cases {
        let judged = read(&[line]).remove(0).and_then(SalesLine::playable);
        let category = judged.err().map(|bad| bad.reason.category());
        assert_eq!(category, refused, "{line}");
    }
}
