//! What is wrong on the broker's side is told, by its name, and stops nothing that it does not concern.

use std::collections::BTreeSet;
use std::time::Duration;

use common::config::{KafkaSettings, Settings};
use common::telemetry::BrokerState;
use common::view_topics::{FEEDS, SALES, TABLES};
use engine::kafka::{TopicUse, TopicWatch, ensure_topics};
use engine::outbox::{partition_of, shard_of};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually;
use stockloop_tests::program::Program;
use stockloop_tests::real;

use crate::system::{DEADLINE, PARTITIONS, RealParts, TestService, TestSystem};

/// A topic that goes while it is read, and comes back in another shape, is told by the reader and by the writer, each
/// for as long as it lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_away_and_comes_back_too_small() {
    let Some(system) = TestSystem::real("topic_away").await else { return };
    system.product.put_product("TEA", 5).await;
    system.wait_until_settled().await;
    wait_until_all_receive(&system.product).await;
    let topic = system.topics.orders().to_owned();
    system.topics.delete(&topic).await;

    let alert = open_alert(&system.product, "not_received").await;
    let error = alert["error"].as_str().expect("a cause");
    assert!(error.contains(&topic) && error.contains("does not exist"), "{alert}");
    let ready = system.product.get("/health/ready").await.ok();
    let inbox = named(&ready["consumers"], "consumer", "inbox");
    assert_eq!((&ready["status"], &inbox["state"]), (&"ready".into(), &"down".into()), "{ready}");
    let acks = named(&ready["consumers"], "consumer", "acks");
    assert_eq!(acks["state"], "up", "the other one receives: {ready}");
    let relay = system.product.get("/api/admin/v1/relay").await.ok();
    let inbox = named(&relay["receiving"], "consumer", "inbox");
    let advice = inbox["advice"].as_str().expect("advice");
    assert!(inbox["topic"] == *topic && advice.contains("make it"), "{relay}");
    assert_eq!(consumer_up(&system.product, "inbox").await, "0");
    let alert = open_alert(&system.order, "topic_shape").await;
    assert!(
        alert["error"].as_str().is_some_and(|error| error.contains("does not exist")),
        "{alert}"
    );

    system.topics.create(&topic, 1).await;
    wait_until_all_receive(&system.product).await;
    wait_until_closed(&system.product, "not_received").await;
    assert_eq!(consumer_up(&system.product, "inbox").await, "1");
    eventually("the topic's shape to be told", DEADLINE, async || {
        let relay = system.order.get("/api/admin/v1/relay").await.ok();
        let shape = named(&relay["topics"], "topic", &topic);
        let told = shape["faults"][0].as_str().unwrap_or_default().to_owned();
        if told.contains("1 partition,") && told.contains("says 4") { Ok(()) } else { Err(relay) }
    })
    .await;
    let open = "SELECT count(*) AS n FROM alert WHERE kind = 'topic_shape' AND closed_us IS NULL";
    assert_eq!(system.order.count(open).await, 1, "one alert, whatever does not fit");
    system.topics.grow(&topic, usize::try_from(PARTITIONS).expect("few")).await;
    wait_until_closed(&system.order, "topic_shape").await;

    system.order.place_order("TEA", 2).await;
    system.wait_until_settled().await;
    system.assert_nothing_gave_up().await;
    for service in [&system.product, &system.order] {
        let told = "SELECT count(*) AS n FROM alert WHERE kind IN ('not_received', 'topic_shape')";
        assert_eq!(service.count(told).await, 1, "each told it once");
    }
    system.stop().await;
}

/// Answers go to other partitions of the ack topic than those that have no leader.
#[tokio::test(flavor = "multi_thread")]
async fn answers_go_round_partitions_without_a_leader() {
    let Some(parts) = RealParts::shared("leaderless") else { return };
    let Some(mut kafka) = real::available("Kafka", KafkaBroker::start_private()) else { return };
    let Some(mut second) = real::available("Kafka", kafka.join()) else { return };
    let system = TestSystem::on("leaderless", RealParts { kafka: &kafka, ..parts }).await;
    for n in 0..8 {
        system.product.put_product(&format!("BEFORE-{n}"), 1).await;
    }
    system.wait_until_settled().await;
    second.kill9();
    let (events, acks) = (system.topics.events(), system.topics.acks());
    let led = eventually("the controller to miss the broker", DEADLINE, async || {
        let (events, acks) = (system.topics.led(events), system.topics.led(acks));
        if events.len() + acks.len() == 4 { Ok((events, acks)) } else { Err((events, acks)) }
    })
    .await;
    let [even, odd] = [0, 1].map(|first| BTreeSet::from([first, first + 2]));
    assert_eq!(led, (even.clone(), odd), "each partition of events had the answers' of its number");

    let skus: Vec<String> = (0..32).map(|n| format!("AFTER-{n:02}")).collect();
    for sku in &skus {
        system.product.put_product(sku, 1).await;
    }
    let is_led = |sku: &&String| even.contains(&partition_of(shard_of(sku), PARTITIONS));
    let reachable = i64::try_from(skus.iter().filter(is_led).count()).expect("few");
    assert!((1..32).contains(&reachable), "{reachable}");
    eventually("all that can be sent to be answered", DEADLINE, async || {
        let processed = "SELECT count(*) AS n FROM outbox_settled s JOIN outbox_event e ON e.id = s.id \
                         WHERE e.key LIKE 'AFTER-%'";
        match system.product.count(processed).await {
            n if n == reachable => Ok(()),
            n => Err(format!("{n} of {reachable}")),
        }
    })
    .await;

    second.start_again().expect("it starts");
    system.wait_until_settled().await;
    system.assert_nothing_gave_up().await;
    system.assert_equal_at_rest().await;
    system.stop().await;
}

/// A broker that makes topics by itself makes none for who only looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_looked_at_is_not_made() {
    let started = KafkaBroker::start_with(&["auto.create.topics.enable=true"]);
    let Some(kafka) = real::available("Kafka", started) else { return };
    let [missing, made] =
        ["missing", "made"].map(|name| format!("{}{name}", kafka.topic_prefix("looked_at")));
    let settings = KafkaSettings { outbound_topic: missing.clone(), ..on_one(&kafka) };
    let topics = [&missing, &made].map(|topic| (topic.clone(), TopicUse::Events)).to_vec();
    let watch = TopicWatch::new(&settings, topics, Duration::from_secs(30)).expect("it is made");
    let look = async || {
        let found = watch.look().await.expect("the broker answers");
        found.iter().map(|look| look.report.partitions).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        assert_eq!(look().await, [0, 0]);
    }
    // What the looks had asked for would be there before what is asked for now.
    kafka.create_topic(&made, 1).await.expect("a topic can be made");
    assert_eq!(look().await, [0, 1]);
}

/// A topic that is made has what the settings say; one that is altered since is told of.
#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_as_the_settings_say() {
    let started = KafkaBroker::start_with(&[
        "log.retention.ms=60000",
        "log.retention.bytes=1000000",
        "min.insync.replicas=2",
    ]);
    let Some(kafka) = real::available("Kafka", started) else { return };
    let topic = format!("{}made", kafka.topic_prefix("made_so"));
    let settings = KafkaSettings {
        min_insync_replicas: 1,
        retention: Duration::from_secs(86_400),
        ..on_one(&kafka)
    };
    let told = async |settings: &KafkaSettings| {
        let topics = vec![(topic.clone(), TopicUse::Events)];
        let watch = TopicWatch::new(settings, topics, Duration::from_secs(30)).expect("it is made");
        watch.look().await.expect("the broker answers").remove(0).report.faults
    };
    ensure_topics(&settings, &[&topic], BrokerState::default()).await.expect("it is made");
    assert_eq!(told(&settings).await, [""; 0], "its broker keeps messages for a minute by default");
    let longer = KafkaSettings { retention: Duration::from_secs(7 * 86_400), ..settings.clone() };
    ensure_topics(&longer, &[&topic], BrokerState::default()).await.expect("it is there");
    let faults = told(&longer).await;
    assert!(matches!(&*faults, [one] if one.contains("for 24h only")), "never altered: {faults:?}");
    let safer = KafkaSettings { min_insync_replicas: 2, ..settings };
    let faults = told(&safer).await;
    assert!(matches!(&*faults, [one] if one.contains("min_insync_replicas says 2")), "{faults:?}");
}

/// Those of the views and of the till, which are no service's.
#[tokio::test(flavor = "multi_thread")]
async fn the_topics_of_views_are_made_and_looked_at() {
    let started = KafkaBroker::start_with(&["log.retention.ms=60000"]);
    let Some(kafka) = real::available("Kafka", started) else { return };
    // As a broker that makes topics by itself would.
    kafka.create_topics(&[SALES], 4).await.expect("a topic can be made");
    let run = async || {
        let brokers = kafka.brokers();
        let run = move || Program::built("stockloop").run(&["topics", "--brokers", &brokers], &[]);
        tokio::task::spawn_blocking(run).await.expect("it runs")
    };
    let first = run().await;
    assert_eq!(first.code, Some(1), "{first:?}");
    assert_eq!(first.stdout.matches(": made\n").count(), 4, "{first:?}");
    eventually("the broker to tell of them", DEADLINE, async || {
        let again = run().await;
        let lines = again.stdout.lines();
        let (fit, others): (Vec<&str>, Vec<&str>) =
            lines.partition(|line| line.ends_with(": fits"));
        match others[..] {
            [sales] if fit.len() == 4 && sales.contains("set it to compact") => Ok(()),
            _ => Err(again),
        }
    })
    .await;
    for topic in FEEDS.into_iter().chain(TABLES) {
        // What was there before stays as it was.
        let is_compacted = TABLES.contains(&topic) && topic != SALES;
        let policy = if is_compacted { "compact" } else { "delete" };
        assert_eq!(shape_of(&kafka, topic).await, (4, policy.to_owned()), "{topic}");
    }
}

/// A topic as its broker has it: how many partitions, and what becomes of old messages.
async fn shape_of(kafka: &KafkaBroker, topic: &str) -> (usize, String) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers());
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client can be made");
    let metadata = admin.inner().fetch_metadata(Some(topic), DEADLINE).expect("it answers");
    let partitions = metadata.topics().iter().map(|found| found.partitions().len()).sum();
    let asked = [ResourceSpecifier::Topic(topic)];
    let described = admin.describe_configs(&asked, &AdminOptions::new()).await;
    let settings = described.expect("it answers").remove(0).expect("the topic is there");
    let policy = settings.get("cleanup.policy").and_then(|entry| entry.value.clone());
    (partitions, policy.expect("a topic has one"))
}

/// The defaults, on one broker.
fn on_one(kafka: &KafkaBroker) -> KafkaSettings {
    let defaults = product_service::SERVICE.defaults;
    let settings = Settings::load(defaults, None).expect("defaults are settings").kafka;
    KafkaSettings { brokers: kafka.brokers(), partitions: 1, replication: 1, ..settings }
}

/// The one of `list` whose `field` is `value`; null if there is none.
fn named(list: &Value, field: &str, value: &str) -> Value {
    let found = list.as_array().and_then(|all| all.iter().find(|one| one[field] == value));
    found.cloned().unwrap_or_default()
}

async fn wait_until_all_receive(service: &TestService) {
    eventually("both consumers to be up", DEADLINE, async || {
        let ready = service.get("/health/ready").await.ok();
        let is_up = |consumer| named(&ready["consumers"], "consumer", consumer)["state"] == "up";
        if is_up("inbox") && is_up("acks") { Ok(()) } else { Err(ready) }
    })
    .await;
}

async fn open_alert(service: &TestService, kind: &str) -> Value {
    eventually(&format!("an alert {kind}"), DEADLINE, async || {
        let path = format!("/api/admin/v1/alerts?kind={kind}&open=true&limit=10");
        let alerts = service.get(&path).await.ok();
        match alerts["items"].as_array().map(Vec::as_slice) {
            Some([one]) => Ok(one.clone()),
            _ => Err(alerts),
        }
    })
    .await
}

async fn wait_until_closed(service: &TestService, kind: &str) {
    eventually(&format!("the alert {kind} to be closed"), DEADLINE, async || {
        let path = format!("/api/admin/v1/alerts?kind={kind}&open=true&limit=10");
        let alerts = service.get(&path).await.ok();
        if alerts["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(alerts) }
    })
    .await;
}

/// The metric's value, as it stands in the text.
async fn consumer_up(service: &TestService, consumer: &str) -> String {
    let text = service.metrics().await;
    let metric = format!("stockloop_consumer_up{{consumer=\"{consumer}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&metric));
    line.unwrap_or_default().to_owned()
}
