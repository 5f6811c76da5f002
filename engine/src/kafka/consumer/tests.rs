#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use common::clock::ManualClock;
use common::config::SignatureRequirement;
use common::env::Env;
use common::telemetry::{Heals, SignedMessage, Trouble};

use super::*;
use crate::kafka::{
    EmbeddedBroker, Message, Producer, SignatureChecks, settings_for_tests, signing_for_tests,
};

const TOPIC: &str = "events";

const FAILED: Trouble = Trouble { problem: "it failed", advice: "", heals: Heals::Lasting };

const ONE: BatchLimits = BatchLimits::new(1, Duration::from_millis(1));

fn message(n: usize) -> Message {
    Message {
        topic: TOPIC.to_owned(),
        partition: Some(0),
        key: n.to_string(),
        headers: Vec::new(),
        payload: Vec::new(),
    }
}

/// What is known of a broker, by a clock of its own.
fn broker_state() -> (ManualClock, BrokerState) {
    let clock = ManualClock::at("2026-01-05T12:00:00Z".parse().unwrap());
    (clock.clone(), BrokerState::new(Env::seeded(Arc::new(clock), 1)))
}

/// A broker with these many messages, and a consumer of them.
async fn consumer_of(messages: usize) -> (EmbeddedBroker, Consumer) {
    consumer_with(BrokerState::default(), messages).await
}

async fn consumer_with(state: BrokerState, messages: usize) -> (EmbeddedBroker, Consumer) {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic(TOPIC, 1).unwrap();
    let settings = settings_for_tests(broker.brokers(), TOPIC, 1);
    let producer = Producer::new(&settings, "test", BrokerState::default()).unwrap();
    let messages: Vec<Message> = (0..messages).map(message).collect();
    let sent = producer.send_all(&messages).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let consumer = Consumer::subscribe(&settings, "g", TOPIC, state).unwrap();
    (broker, consumer)
}

/// The first batch that is not empty.
async fn first_batch(consumer: &Consumer, limits: BatchLimits) -> Vec<Record> {
    let received = async {
        loop {
            let batch = consumer.next_batch(limits).await;
            // Nobody looks at what was assigned but this.
            consumer.assigned();
            if !batch.is_empty() {
                return batch;
            }
        }
    };
    timeout(Duration::from_secs(60), received).await.unwrap()
}

/// The offset that its group has committed, by partition; none: it has committed none.
async fn committed(consumer: &Consumer) -> BTreeMap<i32, i64> {
    consumer.committed(&[0].into()).await.unwrap()
}

/// The only thread that may wait is busy, so the client is still there once its consumer is dropped.
#[test]
fn a_group_is_left_in_a_thread_that_may_wait() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv());
        let settings = settings_for_tests("127.0.0.1:9".to_owned(), TOPIC, 1);
        let consumer = Consumer::subscribe(&settings, "g", TOPIC, BrokerState::default()).unwrap();
        let client = Arc::downgrade(&consumer.inner());
        drop(consumer);
        assert!(client.upgrade().is_some(), "it was left in this thread");
        drop(client);
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
    });
}

/// librdkafka asks once, and takes no for an answer. This broker says it of each partition, where a real one says it of the
/// whole request: either way, librdkafka begins none.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_told_where_to_begin_begins_all_the_same() {
    let (clock, state) = broker_state();
    let (broker, consumer) = consumer_with(state, 1).await;
    broker.refuse_to_say_where_to_begin(1);
    let goes_fast = async {
        loop {
            tokio::time::sleep(LOOK).await;
            clock.advance(LOOK * 3);
        }
    };
    let batch = tokio::select! {
        batch = first_batch(&consumer, ONE) => batch,
        () = goes_fast => unreachable!("it goes on"),
    };
    assert_eq!(batch[0].offset, 0);
    assert_eq!(consumer.inner().context().client, 1, "the first one was told at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_be_made_anew_is_also_while_messages_come() {
    let (clock, state) = broker_state();
    let (_broker, consumer) = consumer_with(state, 2).await;
    assert_eq!(first_batch(&consumer, ONE).await[0].offset, 0);
    consumer.state.failed(0, FAILED, "for good");
    clock.advance(Duration::from_secs(60));
    // It was not committed, so the new client gets it again.
    assert_eq!(first_batch(&consumer, ONE).await[0].offset, 0);
    assert_eq!(consumer.inner().context().client, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_a_batch_lasts_comes_after_it() {
    let (_broker, consumer) = consumer_of(5).await;
    let mut offsets = Vec::new();
    let received = async {
        while offsets.len() < 5 {
            let batch = consumer.next_batch(BatchLimits::new(2, Duration::from_millis(1))).await;
            offsets.extend(batch.iter().map(|record| record.offset));
            for _ in 0..3 {
                consumer.keep_alive().await;
            }
            assert!(consumer.aside().records.len() <= 1, "a message of each partition");
        }
    };
    timeout(Duration::from_secs(60), received).await.unwrap();
    assert_eq!(offsets, [0, 1, 2, 3, 4], "in order, none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_alone_waits_for_no_other() {
    let (_broker, consumer) = consumer_of(1).await;
    let an_hour = BatchLimits::new(2, Duration::from_secs(3_600)).hurried();
    assert_eq!(first_batch(&consumer, an_hour).await.len(), 1);
}

/// A message without a value, too, which comes as none or as an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_signed_and_once_more_as_it_was() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic(TOPIC, 1).unwrap();
    let settings = settings_for_tests(broker.brokers(), TOPIC, 1);
    let signing = signing_for_tests(SignatureRequirement::All);
    let producer = Producer::new(&settings, "test", BrokerState::default()).unwrap();
    let producer = producer.signed_by(signing.clone());
    let elsewhere = producer.elsewhere().unwrap();
    let headers = vec![("ce_id", "1".to_owned())];
    let whole = Message { headers, payload: b"{}".to_vec(), ..message(0) };
    for (producer, message) in
        [(&producer, whole.clone()), (&producer, message(1)), (&elsewhere, whole)]
    {
        let sent = producer.send_all(&[message]).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    }
    let consumer = Consumer::subscribe(&settings, "g", TOPIC, BrokerState::default()).unwrap();
    let mut received = Vec::new();
    for _ in 0..3 {
        received.extend(first_batch(&consumer, ONE).await);
    }
    producer.resend(&received[0]).await.unwrap();
    received.extend(first_batch(&consumer, ONE).await);
    let mut checks = SignatureChecks::default();
    for record in &received {
        assert_eq!(signing.check(SignedMessage::Event, record, &mut checks), Ok(()), "{record:?}");
    }
    assert_eq!((received.len(), checks.valid()), (4, 4));
    assert_eq!(received[3].headers, received[0].headers);
}

/// Another member may have had the partition since, and have committed more.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_assignment_brought_is_not_committed() {
    let (_broker, consumer) = consumer_of(1).await;
    let batch = first_batch(&consumer, ONE).await;
    let assignment = batch[0].assignment - 1;
    consumer.commit(&[Record { assignment, ..batch[0].clone() }], CommitMode::Sync);
    assert_eq!(committed(&consumer).await, [].into());
    consumer.commit(&batch, CommitMode::Sync);
    assert_eq!(committed(&consumer).await, [(0, 1)].into());
}

/// As a group does while its members change.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_group_refused_to_commit_is_committed_though_nothing_more_comes() {
    let (broker, consumer) = consumer_of(1).await;
    let batch = first_batch(&consumer, ONE).await;
    broker.refuse_commits(2);
    consumer.commit(&batch, CommitMode::Async);
    // It is asked for these behind that.
    assert_eq!(committed(&consumer).await, [].into(), "it was refused");
    let asked_again = async {
        while committed(&consumer).await != [(0, 1)].into() {
            assert!(timeout(LOOK, consumer.next()).await.is_err(), "there is no other message");
        }
    };
    timeout(Duration::from_secs(60), asked_again).await.unwrap();
}
