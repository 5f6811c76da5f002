//! Debezium as the relay, by the recipe in `deploy/debezium`: what it sends is what the service would send, and nothing
//! is lost when it is killed.

use std::collections::BTreeMap;

use rdkafka::message::{Headers, Message, OwnedMessage};
use serde_json::Value;
use stockloop_tests::connect::{self, KafkaConnect};
use stockloop_tests::poll::eventually;
use stockloop_tests::real;

use crate::log::READ;
use crate::system::load::Load;
use crate::system::random::Random;
use crate::system::{DEADLINE, RealParts, TestService, TestSystem, http_client, text};

const BY_TABLE: (&str, &str) = ("STOCKLOOP__OUTBOX__RELAY", "table");
const EXTERNAL: (&str, &str) = ("STOCKLOOP__OUTBOX__RELAY", "external");
const TAKEOVER: (&str, &str) = ("STOCKLOOP__OUTBOX__EXTERNAL_TAKEOVER", "1s");

/// The recipe's connectors.
const OF_PRODUCT: &str = include_str!("../../deploy/debezium/product-service.json");
const OF_ORDER: &str = include_str!("../../deploy/debezium/order-service.json");

/// Channels of the events, by their names in docs/asyncapi.yaml.
const INVENTORY: &str = "inventory";
const ORDERS: &str = "orders";

/// As the recipe has it. The role is the server's, so that another test may have made it.
const ROLE_AND_PUBLICATION: &str = "
    DO $$ BEGIN
        CREATE ROLE debezium REPLICATION LOGIN PASSWORD 'none';
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END $$;
    GRANT SELECT ON outbox_event TO debezium;
    CREATE PUBLICATION stockloop_outbox FOR TABLE outbox_event WITH (publish = 'insert')";

/// Events of which it is not known where they were sent. Nobody observes while both ways send, so what Debezium sent then
/// may be answered before the service has noted its own message.
const UNPLACED: &str = "SELECT count(*) AS n FROM outbox WHERE partition IS NULL AND key <> 'BOTH'";

#[tokio::test(flavor = "multi_thread")]
async fn debezium_sends_what_the_services_would() {
    let Some((mut system, mut connect)) = with_debezium("debezium").await else { return };
    // While one way replaces the other, both send.
    system.product.put_product("BOTH", 5).await;
    let id = system.product.newest_event("BOTH").await;
    assert_goes_both_ways(&system, INVENTORY, &id).await;
    system.wait_until_settled().await;
    let (_, id) = place_order(&system).await;
    assert_goes_both_ways(&system, ORDERS, &id).await;

    system.product.restart_with(&[EXTERNAL]).await;
    system.order.restart_with(&[EXTERNAL]).await;
    system.wait_until_settled().await;
    let (order, id) = place_order(&system).await;
    system.wait_until_settled().await;
    let order = system.order.get(&format!("/api/v1/orders/{order}")).await.ok();
    assert_eq!(order["status"], "CONFIRMED", "{order}");
    let sent = first_attempts(&system, ORDERS, &id);
    assert_eq!(sent.len(), 1, "by Debezium alone");

    // What nobody answers stays SENT.
    system.order.stop().await;
    system.product.put_product("SENT", 5).await;
    let id = system.product.newest_event("SENT").await;
    eventually("the event to be SENT where it lies", DEADLINE, async || {
        let sent = first_attempts(&system, INVENTORY, &id);
        let [message] = sent.as_slice() else { return Err(format!("{} messages", sent.len())) };
        // Probes lie behind it; where one is noted, it is the place of the event from then on.
        let place = format!(
            "SELECT count(*) AS n FROM outbox_sent WHERE partition = {} AND sent_offset >= {}",
            message.partition(),
            message.offset()
        );
        match system.product.count(&place).await {
            1 => Ok(()),
            n => Err(format!("{n} rows")),
        }
    })
    .await;
    system.order.start();
    system.wait_until_settled().await;

    connect.kill9();
    system.product.restart_with(&[EXTERNAL, TAKEOVER]).await;
    system.product.put_product("LATE", 5).await;
    system.wait_until_settled().await;
    let id = system.product.newest_event("LATE").await;
    assert_eq!(first_attempts(&system, INVENTORY, &id).len(), 1, "the service took over");
    connect.start_again().expect("it starts again");
    eventually("Debezium to send it, too", 2 * DEADLINE, async || {
        match first_attempts(&system, INVENTORY, &id).len() {
            2 => Ok(()),
            n => Err((n, connect.log_tail())),
        }
    })
    .await;
    assert_all_is_well(&system).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_is_killed_loses_nothing() {
    let Some((mut system, mut connect)) = with_debezium("debezium_killed").await else { return };
    system.product.restart_with(&[EXTERNAL]).await;
    let (mut random, base) = (Random::new(), system.product.base_url.clone());
    let mut load = Load::start(&mut random, &system.product, &[base], 40, 2_000).await;
    load.reached(700).await;
    connect.kill9();
    let error = eventually("an alert", DEADLINE, async || {
        let page = not_sent(&system.product).await;
        page["items"][0]["error"].as_str().map(str::to_owned).ok_or(page)
    })
    .await;
    assert!(error.contains("external relay"), "{error}");
    connect.start_again().expect("it starts again");
    wait_until_it_reads(&system.product, &connect).await;
    load.assert_all_arrived(&system).await;
    eventually("the alert to be closed", DEADLINE, async || {
        let page = not_sent(&system.product).await;
        if page["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(page) }
    })
    .await;
    assert_all_is_well(&system).await;
    // And back: what nobody sent is the service's again.
    connect.kill9();
    system.product.put_product("AFTERWARDS", 1).await;
    system.product.restart_with(&[BY_TABLE]).await;
    system.wait_until_settled().await;
    system.assert_equal_at_rest().await;
    system.stop().await;
}

/// Both services with their own relays still, and one Kafka Connect beside them, which reads what either commits from now on.
async fn with_debezium(name: &str) -> Option<(TestSystem, KafkaConnect)> {
    let debezium = real::debezium()?;
    let parts = RealParts::shared(name)?;
    let brokers = parts.kafka.brokers();
    let mut system = TestSystem::prepared(name, parts).await;
    let mut connectors = Vec::new();
    let TestSystem { product, order, topics, .. } = &mut system;
    let services = [
        (product, OF_PRODUCT, topics.product(), topics.events()),
        (order, OF_ORDER, topics.order(), topics.orders()),
    ];
    for (service, recipe, source, topic) in services {
        service.restart_with(&[BY_TABLE]).await;
        service.execute(ROLE_AND_PUBLICATION).await;
        let slot = format!("stockloop_{name}_{}", connectors.len());
        connectors.push(connector(recipe, service.database_url(), &slot, source, topic));
    }
    let connect = debezium.start(&brokers, &connectors).expect("Kafka Connect starts");
    for service in [&system.product, &system.order] {
        wait_until_it_reads(service, &connect).await;
    }
    Some((system, connect))
}

/// The recipe's connector for the database at this URL, of which `source` is the service and `topic` the topic.
fn connector(recipe: &str, url: &str, slot: &str, source: &str, topic: &str) -> Value {
    let (server, database) = url.rsplit_once('/').expect("a URL of a database");
    let (_, port) = server.rsplit_once(':').expect("a URL with a port");
    let named = format!("/{source}");
    let settings = [
        ("database.port", port),
        ("database.dbname", database),
        ("topic.prefix", source),
        ("slot.name", slot),
        ("predicates.event.pattern", topic),
        ("transforms.outbox.route.topic.replacement", topic),
        ("transforms.source.value.literal", named.as_str()),
    ];
    connect::connector(recipe, &settings).expect("a connector of the recipe")
}

async fn wait_until_it_reads(service: &TestService, connect: &KafkaConnect) {
    eventually("Debezium to read the log", 2 * DEADLINE, async || {
        match service.count(READ).await {
            1 => Ok(()),
            n => Err((n, status(connect).await, connect.log_tail())),
        }
    })
    .await;
}

/// An order of the product that goes both ways, and the id of its event.
async fn place_order(system: &TestSystem) -> (String, String) {
    let order = text(&system.order.place_order("BOTH", 1).await["id"]);
    let event = system.order.newest_event(&order).await;
    (order, event)
}

/// What Connect says of its connectors.
async fn status(connect: &KafkaConnect) -> String {
    let url = format!("{}/connectors?expand=status", connect.url());
    match http_client(0).get(url).send().await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

/// The open alerts that events are not sent.
async fn not_sent(product: &TestService) -> Value {
    product.get("/api/admin/v1/alerts?state=open&kind=not_sent").await.ok()
}

/// The messages of an event's first attempt, of what goes through this channel.
fn first_attempts(system: &TestSystem, channel: &str, id: &str) -> Vec<OwnedMessage> {
    let is_it = |message: &OwnedMessage| {
        let headers = headers(message);
        headers["ce_id"] == id && headers["stockloopattempt"] == "1"
    };
    let events = system.topics.all().into_iter().filter(|(of, _)| *of == channel);
    events.map(|(_, message)| message).filter(is_it).collect()
}

/// Waits until both ways have sent the event, and holds what they sent against each other.
async fn assert_goes_both_ways(system: &TestSystem, channel: &str, id: &str) {
    let [one, other] = eventually("the same event by both ways", DEADLINE, async || {
        let sent = first_attempts(system, channel, id);
        <[OwnedMessage; 2]>::try_from(sent).map_err(|sent| sent.len())
    })
    .await;
    assert_same(&one, &other);
}

fn headers(message: &OwnedMessage) -> BTreeMap<String, String> {
    let headers = message.headers().expect("each event has headers").iter();
    headers
        .map(|header| {
            let value = String::from_utf8_lossy(header.value.unwrap_or_default());
            (header.key.to_owned(), value.into_owned())
        })
        .collect()
}

/// The same message to the same place, but for the trace, and for a time that ends at milliseconds in one of them.
fn assert_same(one: &OwnedMessage, other: &OwnedMessage) {
    assert_eq!((one.partition(), one.key()), (other.partition(), other.key()));
    assert_eq!(one.payload(), other.payload());
    let (mut one, mut other) = (headers(one), headers(other));
    // Without a trace, the one leaves it out, and the other has it without a value.
    for headers in [&mut one, &mut other] {
        headers.remove("traceparent");
    }
    let time = |headers: &mut BTreeMap<String, String>| {
        let time = headers.remove("ce_time").expect("each event has a time");
        time.strip_suffix('Z').expect("it is UTC").to_owned()
    };
    let mut times = [time(&mut one), time(&mut other)];
    times.sort_by_key(String::len);
    assert!(times[1].starts_with(&times[0]) && times[0] != times[1], "{times:?}");
    assert_eq!(one, other);
}

/// Each event is PROCESSED and known to have been sent, the copy equals its source, and no message was unreadable.
async fn assert_all_is_well(system: &TestSystem) {
    system.wait_until_settled().await;
    system.assert_equal_at_rest().await;
    // An answer may come before its message was seen.
    eventually("each event's place", DEADLINE, async || {
        match system.product.count(UNPLACED).await {
            0 => Ok(()),
            n => {
                let page = system.product.get("/api/admin/v1/events?limit=20").await.ok();
                Err((n, page["items"].clone()))
            }
        }
    })
    .await;
    for service in [&system.product, &system.order] {
        assert_eq!(service.dead_letters().await, [], "nothing was unreadable");
    }
}
