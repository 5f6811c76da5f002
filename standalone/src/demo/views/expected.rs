//! What the views have to say, computed from the lines and from what the services say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dataset::{Catalogue, DatasetError, RawLine, RawLines, Source, unless_fatal};
use crate::till::{KeyKind, invoice_date};

/// Rows by their keys.
pub(super) type Rows = BTreeMap<String, Value>;

/// Purchases that are kept of a customer.
const KEPT: usize = 5;

/// The step of an order's timeline that makes a sale of it.
const SOLD: &str = "stock deducted";

/// A line of a sale, in any channel.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sale {
    channel: String,
    sale_id: String,
    /// None for the till's, of which it is a hash.
    line_id: Option<String>,
    customer: Option<String>,
    sku: String,
    quantity: i64,
    unit_price_minor: Option<i64>,
    sold_at: String,
    cancelled: bool,
}

impl Sale {
    fn text(&self) -> String {
        // Texts and numbers can always be written as JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a till's lines come to.
#[derive(Default)]
pub(super) struct TillLines {
    pub(super) sales: Vec<Sale>,
    /// The lines that make no sense, by their messages' keys.
    pub(super) dead: Rows,
}

/// An order as order-service shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    id: String,
    status: String,
    customer: String,
    placed_at: String,
    lines: Vec<OrderLine>,
    timeline: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct OrderLine {
    sku: String,
    quantity: i64,
}

#[derive(Debug, Deserialize)]
struct Step {
    what: String,
}

/// The lines that the demo's till sends. Blocks.
pub(super) fn till_lines(source: &Source, limit: Option<u64>) -> Result<TillLines, DatasetError> {
    let limit = limit.and_then(|lines| usize::try_from(lines).ok());
    let mut found = TillLines::default();
    for raw in RawLines::of(source, source.open()?)?.take(limit.unwrap_or(usize::MAX)) {
        match raw.map_err(|refused| unless_fatal(source, refused)) {
            Ok(raw) => match till_sale(&raw) {
                Some(sale) => found.sales.push(sale),
                None => drop(found.dead.insert(KeyKind::Line.of(&raw), json!(true))),
            },
            // It is not sent.
            Err(Ok(_)) => {}
            Err(Err(broken)) => return Err(broken),
        }
    }
    Ok(found)
}

/// The sale that a line is by the rules of till.sql; none if it makes no sense.
fn till_sale(raw: &RawLine) -> Option<Sale> {
    let columns = raw.columns.each_ref().map(|value| value.trim_matches(' '));
    let [invoice, sku, _, quantity, _, price, customer] = columns;
    let customer = customer.strip_suffix(".0").unwrap_or(customer);
    let is_code = (1..=64).contains(&sku.chars().count())
        && !sku.contains(|character: char| character.is_ascii_control());
    (!invoice.is_empty() && is_code).then_some(())?;
    Some(Sale {
        channel: "till".to_owned(),
        sale_id: invoice.to_owned(),
        line_id: None,
        customer: (!customer.is_empty()).then(|| customer.to_owned()),
        sku: sku.to_owned(),
        quantity: pieces(quantity)?,
        unit_price_minor: Some(pence(price)?),
        sold_at: moment(invoice_date(raw).trim_matches(' '))?,
        cancelled: false,
    })
}

fn pieces(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let pieces: i64 = is_digits(digits, 1..=9).then(|| text.parse().ok())??;
    (pieces != 0).then_some(pieces)
}

/// `2.5` as 250.
fn pence(price: &str) -> Option<i64> {
    let (pounds, pence) = price.split_once('.').unwrap_or((price, "0"));
    let cut = pence.get(..2).unwrap_or(pence);
    let is_whole = pence.bytes().skip(2).all(|digit| digit == b'0');
    let is_price = is_digits(pounds, 1..=12) && is_digits(cut, 1..=2) && is_whole;
    is_price.then(|| format!("{pounds}{cut:0<2}").parse().ok())?
}

/// `1/12/2010 8:26` as the services write moments.
fn moment(text: &str) -> Option<String> {
    let (day, time) = text.split_once(' ').unwrap_or((text, "0:00"));
    let (day, month_and_year) = day.split_once('/')?;
    let (month, year) = month_and_year.split_once('/')?;
    let (hour, minute) = time.split_once(':')?;
    let (minute, second) = minute.split_once(':').unwrap_or((minute, "00"));
    let short = [day, month, hour].iter().all(|number| is_digits(number, 1..=2));
    let long = [minute, second].iter().all(|number| is_digits(number, 2..=2));
    (short && long && is_digits(year, 4..=4)).then_some(())?;
    let number = |text: &str| text.parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(year.parse().ok()?, number(month)?, number(day)?)?;
    let moment = date.and_hms_opt(number(hour)?, number(minute)?, number(second)?)?;
    Some(moment.format("%Y-%m-%dT%H:%M:%S.000000Z").to_string())
}

fn is_digits(text: &str, lengths: RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The lines of orders for which the stock was taken.
pub(super) fn web_sales(orders: Vec<Order>) -> Vec<Sale> {
    let sold = |order: &Order| order.timeline.iter().any(|step| step.what == SOLD);
    orders.into_iter().filter(sold).flat_map(lines_of).collect()
}

fn lines_of(order: Order) -> impl Iterator<Item = Sale> {
    let Order { id, status, customer, placed_at, lines, .. } = order;
    lines.into_iter().map(move |line| Sale {
        channel: "web".to_owned(),
        sale_id: id.clone(),
        line_id: Some(line.sku.clone()),
        customer: Some(customer.clone()),
        sku: line.sku,
        quantity: line.quantity,
        unit_price_minor: None,
        sold_at: placed_at.clone(),
        cancelled: status == "CANCELLED",
    })
}

/// How often each sale's line is there, by all that it says.
pub(super) fn sales(sales: &[Sale]) -> Rows {
    counted(sales.iter().map(Sale::text))
}

/// The same of the rows of the topic; of the till's lines without their hash.
pub(super) fn sales_of(rows: Rows) -> Rows {
    let text = |row: Value| match Sale::deserialize(&row) {
        Ok(sale) if sale.channel == "till" => Sale { line_id: None, ..sale }.text(),
        Ok(sale) => sale.text(),
        Err(_) => row.to_string(),
    };
    counted(rows.into_values().map(text))
}

fn counted(texts: impl Iterator<Item = String>) -> Rows {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts.into_iter().map(|(text, count)| (text, json!(count))).collect()
}

/// Each product of this run with the value of its stock, as product-service lists it.
pub(super) fn stock(products: Vec<Value>, survey: &Catalogue) -> Rows {
    let played: HashSet<&str> =
        survey.products.iter().map(|product| product.sku.as_str()).collect();
    let mut rows = Rows::new();
    for mut product in products {
        let number = |name: &str| product[name].as_i64().unwrap_or_default();
        let value = number("quantity").saturating_mul(number("unit_price_minor"));
        let Some(fields) = product.as_object_mut() else { continue };
        fields.remove("allow_backorder");
        fields.insert("value_minor".to_owned(), json!(value));
        let sku = product["sku"].as_str().unwrap_or_default().to_owned();
        if played.contains(sku.as_str()) {
            rows.insert(sku, product);
        }
    }
    rows
}

/// Each customer's last purchases, the newest first.
pub(super) fn purchases(sales: &[Sale]) -> Rows {
    let mut customers: BTreeMap<&str, Vec<&Sale>> = BTreeMap::new();
    for sale in sales {
        if let Some(customer) = &sale.customer {
            customers.entry(customer).or_default().push(sale);
        }
    }
    let documents = customers.into_iter();
    documents.map(|(customer, lines)| (customer.to_owned(), document(customer, &lines))).collect()
}

fn document(customer: &str, lines: &[&Sale]) -> Value {
    let version: u64 = lines.iter().map(|line| 1 + u64::from(line.cancelled)).sum();
    let mut bought: BTreeMap<(&str, &str), Vec<&Sale>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.quantity > 0 && !line.cancelled) {
        bought.entry((line.channel.as_str(), line.sale_id.as_str())).or_default().push(line);
    }
    let mut newest: Vec<_> = bought
        .into_iter()
        .map(|((channel, sale), lines)| {
            (lines.iter().map(|line| line.sold_at.as_str()).max(), channel, sale, lines)
        })
        .collect();
    newest.sort_by_key(|(sold_at, channel, sale, _)| Reverse((*sold_at, *channel, *sale)));
    let newest = newest.into_iter().take(KEPT);
    let purchases: Vec<Value> = newest
        .map(|(sold_at, channel, sale, lines)| {
            json!({
                "sold_at": sold_at,
                "channel": channel,
                "sale_id": sale,
                "pieces": lines.iter().map(|line| line.quantity).sum::<i64>(),
                "total_minor": total(&lines),
                "lines": sold_lines(&lines),
            })
        })
        .collect();
    json!({"customer": customer, "version": version, "purchases": purchases})
}

/// None as soon as one line has no price.
fn total(lines: &[&Sale]) -> Option<i64> {
    lines.iter().try_fold(0_i64, |sum, line| {
        Some(sum.wrapping_add(line.quantity.wrapping_mul(line.unit_price_minor?)))
    })
}

/// In the order of their texts.
fn sold_lines(lines: &[&Sale]) -> Vec<Value> {
    let mut sold: Vec<(String, Value)> = lines
        .iter()
        .map(|line| {
            let (sku, quantity, price) = (&line.sku, line.quantity, line.unit_price_minor);
            let (sku_text, price_text) = (json!(sku), json!(price));
            (
                format!(
                    r#"{{"sku":{sku_text},"quantity":{quantity},"unit_price_minor":{price_text}}}"#
                ),
                json!({"sku": sku, "quantity": quantity, "unit_price_minor": price}),
            )
        })
        .collect();
    sold.sort_by(|(one, _), (other, _)| one.cmp(other));
    sold.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 7] =
        ["536365", "85123A", "HEART", "6", "2010-12-01T08:26:00", "2.5", "17850.0"];

    fn sale(column: usize, value: &str) -> Option<Sale> {
        let mut columns = COLUMNS;
        columns[column] = value;
        till_sale(&RawLine { line: 2, columns: columns.map(str::to_owned) })
    }

    #[test]
    fn a_line_that_makes_sense_is_a_sale() {
        let sold = sale(0, " 536365 ").unwrap();
        let says = r#"{"channel":"till","sale_id":"536365","line_id":null,"customer":"17850","sku":"85123A","quantity":6,"unit_price_minor":250,"sold_at":"2010-12-01T08:26:00.000000Z","cancelled":false}"#;
        assert_eq!(serde_json::to_string(&sold).unwrap(), says);
        assert_eq!(sale(3, "-6").map(|sale| sale.quantity), Some(-6));
        assert_eq!(sale(5, "2.500").and_then(|sale| sale.unit_price_minor), Some(250));
        let date = |text: &str| sale(4, text).map(|sale| sale.sold_at);
        assert_eq!(date("31/1/2011 8:26:05").unwrap(), "2011-01-31T08:26:05.000000Z");
        assert_eq!(date("1/2/2011").unwrap(), "2011-02-01T00:00:00.000000Z");
        assert_eq!(sale(6, " ").unwrap().customer, None);
    }

    #[test]
    fn a_line_that_makes_none_is_not() {
        let (long, tab) = ("x".repeat(65), "\t1");
        for (column, value) in [
            (0, " "),
            (1, ""),
            (1, tab),
            (1, long.as_str()),
            (3, "six"),
            (3, "1000000000"),
            (3, "0"),
            (4, "31/2/2011 8:26"),
            (4, "1/12/2010 24:00"),
            (4, "1/12/10"),
            (5, "-2.55"),
            (5, "2.555"),
            (5, "2,55"),
            (5, "2."),
        ] {
            assert!(sale(column, value).is_none(), "{value:?} in column {column}");
        }
    }
}
