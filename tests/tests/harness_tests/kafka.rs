use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use stockloop_tests::kafka::{Acl, KafkaBroker, Operation, Resource, User};
use stockloop_tests::poll::eventually;
use stockloop_tests::ports::free_port;
use stockloop_tests::real;

const DEADLINE: Duration = Duration::from_secs(120);

fn producer(broker: &KafkaBroker) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", broker.brokers())
        .set("enable.idempotence", "true")
        .set("reconnect.backoff.max.ms", "200")
        // How long a topic that isn't there is hoped for; 30 s unless told.
        .set("topic.metadata.propagation.max.ms", "1000")
        .create()
        .unwrap()
}

async fn produce(producer: &FutureProducer, topic: &str, payload: &str) {
    let record = FutureRecord::to(topic).key("sku-1").payload(payload);
    producer.send(record, DEADLINE).await.map_err(|(error, _)| error).unwrap();
}

#[test]
fn who_comes_in_by_a_further_listener_is_told_its_port() {
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let broker = real::available("Kafka", KafkaBroker::start_behind(&ports));
    let Some(broker) = broker else { return };
    let told = |port: u16| {
        let servers = format!("127.0.0.1:{port}");
        let asker: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
        asker.fetch_metadata(None, DEADLINE).unwrap().brokers()[0].port()
    };
    for port in ports {
        assert_eq!(told(broker.listener(port).unwrap()), i32::from(port));
    }
    assert_eq!(told(broker.port()), i32::from(broker.port()));
    assert_eq!(broker.listener(broker.port()), None);
}

#[tokio::test]
async fn a_guarded_broker_lets_users_do_what_they_were_granted() {
    let told = free_port().unwrap();
    let user = User { name: "writer", password: "not-guessed" };
    let broker = real::available("Kafka", KafkaBroker::start_guarded(&[(told, user)]));
    let Some(broker) = broker else { return };
    let topic = "guarded";
    broker.create_topic(topic, 1).await.unwrap();
    // It is told that the broker is there, where nobody passes on.
    let _passed_on = Passed::on(told, broker.listener(told).unwrap());
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", format!("127.0.0.1:{told}"))
        .set("security.protocol", "sasl_plaintext")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", user.name)
        .set("sasl.password", user.password)
        .set("message.timeout.ms", "5000")
        .create()
        .unwrap();
    let try_once = async || {
        let record = FutureRecord::to(topic).key("k").payload("p");
        producer.send(record, DEADLINE).await.map(drop).map_err(|(error, _)| error)
    };
    assert!(try_once().await.is_err(), "nothing was granted");
    let may = |operation| Acl { user: user.name, resource: Resource::Topic(topic), operation };
    broker.grant(&[may(Operation::Describe), may(Operation::Write)]).unwrap();
    eventually("a message that is taken", DEADLINE, async || try_once().await).await;
    broker.revoke(&[may(Operation::Write)]).unwrap();
    eventually("a message that is refused", DEADLINE, async || match try_once().await {
        Err(KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed)) => Ok(()),
        other => Err(other),
    })
    .await;
    let refused = "Principal = User:writer is Denied operation = WRITE";
    assert!(broker.said(refused) > 0, "it says so");
    assert!(broker.revoke(&[may(Operation::Write)]).is_err(), "it was taken away already");
}

/// Passes a port on to another one, until it is dropped.
struct Passed(tokio::task::JoinHandle<()>);

impl Passed {
    fn on(port: u16, server: u16) -> Self {
        let address = move |port| (std::net::Ipv4Addr::LOCALHOST, port);
        let listener = std::net::TcpListener::bind(address(port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        Self(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut server) = tokio::net::TcpStream::connect(address(server)).await
                    else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }))
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn what_a_topic_does_not_take_is_in_its_brokers_log() {
    let Some(broker) = real::available("Kafka", KafkaBroker::start_private()) else { return };
    broker.create_topic_with("small", 1, &[("max.message.bytes", "200")]).await.unwrap();
    let payload = uuid::Uuid::new_v4().to_string().repeat(100);
    let record = FutureRecord::to("small").key("k").payload(&payload);
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", broker.brokers()).create().unwrap();
    let (error, _) = producer.send(record, DEADLINE).await.unwrap_err();
    let too_large = RDKafkaErrorCode::MessageSizeTooLarge;
    assert!(matches!(error, KafkaError::MessageProduction(code) if code == too_large), "{error}");
    eventually("it to say so", DEADLINE, async || match broker.said("RecordTooLargeException") {
        0 => Err(()),
        _ => Ok(()),
    })
    .await;
}

/// Three nodes, each with a further listener.
fn cluster() -> Option<Vec<KafkaBroker>> {
    let told: Vec<Vec<u16>> = (0..3).map(|_| vec![free_port().unwrap()]).collect();
    real::available("Kafka", KafkaBroker::start_cluster(&told))
}

#[tokio::test]
async fn partitions_lie_apart_where_they_are_to() {
    let Some(mut nodes) = cluster() else { return };
    nodes[0].create_topics_apart(&["apart"], 4).await.unwrap();
    let asker: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", nodes[0].brokers()).create().unwrap();
    let replicas = || {
        let metadata = asker.fetch_metadata(Some("apart"), DEADLINE).unwrap();
        let mut all: Vec<(i32, Vec<i32>)> = metadata.topics()[0]
            .partitions()
            .iter()
            .map(|partition| (partition.id(), partition.replicas().to_vec()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(replicas(), [(0, vec![1]), (1, vec![2]), (2, vec![3]), (3, vec![1])]);
    nodes[1].kill9();
    eventually("a partition without a leader", DEADLINE, async || {
        let metadata = asker.fetch_metadata(Some("apart"), DEADLINE).map_err(|e| e.to_string())?;
        let led = metadata.topics()[0].partitions().iter().filter(|one| one.leader() >= 0);
        let led: Vec<i32> = led.map(|partition| partition.id()).collect();
        if led.len() == 3 && !led.contains(&1) { Ok(()) } else { Err(format!("{led:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_goes_on_without_its_leader() {
    let Some(mut nodes) = cluster() else { return };
    let topic = "three-copies";
    nodes[0].create_topic(topic, 2).await.unwrap();
    let (_, leader) = nodes[0].controller().unwrap();
    let led = nodes.iter().position(|node| node.node() == leader).unwrap();
    nodes[led].kill9();
    assert!(!nodes[led].is_started());

    let servers: Vec<String> = nodes.iter().map(KafkaBroker::brokers).collect();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers.join(",")).set("acks", "all");
    let producer: FutureProducer = config.create().unwrap();
    produce(&producer, topic, "to those that are left").await;
    nodes[led].start_again().unwrap();
    let others: Vec<&KafkaBroker> = nodes.iter().filter(|node| node.node() != leader).collect();
    eventually("another one that leads", DEADLINE, async || {
        let known: Vec<_> = others.iter().map(|node| node.controller().ok()).collect();
        let is_another = |known: &Option<(i64, i32)>| known.is_some_and(|(_, now)| now != leader);
        if known.iter().all(is_another) { Ok(()) } else { Err(known) }
    })
    .await;
}

fn consumer(broker: &KafkaBroker, group: &str, topic: &str) -> StreamConsumer {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.brokers())
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

async fn consume(consumer: &StreamConsumer) -> String {
    eventually("a message", DEADLINE, async || match consumer.recv().await {
        Ok(message) => Ok(String::from_utf8_lossy(message.payload().unwrap()).into_owned()),
        Err(error) => Err(error),
    })
    .await
}

#[tokio::test]
async fn what_is_produced_is_consumed() {
    let Some(kafka) = real::kafka() else { return };
    let prefix = kafka.topic_prefix("roundtrip");
    let topic = format!("{prefix}things");
    kafka.create_topic(&topic, 3).await.unwrap();
    produce(&producer(kafka), &topic, "hello").await;
    assert_eq!(consume(&consumer(kafka, &prefix, &topic)).await, "hello");
}

#[tokio::test]
async fn a_topic_nobody_created_does_not_exist() {
    let Some(kafka) = real::kafka() else { return };
    let topic = format!("{}nothing", kafka.topic_prefix("unmade"));
    let record = FutureRecord::to(&topic).key("k").payload("p");
    let (error, _) = producer(kafka).send(record, DEADLINE).await.unwrap_err();
    let unknown = [RDKafkaErrorCode::UnknownTopic, RDKafkaErrorCode::UnknownTopicOrPartition];
    assert!(
        matches!(&error, KafkaError::MessageProduction(code) if unknown.contains(code)),
        "{error}"
    );
}

#[tokio::test]
async fn a_topic_made_twice_is_an_error() {
    let Some(kafka) = real::kafka() else { return };
    let topic = format!("{}same", kafka.topic_prefix("twice"));
    kafka.create_topic_with(&topic, 1, &[("max.message.bytes", "2000")]).await.unwrap();
    let error = kafka.create_topic(&topic, 1).await.unwrap_err().to_string();
    assert!(error.contains("TopicAlreadyExists"), "{error}");
}

#[tokio::test]
async fn a_stopped_killed_or_frozen_broker_comes_back_with_its_data() {
    let Some(mut kafka) = real::available("Kafka", KafkaBroker::start_private()) else {
        return;
    };
    kafka.create_topic("kept", 1).await.unwrap();
    let producer = producer(&kafka);
    produce(&producer, "kept", "before").await;

    kafka.stop().unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", kafka.port())).is_err());
    kafka.start_again().unwrap();
    produce(&producer, "kept", "after the stop").await;

    kafka.kill9();
    kafka.start_again().unwrap();
    produce(&producer, "kept", "after the kill").await;

    kafka.pause().unwrap();
    let held = produce(&producer, "kept", "from the ice");
    let mut held = std::pin::pin!(held);
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut held).await.is_err());
    kafka.resume().unwrap();
    held.await;

    let consumer = consumer(&kafka, "kept-readers", "kept");
    for expected in ["before", "after the stop", "after the kill", "from the ice"] {
        assert_eq!(consume(&consumer).await, expected);
    }
}
