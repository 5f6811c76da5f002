//! The second pass over a file.

use super::file_of;
use crate::dataset::batches::{MAX_BATCH, batches};

fn line(invoice: &str, sku: &str) -> String {
    format!("{invoice},{sku},A,1,2010-12-01T08:26:00,1,")
}

fn played(lines: &[String], limit: Option<u64>) -> Vec<(String, usize, u64)> {
    let (_file, source) = file_of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let batches = batches(&source, limit).unwrap().map(Result::unwrap);
    batches.map(|batch| (batch.invoice.clone(), batch.lines.len(), batch.lines[0].line)).collect()
}

#[test]
fn consecutive_lines_of_an_invoice_go_together() {
    let lines = [
        line("1", "22423"),
        line("1", "POST"),
        line("1", "22424"),
        line("2", "POST"),
        line("C3", "22423"),
        line("1", "22423"),
    ];
    let expected = [("1", 2, 2), ("C3", 1, 6), ("1", 1, 7)].map(|(i, n, l)| (i.to_owned(), n, l));
    assert_eq!(played(&lines, None), expected);
    assert_eq!(played(&lines, Some(2)), [("1".to_owned(), 1, 2)]);
    assert!(played(&lines, Some(0)).is_empty());
}

#[test]
fn a_long_invoice_is_split() {
    let lines = vec![line("1", "22423"); 2 * MAX_BATCH + 1];
    let sizes: Vec<_> = played(&lines, None).iter().map(|(_, size, _)| *size).collect();
    assert_eq!(sizes, [MAX_BATCH, MAX_BATCH, 1]);
}
