//! The walk over both tables, side by side.

use std::cmp::Ordering;
use std::collections::VecDeque;

use anyhow::Result;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use indicatif::ProgressBar;

use super::rows::{COPY, Row, SOURCE, Table};
use crate::check::reader::{PAGE, Reader};
use crate::progress::rows_bar;

/// Walks both tables in the order of their keys; returns how many rows each has.
pub(super) fn compare(
    product: &mut Reader,
    order: &mut Reader,
    mut see: impl FnMut(Option<&Row>, Option<&Row>),
) -> Result<(u64, u64)> {
    let bar = rows_bar("products and copies, side by side".to_owned());
    let mut source = Pages::new(product, SOURCE, &bar);
    let mut copy = Pages::new(order, COPY, &bar);
    loop {
        let first = match (source.peek()?, copy.peek()?) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(copy)) => source.product.sku.cmp(&copy.product.sku),
        };
        let of_source = if first.is_le() { source.take() } else { None };
        let of_copy = if first.is_ge() { copy.take() } else { None };
        see(of_source.as_ref(), of_copy.as_ref());
    }
    bar.finish_and_clear();
    Ok((source.rows, copy.rows))
}

/// The rows of one table in the order of their keys, bytewise on both databases.
struct Pages<'a> {
    reader: &'a mut Reader,
    table: Table,
    bar: &'a ProgressBar,
    after: String,
    page: VecDeque<Row>,
    at_end: bool,
    rows: u64,
}

impl<'a> Pages<'a> {
    fn new(reader: &'a mut Reader, table: Table, bar: &'a ProgressBar) -> Self {
        let (after, page) = (String::new(), VecDeque::new());
        Self { reader, table, bar, after, page, at_end: false, rows: 0 }
    }

    fn peek(&mut self) -> Result<Option<&Row>> {
        if self.page.is_empty() && !self.at_end {
            let sql = format!("{} WHERE sku > $1 ORDER BY sku LIMIT $2", self.table.select());
            let after = std::mem::take(&mut self.after);
            let rows: Vec<Row> = self.reader.page(|conn| {
                on!(conn, c => sql_query(sql)
                    .bind::<Text, _>(&after)
                    .bind::<BigInt, _>(PAGE)
                    .load(c))
            })?;
            self.at_end = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
            self.after = rows.last().map(|row| row.product.sku.clone()).unwrap_or_default();
            self.rows += rows.len() as u64;
            self.bar.inc(rows.len() as u64);
            self.page = rows.into();
        }
        Ok(self.page.front())
    }

    fn take(&mut self) -> Option<Row> {
        self.page.pop_front()
    }
}
