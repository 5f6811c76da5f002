//! The views of `deploy/flink` on real parts: what they say is what the services and the till say, row by row, and
//! Flink loses and doubles nothing when it is killed. A channel can be switched off and on, and another one added.

mod expected;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use stockloop_tests::flink::FlinkViews;
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually;
use stockloop_tests::program::Program;
use stockloop_tests::real;

use self::expected::{Expected, calls, nonsense, sorted};
use crate::asyncapi::views::assert_described;
use crate::system::topics::Topics;
use crate::system::{DEADLINE, PARTITIONS, RealParts, TestSystem, text};

/// Far more than it takes, since Flink has two cores and shares them; what is current sooner ends the wait sooner.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the till sells.
const SALES: &str = "../data/online_retail_2010-12.csv.gz";

/// The customer with the most invoices among the first of these lines.
const CUSTOMER: &str = "17850";

/// Who buys by phone only.
const CALLER: &str = "C-1003";

/// The jobs by their files.
const ALL: &[&str] = &["inventory.sql", "sales.sql", "till.sql", "purchases.sql"];
const ALL_BUT_THE_TILL: &[&str] = &["inventory.sql", "sales.sql", "purchases.sql"];
const TILL: &str = "till.sql";
const PHONE: &str = "phone.sql";

const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact")];

#[tokio::test(flavor = "multi_thread")]
async fn the_views_say_what_the_services_and_the_till_say() {
    let Some(mut shop) = Shop::open("flink").await else { return };
    shop.put_products().await;
    let kept = shop.order(CUSTOMER, &[("TEA", 2), ("MUG", 1)]).await;
    let taken_back = shop.order(CUSTOMER, &[("TEA", 1)]).await;
    let only = shop.order("C-1001", &[("MUG", 3)]).await;
    shop.refuse_an_order().await;
    shop.cancel(&taken_back).await;
    shop.play_till(400);
    shop.write_nonsense().await;
    shop.flink.start(ALL).expect("Flink starts");
    shop.assert_current().await;
    shop.wait_for_checkpoints().await;

    // Lines of which some come again, in the middle of which Flink is killed.
    let sold = shop.view("sales").len();
    shop.play_till(700);
    eventually("more lines to be sold", PATIENCE, async || {
        shop.flink.check().expect("it runs");
        let now = shop.view("sales").len();
        if now > sold { Ok(()) } else { Err((now, shop.flink.log_tail())) }
    })
    .await;
    shop.flink.kill9();
    shop.write_nonsense().await;
    shop.system.product.adjust("TEA", 5).await;
    shop.cancel(&kept).await;
    shop.cancel(&only).await;
    assert_eq!(shop.system.product.delete("/api/v1/inventory/MUG").await.status, 204);
    shop.order("C-1002", &[("TEA", 1)]).await;
    shop.flink.start(ALL_BUT_THE_TILL).expect("Flink starts again");
    shop.flink.start(&[TILL]).expect("the till's job starts again, in a process of its own");
    assert!(shop.flink.from_the_beginning().is_empty(), "{}", shop.flink.log_tail());
    let expected = shop.assert_current().await;

    // It was worth comparing.
    let cancelled = expected.sales.iter().filter(|line| line["cancelled"] == true).count();
    assert_eq!(cancelled, 4, "the lines of three orders");
    let unnamed = |line: &Value| line["channel"] == "till" && line["customer"].is_null();
    assert!(expected.sales.iter().any(unnamed), "some customers of the till have no name");
    let purchases = |customer: &str| expected.purchases[customer]["purchases"].as_array();
    assert_eq!(purchases(CUSTOMER).map(Vec::len), Some(5), "the last ones of many");
    assert_eq!(purchases("C-1001").map(Vec::len), Some(0), "all is cancelled");
    assert_eq!(expected.dead.len(), 2 * nonsense().len());
    assert!(expected.stock.values().any(|product| product["quantity"] == json!(-3)));
    assert!(!expected.stock.contains_key("MUG") && expected.stock.len() == 3);

    // Before there is a channel that no document knows.
    shop.assert_described();
    let off = switch_off_the_till(&mut shop).await;
    switch_it_on_beside_the_phone(&mut shop, &off).await;
    shop.close().await;
}

/// The till sells on, but what it sells is in no view; nothing else notices. Returns what the views say then.
async fn switch_off_the_till(shop: &mut Shop) -> Expected {
    shop.flink.stop(TILL).expect("the till's job stops");
    let sold_before = shop.messages("till");
    shop.play_till(900);
    shop.write_nonsense().await;
    let order = shop.order(CUSTOMER, &[("TEA", 2)]).await;
    let off = shop.assert_current_with(&sold_before).await;
    assert_eq!(off.purchases[CUSTOMER]["purchases"][0]["sale_id"], order, "the newest");
    off
}

/// What the till sold meanwhile counts now, and once, and so does what is sold in the channel that the README adds.
async fn switch_it_on_beside_the_phone(shop: &mut Shop, off: &Expected) {
    shop.take_calls().await;
    shop.flink.start(&[TILL, PHONE]).expect("the till's job starts again, and one more");
    assert_eq!(shop.flink.from_the_beginning(), [PHONE], "{}", shop.flink.log_tail());
    let on = shop.assert_current().await;

    // It was worth comparing.
    assert!(on.sold("till") > off.sold("till"), "the till sold more");
    assert_eq!(on.dead.len(), off.dead.len() + nonsense().len());
    assert_eq!((off.sold("phone"), on.sold("phone")), (0, 3), "of four calls, two are the same");
    assert_eq!(on.purchases[CALLER]["purchases"][0]["total_minor"], 3 * 355);
    let channel = |place: usize| &on.purchases[CUSTOMER]["purchases"][place]["channel"];
    assert_eq!([channel(0), channel(1), channel(2)], ["web", "phone", "till"]);
}

/// Both services, a till, and Flink, which is dropped before what it reads.
struct Shop {
    flink: FlinkViews,
    producer: FutureProducer,
    system: TestSystem,
    brokers: String,
    /// What the names of its topics begin with.
    prefix: String,
    /// All that were placed.
    orders: Vec<String>,
}

impl Shop {
    async fn open(name: &str) -> Option<Self> {
        let flink = real::flink()?;
        let parts = RealParts::shared(name)?;
        let kafka = parts.kafka;
        let mut system = TestSystem::prepared(name, parts).await;
        let prefix = system.topics.events().trim_end_matches("inventory").to_owned();
        make_topics(kafka, &prefix).await;
        let changes = changes(&system.topics, &prefix);
        let flink = flink.views(&kafka.brokers(), &changes).expect("the views can be prepared");
        system.start_both();
        let (producer, brokers) = (system.topics.producer(), kafka.brokers());
        Some(Self { flink, producer, system, brokers, prefix, orders: Vec::new() })
    }

    async fn close(self) {
        drop(self.flink);
        self.system.stop().await;
    }

    /// Four products: one is sold beyond its stock, one has been removed and put in again.
    async fn put_products(&self) {
        let product = &self.system.product;
        for sku in ["TEA", "MUG", "JAM"] {
            product.put_product(sku, 12).await;
        }
        let owed = json!({
            "description": "Owed", "quantity": 2, "unit_price_minor": 100, "allow_backorder": true,
        });
        product.put("/api/v1/inventory/OWED", owed).await.ok();
        product.adjust("OWED", -5).await;
        assert_eq!(product.delete("/api/v1/inventory/JAM").await.status, 204);
        product.put_product("JAM", 7).await;
        self.system.wait_until_settled().await;
    }

    /// Places an order, and waits until the stock is taken.
    async fn order(&mut self, customer: &str, lines: &[(&str, i64)]) -> String {
        let id = self.place(customer, lines).await;
        self.system.order.wait_for_order(&id, "CONFIRMED").await;
        id
    }

    async fn place(&mut self, customer: &str, lines: &[(&str, i64)]) -> String {
        let line = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
        let lines: Vec<Value> = lines.iter().map(line).collect();
        let order = json!({"customer": customer, "lines": lines});
        let id = text(&self.system.order.post("/api/v1/orders", order).await.ok()["id"]);
        self.orders.push(id.clone());
        id
    }

    /// An order for what the copy still has, and its owner no longer.
    async fn refuse_an_order(&mut self) {
        self.system.order.quarantine("JAM", "so that its copy is old").await;
        self.system.product.adjust("JAM", -7).await;
        let id = self.place(CUSTOMER, &[("JAM", 5)]).await;
        self.system.order.wait_for_order(&id, "REJECTED").await;
        let event = text(&self.system.product.wait_for_exhausted_key("JAM").await["id"]);
        self.system.order.release("JAM").await;
        let retry = format!("/api/admin/v1/events/{event}/retry");
        self.system.product.post(&retry, json!({})).await.ok();
        self.system.wait_until_settled().await;
    }

    async fn cancel(&self, id: &str) {
        let path = format!("/api/v1/orders/{id}/cancel");
        self.system.order.post(&path, json!({"reason": "changed their mind"})).await.ok();
        self.system.order.wait_for_order(id, "CANCELLED").await;
        self.system.wait_until_settled().await;
    }

    /// Sells the first lines of a month.
    fn play_till(&self, lines: u32) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(SALES);
        let (file, limit, topic) =
            (file.display().to_string(), lines.to_string(), self.topic("till"));
        let args =
            ["till", &file, "--brokers", &self.brokers, "--topic", &topic, "--limit", &limit];
        let said = tokio::task::block_in_place(|| Program::built("stockloop").output(&args, &[]));
        assert!(said.contains(&format!("{lines} lines")), "{said}");
    }

    /// Writes to the till's topic what makes no sense.
    async fn write_nonsense(&self) {
        for (line, _) in nonsense() {
            self.write("till", "536365", &line).await;
        }
    }

    /// Sells by phone, also to the customer who buys in the other channels.
    async fn take_calls(&self) {
        for line in calls(CALLER, CUSTOMER) {
            self.write("phone", "P", &line).await;
        }
    }

    async fn write(&self, topic: &str, key: &str, line: &str) {
        let topic = self.topic(topic);
        let record = FutureRecord::to(&topic).key(key).payload(line);
        self.producer.send(record, DEADLINE).await.expect("the broker takes anything");
    }

    async fn wait_for_checkpoints(&mut self) {
        eventually("a checkpoint of each job", PATIENCE, async || {
            self.flink.check().expect("it runs");
            let missing = self.flink.without_checkpoint();
            if missing.is_empty() { Ok(()) } else { Err((missing, self.flink.log_tail())) }
        })
        .await;
    }

    /// Waits until all views are what they have to be, and returns that.
    async fn assert_current(&mut self) -> Expected {
        let till = self.messages("till");
        self.assert_current_with(&till).await
    }

    /// The same where the till has sold only this.
    async fn assert_current_with(&mut self, till: &[OwnedMessage]) -> Expected {
        self.system.wait_until_settled().await;
        let phone = self.messages("phone");
        let expected = Expected::of(&self.system, &self.orders, till, &phone).await;
        eventually("the views to be current", PATIENCE, async || {
            self.flink.check().expect("it runs");
            let differences = self.differences(&expected);
            if differences.is_empty() { Ok(()) } else { Err((differences, self.flink.log_tail())) }
        })
        .await;
        expected
    }

    /// That the messages are what docs/asyncapi.yaml says of them.
    fn assert_described(&self) {
        for (channel, name) in [
            ("tillDeadLetters", "till-dead"),
            ("sales", "sales"),
            ("stockValue", "stock-value"),
            ("purchases", "purchases"),
        ] {
            assert_described(channel, &self.system.topics.all_of(&self.topic(name)));
        }
    }

    /// What one of the views says and should not, or does not say and should.
    fn differences(&self, expected: &Expected) -> Vec<String> {
        let dead = self.dead_letters();
        if dead != expected.dead {
            return vec![format!("dead letters: {dead:?} instead of {:?}", expected.dead)];
        }
        let sales = self.sales();
        if sales != expected.sales {
            return differing_rows(&expected.sales, &sales);
        }
        let mut stock = self.view("stock-value");
        for product in stock.values_mut() {
            let epoch = product.as_object_mut().and_then(|fields| fields.remove("epoch"));
            assert!(epoch.is_some_and(|epoch| epoch.is_i64()), "{product}");
        }
        let stale = differing(&expected.stock, &stock);
        if !stale.is_empty() {
            return stale;
        }
        differing(&expected.purchases, &self.view("purchases"))
    }

    /// The lines of all sales, [`sorted`]; those of the till without their `line_id`, which is a hash.
    fn sales(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        for (key, mut row) in self.view("sales") {
            let key: Value = serde_json::from_str(&key).expect("the keys are JSON");
            for name in ["channel", "sale_id", "line_id"] {
                assert!(key[name].is_string() && key[name] == row[name], "{key} names not {row}");
            }
            let is_till = row["channel"] == "till";
            if let (true, Some(fields)) = (is_till, row.as_object_mut()) {
                fields.remove("line_id");
            }
            rows.push(row);
        }
        sorted(rows)
    }

    /// In the order of partition and offset.
    fn dead_letters(&self) -> Vec<Value> {
        let mut dead: Vec<Value> = self.view("till-dead").into_values().collect();
        dead.sort_by_key(|letter| (letter["partition"].as_i64(), letter["offset"].as_i64()));
        dead
    }

    /// The last value of each key on a topic of the views.
    fn view(&self, name: &str) -> BTreeMap<String, Value> {
        let mut rows = BTreeMap::new();
        for message in self.messages(name) {
            let key = key(&message);
            match message.payload() {
                None => drop(rows.remove(&key)),
                Some(value) => {
                    rows.insert(key, serde_json::from_slice(value).expect("the views are JSON"));
                }
            }
        }
        rows
    }

    /// All that is on a topic of the views now.
    fn messages(&self, name: &str) -> Vec<OwnedMessage> {
        self.system.topics.all_of(&self.topic(name))
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

async fn make_topics(kafka: &KafkaBroker, prefix: &str) {
    let name = |name: &str| format!("{prefix}{name}");
    for view in ["sales", "stock-value", "purchases"] {
        let made = kafka.create_topic_with(&name(view), PARTITIONS, COMPACTED).await;
        made.expect("a topic can be made");
    }
    let others = ["till", "till-dead", "phone"].map(name);
    let made = kafka.create_topics(&others.each_ref().map(String::as_str), PARTITIONS).await;
    made.expect("topics can be made");
}

/// The recipe names the topics and services of a shop that has its broker for itself; here each test has its own. And
/// checkpoints come often, so that nobody waits for one.
fn changes(topics: &Topics, prefix: &str) -> Vec<(&'static str, String)> {
    let quoted = |name: &str| format!("'{name}'");
    let own = |name: &str| format!("'{prefix}{name}'");
    vec![
        ("'stockloop.inventory.v1'", quoted(topics.events())),
        ("'stockloop.orders.v1'", quoted(topics.orders())),
        ("'stockloop.orders.acks.v1'", quoted(topics.order_acks())),
        ("'product-service'", quoted(topics.product())),
        ("'till.sales.v1'", own("till")),
        ("'till.sales.dead.v1'", own("till-dead")),
        ("'phone.sales.v1'", own("phone")),
        ("'stockloop.sales.v1'", own("sales")),
        ("'stockloop.views.stock_value.v1'", own("stock-value")),
        ("'stockloop.views.purchases.v1'", own("purchases")),
        ("'10 s'", quoted("1 s")),
    ]
}

fn key(message: &OwnedMessage) -> String {
    String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned()
}

/// The first rows of two sorted lists that differ, and how many rows there are of each.
fn differing_rows(expected: &[Value], found: &[Value]) -> Vec<String> {
    let same = expected.iter().zip(found).take_while(|(expected, found)| expected == found).count();
    let (wanted, got) = (expected.get(same), found.get(same));
    let counts = format!("{} sales instead of {}", found.len(), expected.len());
    vec![counts, format!("{got:?} instead of {wanted:?}")]
}

/// The keys whose values differ, with both, the first ones.
fn differing(expected: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) -> Vec<String> {
    let mut keys: Vec<&String> = expected.keys().chain(found.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| expected.get(*key) != found.get(*key));
    let shown = differing.take(3);
    shown
        .map(|key| format!("{key}: {:?} instead of {:?}", found.get(key), expected.get(key)))
        .collect()
}
