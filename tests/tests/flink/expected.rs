//! What the views have to say, computed from what the services, the till and the phone say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rdkafka::message::{Message, OwnedMessage};
use serde_json::{Value, json};

use crate::system::{TestSystem, text};

/// Purchases that are kept of a customer.
const KEPT: usize = 5;

/// What the till writes that is no object, and what is said of it.
const NO_OBJECTS: [&str; 3] = ["printer out of paper", "[\"536365\"]", "{\"Invoice\":\"536365\""];
const NO_OBJECT: &str = "it is not a JSON object";

/// Columns with a value that makes no sense, and what is said of them.
const NO_SENSE: [(&str, &str, &str); 9] = [
    ("Invoice", " ", "Invoice is missing"),
    ("StockCode", "", "StockCode is missing"),
    ("StockCode", "\t1", "StockCode is longer than 64 characters or holds control characters"),
    ("Quantity", "six", "Quantity is not a whole number below a billion"),
    ("Quantity", "1000000000", "Quantity is not a whole number below a billion"),
    ("Quantity", "0", "Quantity is 0"),
    ("InvoiceDate", "31/2/2011 8:26", "InvoiceDate is not a time like 1/12/2010 8:26"),
    ("Price", "-2.55", "Price is below zero"),
    ("Price", "2.555", "Price is not an amount like 2.55"),
];

/// A line that was sold, in any channel.
struct SoldLine {
    channel: &'static str,
    sale: String,
    customer: Option<String>,
    sku: String,
    quantity: i64,
    price: Option<i64>,
    sold_at: String,
    cancelled: bool,
}

/// What each view has to say, by its keys.
pub(super) struct Expected {
    pub(super) stock: BTreeMap<String, Value>,
    pub(super) purchases: BTreeMap<String, Value>,
    /// Every line that was sold, [`sorted`]; those of the till without their `line_id`, which is a hash.
    pub(super) sales: Vec<Value>,
    /// In the order of partition and offset.
    pub(super) dead: Vec<Value>,
}

impl Expected {
    /// By what the services say now, of these orders, and by messages of the till and of the phone.
    pub(super) async fn of(
        system: &TestSystem,
        orders: &[String],
        till: &[OwnedMessage],
        phone: &[OwnedMessage],
    ) -> Self {
        let mut lines = till_lines(till);
        lines.extend(phone_lines(phone));
        for order in orders {
            let order = system.order.get(&format!("/api/v1/orders/{order}")).await.ok();
            lines.extend(web_lines(&order));
        }
        let (stock, purchases) = (stock(system).await, purchases(&lines));
        let sales = sorted(lines.iter().map(SoldLine::row).collect());
        Self { stock, purchases, sales, dead: dead(till) }
    }

    /// Lines that were sold in a channel.
    pub(super) fn sold(&self, channel: &str) -> usize {
        self.sales.iter().filter(|line| line["channel"] == channel).count()
    }
}

impl SoldLine {
    /// As the topic of sales has it.
    fn row(&self) -> Value {
        let mut row = json!({
            "channel": self.channel,
            "sale_id": self.sale,
            "customer": self.customer,
            "sku": self.sku,
            "quantity": self.quantity,
            "unit_price_minor": self.price,
            "sold_at": self.sold_at,
            "cancelled": self.cancelled,
        });
        if self.channel != "till" {
            row["line_id"] = json!(self.sku);
        }
        row
    }
}

/// In an order that rows with the same values have, too, whatever the order of their fields.
pub(super) fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_cached_key(|row| {
        let fields = row.as_object().into_iter().flatten();
        fields.map(|(name, value)| (name.clone(), value.to_string())).collect::<BTreeMap<_, _>>()
    });
    rows
}

/// What a till writes that makes no sense, with the reason that is to be given.
pub(super) fn nonsense() -> Vec<(String, &'static str)> {
    let wrong = NO_SENSE.into_iter().map(|(column, value, reason)| {
        let mut line = json!({
            "Invoice": "536365",
            "StockCode": "85123A",
            "Description": "WHITE HANGING HEART",
            "Quantity": "6",
            "InvoiceDate": "1/12/2010 8:26",
            "Price": "2.55",
            "Customer ID": "17850",
        });
        line[column] = json!(value);
        (line.to_string(), reason)
    });
    NO_OBJECTS.into_iter().map(|line| (line.to_owned(), NO_OBJECT)).chain(wrong).collect()
}

/// What is sold by phone to these two, in the columns that the README gives its table; the first line comes twice.
pub(super) fn calls(one: &str, other: &str) -> Vec<String> {
    let line = |call: &str, customer: &str, sku: &str, pieces: i64| {
        let call = json!({
            "call_id": call,
            "customer": customer,
            "sku": sku,
            "pieces": pieces,
            "pence": 355,
            "taken_at": "2011-01-04T10:15:00.000000Z",
        });
        call.to_string()
    };
    let first = line("P-1", one, "TEA", 2);
    vec![first.clone(), first, line("P-1", one, "JAM", 1), line("P-2", other, "TEA", 3)]
}

/// Each product with the value of its stock, as product-service's list has it.
async fn stock(system: &TestSystem) -> BTreeMap<String, Value> {
    let list = system.product.get("/api/v1/inventory?limit=1000").await.ok();
    assert_eq!(list["next"], Value::Null, "one page holds them all");
    let products = list["items"].as_array().expect("a list").iter().map(|product| {
        let mut row = product.clone();
        let fields = row.as_object_mut().expect("an object");
        fields.remove("allow_backorder").expect("what the view leaves out");
        let value = number(&product["quantity"]) * number(&product["unit_price_minor"]);
        fields.insert("value_minor".to_owned(), json!(value));
        (text(&product["sku"]), row)
    });
    products.collect()
}

/// The lines of an order for which the stock was taken.
fn web_lines(order: &Value) -> Vec<SoldLine> {
    let cancelled = match order["status"].as_str() {
        Some("CONFIRMED") => false,
        Some("CANCELLED") => true,
        Some("REJECTED") => return Vec::new(),
        _ => panic!("it has not ended: {order}"),
    };
    let lines = order["lines"].as_array().expect("lines").iter().map(|line| SoldLine {
        channel: "web",
        sale: text(&order["id"]),
        customer: Some(text(&order["customer"])),
        sku: text(&line["sku"]),
        quantity: number(&line["quantity"]),
        price: None,
        sold_at: text(&order["placed_at"]),
        cancelled,
    });
    lines.collect()
}

/// The lines on the till's topic that make sense; what has the same key and text is one line.
fn till_lines(messages: &[OwnedMessage]) -> Vec<SoldLine> {
    let no_sense = reasons();
    let texts: BTreeSet<(String, String)> = messages.iter().map(key_and_text).collect();
    let lines = texts.iter().filter(|(_, line)| !no_sense.contains_key(line));
    lines.map(|(_, line)| till_line(line)).collect()
}

fn till_line(line: &str) -> SoldLine {
    let columns: Value = serde_json::from_str(line).expect("the till writes JSON");
    let column = |name: &str| text(&columns[name]).trim().to_owned();
    let customer = column("Customer ID");
    let customer = customer.strip_suffix(".0").unwrap_or(&customer);
    SoldLine {
        channel: "till",
        sale: column("Invoice"),
        customer: (!customer.is_empty()).then(|| customer.to_owned()),
        sku: column("StockCode"),
        quantity: column("Quantity").parse().expect("a number"),
        price: Some(pence(&column("Price"))),
        sold_at: moment(&column("InvoiceDate")),
        cancelled: false,
    }
}

/// The lines on the phone's topic; what names the same call and product is one line.
fn phone_lines(messages: &[OwnedMessage]) -> Vec<SoldLine> {
    let lines = messages.iter().map(phone_line);
    let lines: BTreeMap<(String, String), SoldLine> =
        lines.map(|line| ((line.sale.clone(), line.sku.clone()), line)).collect();
    lines.into_values().collect()
}

fn phone_line(message: &OwnedMessage) -> SoldLine {
    let (_, line) = key_and_text(message);
    let columns: Value = serde_json::from_str(&line).expect("the calls are JSON");
    SoldLine {
        channel: "phone",
        sale: text(&columns["call_id"]),
        customer: Some(text(&columns["customer"])),
        sku: text(&columns["sku"]),
        quantity: number(&columns["pieces"]),
        price: Some(number(&columns["pence"])),
        sold_at: text(&columns["taken_at"]),
        cancelled: false,
    }
}

/// `2.5` as 250.
fn pence(price: &str) -> i64 {
    let (pounds, pence) = price.split_once('.').unwrap_or((price, "0"));
    format!("{pounds}{pence:0<2}").parse().expect("an amount")
}

/// `1/12/2010 8:26` as the services write moments.
fn moment(date: &str) -> String {
    let numbers: Vec<&str> = date.split(['/', ' ', ':']).collect();
    let [day, month, year, hour, minute] = numbers[..] else { panic!("{date} is no such time") };
    format!("{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute}:00.000000Z")
}

fn purchases(lines: &[SoldLine]) -> BTreeMap<String, Value> {
    let mut customers: BTreeMap<&str, Vec<&SoldLine>> = BTreeMap::new();
    for line in lines {
        if let Some(customer) = &line.customer {
            customers.entry(customer.as_str()).or_default().push(line);
        }
    }
    let documents = customers.into_iter();
    documents.map(|(name, lines)| (name.to_owned(), document(name, &lines))).collect()
}

/// A customer's last purchases, the newest first, and how much has happened to the lines.
fn document(customer: &str, lines: &[&SoldLine]) -> Value {
    let version: i64 = lines.iter().map(|line| if line.cancelled { 2 } else { 1 }).sum();
    let mut sales: BTreeMap<(&str, &str), Vec<&SoldLine>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.quantity > 0 && !line.cancelled) {
        sales.entry((line.channel, line.sale.as_str())).or_default().push(line);
    }
    let mut purchases: Vec<Value> = sales.into_values().map(|lines| purchase(&lines)).collect();
    purchases.sort_by_key(|purchase| {
        Reverse(["sold_at", "channel", "sale_id"].map(|name| text(&purchase[name])))
    });
    purchases.truncate(KEPT);
    json!({"customer": customer, "version": version, "purchases": purchases})
}

/// The lines of one sale, in the order of their texts.
fn purchase(sold: &[&SoldLine]) -> Value {
    let mut lines: Vec<String> = sold
        .iter()
        .map(|line| {
            let (sku, quantity, price) = (json!(line.sku), line.quantity, json!(line.price));
            format!(r#"{{"sku":{sku},"quantity":{quantity},"unit_price_minor":{price}}}"#)
        })
        .collect();
    lines.sort_unstable();
    let lines: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // None as soon as one line has no price.
    let total: Option<i64> = sold.iter().map(|line| Some(line.quantity * line.price?)).sum();
    json!({
        "sold_at": sold.iter().map(|line| &line.sold_at).max(),
        "channel": sold[0].channel,
        "sale_id": sold[0].sale,
        "pieces": sold.iter().map(|line| line.quantity).sum::<i64>(),
        "total_minor": total,
        "lines": lines,
    })
}

/// The messages on the till's topic that make no sense, each by its place.
fn dead(messages: &[OwnedMessage]) -> Vec<Value> {
    let reasons = reasons();
    let mut dead: Vec<(i32, i64, Value)> = Vec::new();
    for message in messages {
        let (key, line) = key_and_text(message);
        if let Some(reason) = reasons.get(&line) {
            let (partition, offset) = (message.partition(), message.offset());
            let letter = json!({
                "partition": partition,
                "offset": offset,
                "reason": reason,
                "message_key": key,
                "line": line,
            });
            dead.push((partition, offset, letter));
        }
    }
    dead.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    dead.into_iter().map(|(_, _, letter)| letter).collect()
}

fn reasons() -> BTreeMap<String, &'static str> {
    nonsense().into_iter().collect()
}

fn key_and_text(message: &OwnedMessage) -> (String, String) {
    let utf8 =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    (utf8(message.key()), utf8(message.payload()))
}

#[track_caller]
fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}
