//! The copy of a view at order-service, mostly on a real Apache Kafka: what another program writes to the topic is there,
//! whatever is killed, comes twice or makes no sense.

use common::clock::{Clock, SystemClock, Timestamp};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::monitoring::{VIEW_BEHIND, exposed_by};
use crate::system::{DEADLINE, PARTITIONS, TestService, TestSystem, on_embedded_and_real, text};
use crate::trust::{ANOTHER_KEY, signature_of};

on_embedded_and_real!(answers_that_can_not_be_written_are_told as "views_unanswered");

/// Customers that are written at once.
const MANY: usize = 40;

/// What a database that came back from a backup of before misses.
const NOTHING_TAKEN: &str = "DELETE FROM customer_purchases; DELETE FROM view_position";

/// What a database loses that goes back under an instance: the later half of each partition.
const GOES_BACK: &str = "
    DELETE FROM customer_purchases WHERE message_offset >= (
        SELECT next_offset / 2 FROM view_position WHERE view_position.partition = customer_purchases.partition);
    UPDATE view_position SET next_offset = next_offset / 2";

/// A view, and who writes to it.
struct View {
    topic: &'static str,
    producer: FutureProducer,
}

impl View {
    fn of(system: &TestSystem) -> Self {
        // Settings of children live as long as the tests.
        let topic = format!("{}-purchases", system.topics.orders()).leak();
        Self { topic, producer: system.topics.producer() }
    }

    fn settings(&self) -> [(&'static str, &'static str); 1] {
        [("STOCKLOOP__VIEWS__PURCHASES_TOPIC", self.topic)]
    }

    async fn write(&self, key: &str, value: Option<&str>) {
        let mut record = FutureRecord::to(self.topic).key(key);
        record.payload = value;
        self.producer.send(record, DEADLINE).await.expect("the broker takes it");
    }

    async fn write_version(&self, customer: &str, version: i64) {
        self.write(customer, Some(&document(customer, version))).await;
    }

    /// As a producer does that waits for an answer to each attempt of its event.
    async fn write_event(&self, id: &str, customer: &str, value: &str) {
        let named = [("ce_id", id), ("ce_source", "/shop"), ("stockloopattempt", "1")];
        let headers = named.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let record = FutureRecord::to(self.topic).key(customer).payload(value).headers(headers);
        self.producer.send(record, DEADLINE).await.expect("the broker takes it");
    }
}

/// What the view says of a customer.
fn document(customer: &str, version: i64) -> String {
    let purchase = json!({
        "sold_at": "2010-12-01T08:26:00.000000Z", "channel": "till", "sale_id": format!("{version}"),
        "pieces": 1, "total_minor": null,
        "lines": [{"sku": "85123A", "quantity": 1, "unit_price_minor": null}],
    });
    json!({"customer": customer, "version": version, "purchases": [purchase]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_what_the_topic_has() {
    let Some(mut system) = TestSystem::real("views").await else { return };
    let view = View::of(&system);
    let unset = system.order.get("/api/v1/customers/A/purchases").await;
    unset.assert_problem(404, "not-found", "");
    shows(&system.order, "A", "keeps no copy of the purchases").await;

    // The topic does not exist yet, which is told, and keeps nothing else from working.
    system.order.restart_with(&view.settings()).await;
    told_missing(&system.order).await;
    system.product.put_product("TEA", 5).await;
    system.wait_until_settled().await;
    system.topics.create(view.topic, PARTITIONS).await;

    for version in 1..=3 {
        view.write_version("A", version).await;
    }
    view.write("B", Some("printer out of paper")).await;
    view.write("B", Some(r#"{"customer":"C","version":1,"purchases":[]}"#)).await;
    view.write_version("B", 1).await;
    view.write_version("C", 1).await;
    has(&system.order, "A", Some(3)).await;
    has(&system.order, "B", Some(1)).await;
    has(&system.order, "C", Some(1)).await;
    shows(&system.order, "A", "Last purchases of A").await;
    view.write("C", None).await;
    has(&system.order, "C", None).await;
    shows(&system.order, "C", "the view has no customer").await;
    is_current(&system.order, view.topic).await;
    assert_dead_letters(&system.order, view.topic).await;
    eventually("how far it is behind to be exposed", DEADLINE, async || {
        let exposed = exposed_by(&system.order).await;
        if exposed.contains(VIEW_BEHIND) { Ok(()) } else { Err(exposed) }
    })
    .await;

    // What was taken before a crash may come again.
    view.write_version("A", 4).await;
    system.order.kill9();
    view.write_version("B", 2).await;
    system.order.start();
    has(&system.order, "A", Some(4)).await;
    has(&system.order, "B", Some(2)).await;
    assert_dead_letters(&system.order, view.topic).await;

    // The group has read all of it; a database that has not reads it again.
    is_current(&system.order, view.topic).await;
    system.order.stop().await;
    system.order.execute(NOTHING_TAKEN).await;
    system.order.start();
    has(&system.order, "A", Some(4)).await;
    has(&system.order, "B", Some(2)).await;
    assert_dead_letters(&system.order, view.topic).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_view() {
    let Some(mut system) = TestSystem::real("views_shared").await else { return };
    let view = View::of(&system);
    system.topics.create(view.topic, PARTITIONS).await;
    system.order.restart_with(&view.settings()).await;
    let mut second = system.second_order();
    let group = format!("{}.views", system.topics.order());
    eventually("both instances to have partitions", 2 * DEADLINE, async || {
        let shares = system.topics.shares(&group);
        match shares.len() == 2 && shares.iter().all(|partitions| *partitions > 0) {
            true => Ok(()),
            false => Err(shares),
        }
    })
    .await;
    for version in 1..=3 {
        for n in 0..MANY {
            view.write_version(&format!("C{n}"), version).await;
        }
        if version == 2 {
            system.order.kill9();
        }
    }
    for n in 0..MANY {
        has(&second, &format!("C{n}"), Some(3)).await;
    }
    is_current(&second, view.topic).await;
    system.order.start();
    has(&system.order, "C0", Some(3)).await;
    second.stop().await;
    for n in 0..MANY {
        view.write_version(&format!("C{n}"), 4).await;
    }
    all_have(&system.order, 4).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_or_a_topic_loses_is_read_again() {
    let Some(mut system) = TestSystem::real("views_lost").await else { return };
    let view = View::of(&system);
    system.topics.create(view.topic, PARTITIONS).await;
    system.order.restart_with(&view.settings()).await;
    for n in 0..MANY {
        view.write_version(&format!("C{n}"), 1).await;
    }
    all_have(&system.order, 1).await;
    is_current(&system.order, view.topic).await;

    // A standby takes over that had not everything, and the instance goes on.
    system.order.execute(GOES_BACK).await;
    all_have(&system.order, 1).await;
    is_current(&system.order, view.topic).await;
    system.order.execute(GOES_BACK).await;
    // The next messages may come before anybody looks.
    for n in 0..MANY / 2 {
        view.write_version(&format!("C{n}"), 2).await;
    }
    for n in 0..MANY {
        let version = if n < MANY / 2 { 2 } else { 1 };
        has(&system.order, &format!("C{n}"), Some(version)).await;
    }

    // A topic that was made anew, and has more by the time that somebody looks.
    is_current(&system.order, view.topic).await;
    system.order.stop().await;
    system.topics.delete(view.topic).await;
    system.topics.create(view.topic, PARTITIONS).await;
    let view = View::of(&system);
    for n in 0..MANY {
        view.write_version(&format!("C{n}"), 5).await;
    }
    for n in 0..MANY {
        view.write_version(&format!("D{n}"), 1).await;
    }
    system.order.start();
    all_have(&system.order, 5).await;
    is_current(&system.order, view.topic).await;
    assert!(system.order.dead_letters().await.is_empty());
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_waits_for_answers_gets_them() {
    let Some(mut system) = TestSystem::real("views_answered").await else { return };
    let view = View::of(&system);
    let acks: &str = format!("{}-acks", view.topic).leak();
    system.topics.create(view.topic, PARTITIONS).await;
    system.topics.create(acks, PARTITIONS).await;
    let [topic] = view.settings();
    let [current, key] = ANOTHER_KEY;
    let settings = [topic, ("STOCKLOOP__VIEWS__PURCHASES_ACK_TOPIC", acks), current, key];
    system.order.restart_with(&settings).await;
    let [good, bad] = [1, 2].map(|number| format!("01936f2e-7c00-7000-8000-{number:012}"));
    // One that nobody asks an answer to, as Flink writes them.
    view.write_version("A", 1).await;
    view.write_event(&good, "A", &document("A", 2)).await;
    view.write_event(&bad, "A", "printer out of paper").await;
    has(&system.order, "A", Some(2)).await;
    let first = [(good.as_str(), "applied"), (bad.as_str(), "FAILED")];
    answered(&system, acks, &first).await;
    for answer in system.topics.all_of(acks) {
        assert!(signature_of(&answer).starts_with(b"v1,k2,"), "signed as all that it sends");
    }

    // It was killed before it could say that they are done: they are answered once more, and change nothing.
    system.order.stop().await;
    system.topics.forget_committed(&format!("{}.views", system.topics.order()), view.topic).await;
    system.order.start();
    let again = [(good.as_str(), "duplicate"), (bad.as_str(), "FAILED")];
    answered(&system, acks, &[first, again].concat()).await;
    has(&system.order, "A", Some(2)).await;
    assert_eq!(system.order.dead_letters().await.len(), 1);
    system.stop().await;
}

/// Their topic does not exist, which nothing but that view waits for.
async fn answers_that_can_not_be_written_are_told(mut system: TestSystem) {
    let view = View::of(&system);
    let acks = format!("{}-acks", view.topic);
    system.create_topic(view.topic).await;
    let settings = format!(
        "\n[views]\npurchases_topic = \"{}\"\npurchases_ack_topic = \"{acks}\"\n",
        view.topic
    );
    system.order.restart_also(&settings).await;
    let [first, second] = [1, 2].map(|number| format!("01936f2e-7c00-7000-8000-{number:012}"));
    view.write_event(&first, "A", &document("A", 1)).await;
    has(&system.order, "A", Some(1)).await;
    let alert = eventually("an alert", DEADLINE, async || {
        unanswered(&system.order).await.ok_or("none yet")
    })
    .await;
    let (subject, error) = (text(&alert["subject"]), text(&alert["error"]));
    assert!(subject.contains(view.topic) && subject.ends_with(&acks), "{alert}");
    assert!(error.starts_with("1 answer waits, tried since 20"), "{alert}");
    assert!(error.contains(&format!(": the topic {acks} does not exist; ")), "{alert}");
    let shown = system.order.get("/api/admin/v1/view").await.ok();
    assert!(text(&shown["unanswered"]).starts_with("1 answer waits"), "{shown}");
    shows_unanswered(&system.order, 1).await;
    system.product.put_product("TEA", 5).await;
    system.wait_until_settled().await;

    system.create_topic(&acks).await;
    view.write_event(&second, "A", &document("A", 2)).await;
    let both = [(first.as_str(), "applied"), (second.as_str(), "applied")];
    answered(&system, &acks, &both).await;
    eventually("the alert to be closed", DEADLINE, async || {
        unanswered(&system.order).await.map_or(Ok(()), Err)
    })
    .await;
    has(&system.order, "A", Some(2)).await;
    shows_unanswered(&system.order, 0).await;
    let told = "SELECT count(*) AS n FROM alert WHERE kind = 'not_answered'";
    assert_eq!(system.order.count(told).await, 1, "once");
    system.stop().await;
}

/// The open alert that says why the view's messages are not answered.
async fn unanswered(order: &TestService) -> Option<Value> {
    let path = "/api/admin/v1/alerts?state=open&kind=not_answered";
    order.get(path).await.ok()["items"].as_array()?.first().cloned()
}

/// Waits until the metric has this value.
async fn shows_unanswered(order: &TestService, value: u8) {
    let line = format!("stockloop_view_unanswered {value}");
    eventually(&line, DEADLINE, async || {
        let text = order.metrics().await;
        if text.lines().any(|one| one == line) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Waits until exactly these are answered by order-service, each by its event and how that went.
async fn answered(system: &TestSystem, topic: &str, expected: &[(&str, &str)]) {
    let mut expected: Vec<_> =
        expected.iter().map(|(id, how)| ((*id).to_owned(), (*how).to_owned())).collect();
    expected.sort_unstable();
    eventually("the answers", 2 * DEADLINE, async || {
        let mut found = Vec::new();
        for ack in system.topics.all_acks_on(topic) {
            assert_eq!(ack["consumer"], system.topics.order(), "{ack}");
            assert_eq!(ack["retryable"], false, "{ack}");
            let how = ack["detail"].as_str().or(ack["outcome"].as_str()).unwrap_or_default();
            found.push((text(&ack["event_id"]), how.to_owned()));
        }
        found.sort_unstable();
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

async fn told_missing(order: &TestService) {
    eventually("the missing topic to be told", 2 * DEADLINE, async || {
        let view = order.get("/api/admin/v1/view").await.ok();
        match view["receiving"]["state"] == "down" {
            true => Ok(()),
            false => Err(view),
        }
    })
    .await;
}

/// Waits until the copy has this version of each of the many customers.
async fn all_have(order: &TestService, version: i64) {
    for n in 0..MANY {
        has(order, &format!("C{n}"), Some(version)).await;
    }
}

/// Waits until the copy has this version of the customer; none: it has none.
async fn has(order: &TestService, customer: &str, version: Option<i64>) {
    let path = format!("/api/v1/customers/{customer}/purchases");
    eventually(&format!("{customer} at {version:?}"), 2 * DEADLINE, async || {
        let answer = order.get(&path).await;
        let found = match answer.status.as_u16() {
            404 => None,
            _ => answer.body["version"].as_i64(),
        };
        if found == version { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// What the operators' page says of the customer.
async fn shows(order: &TestService, customer: &str, words: &str) {
    let page = order.get(&format!("/admin/purchases?customer={customer}")).await;
    assert!(page.body.as_str().is_some_and(|html| html.contains(words)), "{words}: {page:?}");
}

/// Waits until all that is on the topic by now is taken, as a look at it shows.
async fn is_current(order: &TestService, topic: &str) {
    let written = SystemClock.now();
    eventually("the copy to be current", 2 * DEADLINE, async || {
        let view: Value = order.get("/api/admin/v1/view").await.ok();
        let looked: Option<Timestamp> =
            view["checked_at"].as_str().and_then(|looked| looked.parse().ok());
        let is_new = looked.is_some_and(|looked| looked >= written);
        let all = view["partitions"].as_array().map_or(0, Vec::len);
        let is_all = all == usize::try_from(PARTITIONS).unwrap_or(0);
        match is_all && is_new && view["topic"] == topic && view["behind"] == 0 {
            true => Ok(()),
            false => Err(view),
        }
    })
    .await;
}

async fn assert_dead_letters(order: &TestService, topic: &str) {
    let letters = order.dead_letters().await;
    assert_eq!(letters.len(), 2, "each once: {letters:#?}");
    assert!(letters.iter().all(|letter| letter.topic == topic));
    for words in ["no JSON document", "its value is about"] {
        assert!(letters.iter().any(|letter| letter.error.contains(words)), "{letters:#?}");
    }
}
