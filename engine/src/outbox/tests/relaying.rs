//! The relay on a broker: that each partition goes its own way, and that nothing is passed by.

use std::collections::BTreeMap;
use std::sync::mpsc;

use common::config::KafkaSettings;
use common::db::Backend;
use common::schema::outbox_open;
use common::telemetry::BrokerState;
use stockloop_tests::locks::keep_open;
use stockloop_tests::poll::eventually;
use tokio::sync::Notify;

use super::*;
use crate::kafka::{EmbeddedBroker, Producer, settings_for_tests};

on_every_database!(OutboxFixture::new =>
    a_partition_without_a_leader_holds_up_no_other,
    a_partition_that_failed_is_sent_to_again,
    a_late_commit_is_not_passed_by,
    what_a_server_numbers_again_is_not_passed_by,
    a_key_goes_out_in_the_order_of_its_versions,
    a_backlog_goes_out_once_and_in_order,
    what_waits_behind_a_slow_send_needs_no_other_wake_up,
    what_had_no_room_is_sent_later,
    two_relays_keep_within_one_cap,
);

/// A broker with this topic of two partitions.
fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic(TOPIC, 2).unwrap();
    broker
}

impl OutboxFixture {
    fn relay(&self, broker: &EmbeddedBroker, cap: usize) -> Relay {
        // Soon enough to be waited for.
        let timeout = ("message.timeout.ms".to_owned(), "500".to_owned());
        let kafka = KafkaSettings {
            properties: BTreeMap::from([timeout]),
            ..settings_for_tests(broker.brokers(), TOPIC, 2)
        };
        let producer = Producer::new(&kafka, "product-service", BrokerState::default()).unwrap();
        Relay::new(RelayParts {
            db: self.db.clone(),
            env: self.env.clone(),
            first_attempts: FirstAttempts::Ours,
            producer: Arc::new(producer),
            policy: POLICY,
            in_flight: InFlight::new(cap, 1 << 20),
            spans: Spans::off(self.env.clone()),
            service: "product-service".to_owned(),
            topic: TOPIC.to_owned(),
            batch: 100,
            patience: Duration::from_millis(50),
            woken: Arc::new(Notify::new()),
        })
    }

    async fn status(&self, id: EventId) -> Option<Status> {
        self.run(move |conn| {
            on!(conn, c => outbox_open::table
                .filter(outbox_open::id.eq(id))
                .select(outbox_open::status)
                .first(c)
                .optional())
        })
        .await
    }

    /// Lets `relay` work until `id` is SENT.
    async fn relay_until_sent(&self, relay: &Relay, held: &LeaseSet, id: EventId) {
        eventually("the event is SENT", Duration::from_secs(60), async || {
            relay.run_once(held).await.unwrap();
            match self.status(id).await {
                Some(Status::Sent) => Ok(()),
                status => Err(status),
            }
        })
        .await;
    }
}

/// A key whose events go to `partition` of two.
fn key_in(partition: i32) -> String {
    let mut keys = (0..).map(|n| format!("K{n}"));
    keys.find(|key| partition_of(shard_of(key), 2) == partition).unwrap()
}

async fn a_partition_without_a_leader_holds_up_no_other(fixture: OutboxFixture) {
    let broker = broker();
    let relay = fixture.relay(&broker, 1_000);
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    broker.lead(TOPIC, 1, false).unwrap();
    let stuck = fixture.append(SNAPSHOT, &key_in(1), 1).await;
    for version in 1..=3 {
        let well = fixture.append(SNAPSHOT, &key_in(0), version).await;
        fixture.relay_until_sent(&relay, &held, well).await;
        assert_eq!(fixture.status(stuck).await, Some(Status::Pending));
    }
    broker.lead(TOPIC, 1, true).unwrap();
    fixture.relay_until_sent(&relay, &held, stuck).await;
}

async fn a_partition_that_failed_is_sent_to_again(fixture: OutboxFixture) {
    let broker = broker();
    let relay = fixture.relay(&broker, 1_000);
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    broker.lead(TOPIC, 1, false).unwrap();
    let first = fixture.append(SNAPSHOT, &key_in(1), 1).await;
    eventually("the broker to be given up on", Duration::from_secs(60), async || {
        relay.run_once(&held).await.unwrap().hindered.map(drop).ok_or("it is waited for")
    })
    .await;
    assert_eq!(fixture.status(first).await, Some(Status::Pending));
    broker.lead(TOPIC, 1, true).unwrap();
    fixture.relay_until_sent(&relay, &held, first).await;
    let outcome = relay.run_once(&held).await.unwrap();
    assert_eq!(outcome.hindered, None, "what is over hinders nothing");
}

async fn a_late_commit_is_not_passed_by(fixture: OutboxFixture) {
    if fixture.db.backend() == Backend::Sqlite {
        // There is one writer, so no transaction can be late.
        return;
    }
    let broker = broker();
    let relay = fixture.relay(&broker, 1_000);
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    let outbox = fixture.outbox.clone();
    let late = keep_open(&fixture.db, move |conn| {
        let payload = "{}".to_owned();
        let (key, traceparent) = ("A".to_owned(), None);
        let event = NewEvent { event_type: COMMAND, key, version: 0, payload, traceparent };
        Ok(outbox.append(conn, vec![event])?)
    })
    .await;
    let first = late.value[0];
    for version in 1..=3 {
        let second = fixture.append(SNAPSHOT, "A", version).await;
        assert!(first < second);
        fixture.relay_until_sent(&relay, &held, second).await;
    }
    assert_eq!(fixture.status(first).await, None, "it is not committed");
    late.commit().await;
    fixture.relay_until_sent(&relay, &held, first).await;
}

async fn what_a_server_numbers_again_is_not_passed_by(fixture: OutboxFixture) {
    if fixture.db.backend() == Backend::Sqlite {
        // Its numbers are rows of the file: what is undone takes them along.
        return;
    }
    let broker = broker();
    let mut relay = fixture.relay(&broker, 1_000);
    // One session of its own, which alone ends.
    relay.parts.db = fixture.db.with_own_pool(1, Duration::from_secs(10));
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    let first = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.relay_until_sent(&relay, &held, first).await;
    relay.run_once(&held).await.unwrap();
    let session = diesel::dsl::sql::<diesel::sql_types::Integer>("SELECT pg_backend_pid()");
    let ask =
        |conn: &mut Conn| -> Result<i32, DbError> { Ok(on!(conn, c => session.get_result(c))?) };
    let session = relay.parts.db.read(ask).await.unwrap();
    fixture.by_hand(&format!("SELECT pg_terminate_backend({session})"));
    // After a crash, or at a standby that did not get the last ones.
    let second = fixture.append(SNAPSHOT, "A", 2).await;
    fixture.run(|conn| conn.batch_execute("UPDATE outbox_pending SET tx = 1")).await;
    eventually("the event is SENT", Duration::from_secs(60), async || {
        // The step that meets the end of the session fails.
        let step = relay.run_once(&held).await.map_err(|error| error.to_string());
        match fixture.status(second).await {
            Some(Status::Sent) => Ok(()),
            status => Err((status, step)),
        }
    })
    .await;
}

impl OutboxFixture {
    /// Two changes of `key` whose transactions began in the other order, and a first one of `before`; their events.
    async fn waited_for_each_other(&self, key: &str, before: &str) -> (EventId, EventId) {
        self.append(SNAPSHOT, before, 1).await;
        let ((begun, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
        let (db, outbox, own) = (self.db.clone(), self.outbox.clone(), key.to_owned());
        let second = tokio::spawn(async move {
            db.write::<_, DbError>(move |conn| {
                // Takes a number.
                outbox.append(conn, vec![change("elsewhere", 1)])?;
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
                Ok(outbox.append(conn, vec![change(&own, 2)])?[0])
            })
            .await
        });
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        let first = self.append(SNAPSHOT, key, 1).await;
        go_on.send(()).unwrap();
        (first, second.await.unwrap().unwrap())
    }

    /// Where a SENT event lies in its partition.
    async fn offset(&self, id: EventId) -> i64 {
        self.open(id).await.and_then(|open| open.sent_offset).unwrap()
    }
}

fn change(key: &str, version: i64) -> NewEvent {
    let (key, payload) = (key.to_owned(), "{}".to_owned());
    NewEvent { event_type: SNAPSHOT, key, version, payload, traceparent: None }
}

async fn a_key_goes_out_in_the_order_of_its_versions(fixture: OutboxFixture) {
    if fixture.db.backend() == Backend::Sqlite {
        // One transaction after the other: their numbers are in the order of their commits.
        return;
    }
    let broker = broker();
    let relay = fixture.relay(&broker, 1_000);
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    let (first, second) = fixture.waited_for_each_other("A", "B").await;
    let due = fixture.due(0..SHARDS, Vec::new(), 100).await;
    let place = |id| due.iter().position(|row| row.id == id).unwrap();
    assert!(place(first) > place(second), "the later change has the smaller number: {due:?}");
    fixture.relay_until_sent(&relay, &held, second).await;
    assert!(fixture.offset(first).await < fixture.offset(second).await);
}

async fn a_backlog_goes_out_once_and_in_order(fixture: OutboxFixture) {
    const KEYS: usize = 10;
    const VERSIONS: i64 = 60;
    let broker = broker();
    let relay = fixture.relay(&broker, 10_000);
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    for version in 1..=VERSIONS {
        let keys = (0..KEYS).map(|key| change(&format!("K{key}"), version)).collect();
        let outbox = fixture.outbox.clone();
        fixture.run(move |conn| outbox.append(conn, keys)).await;
    }
    let (all, mut sent) = (KEYS * usize::try_from(VERSIONS).unwrap(), 0);
    eventually("all to be sent", Duration::from_secs(60), async || {
        sent += relay.run_once(&held).await.unwrap().sent;
        if sent == all { Ok(()) } else { Err(sent) }
    })
    .await;
    let places: Vec<(String, i32, i64, i32)> = fixture
        .run(|conn| {
            use common::schema::{outbox_event as e, outbox_sent as s};
            let order = (e::key, e::version);
            on!(conn, c => s::table.inner_join(e::table.on(e::id.eq(s::id)))
                .select((e::key, s::partition, s::sent_offset.assume_not_null(), s::attempt))
                .order(order)
                .load(c))
        })
        .await;
    assert_eq!(places.len(), all);
    for key in places.chunk_by(|one, other| one.0 == other.0) {
        assert!(key.is_sorted_by_key(|(_, _, offset, _)| offset), "{key:?}");
    }
    assert!(places.iter().all(|(_, _, _, attempt)| *attempt == 1));
    let end = |of| places.iter().filter(|(_, own, ..)| *own == of).map(|place| place.2 + 1).max();
    let on_the_topic: i64 = (0..2).filter_map(end).sum();
    assert_eq!(on_the_topic, i64::try_from(all).unwrap(), "each is there once");
}

async fn what_waits_behind_a_slow_send_needs_no_other_wake_up(fixture: OutboxFixture) {
    let broker = broker();
    // It waits for no answer, as if each took longer than that.
    let relay = fixture.relay(&broker, 10_000).patient_for(Duration::ZERO);
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    let changes = (1..=250).map(|version| change("A", version)).collect();
    let outbox = fixture.outbox.clone();
    fixture.run(move |conn| outbox.append(conn, changes)).await;
    let mut sent = 0;
    while sent < 250 {
        let outcome = relay.run_once(&held).await.unwrap();
        sent += outcome.sent;
        if outcome.drained && sent < 250 {
            let woken = relay.parts.woken.notified();
            tokio::time::timeout(Duration::from_secs(10), woken).await.expect("a wake-up");
        }
    }
}

async fn what_had_no_room_is_sent_later(fixture: OutboxFixture) {
    if fixture.db.backend() == Backend::Sqlite {
        return;
    }
    let broker = broker();
    let relay = fixture.relay(&broker, 2);
    let held = renew(&fixture.db, "me", Duration::from_secs(600)).await.unwrap();
    // In the shard of the other, and behind it by its name.
    let mut keys = (0..).map(|n| format!("Z{n}"));
    let before = keys.find(|key| shard_of(key) == shard_of("A")).unwrap();
    fixture.waited_for_each_other("A", &before).await;
    let mut settled = 0;
    eventually("all four to be sent and settled", Duration::from_secs(60), async || {
        relay.run_once(&held).await.unwrap();
        let sent: Vec<EventId> = fixture
            .run(|conn| {
                use common::schema::outbox_sent as s;
                on!(conn, c => s::table.select(s::id).load(c))
            })
            .await;
        let acks = sent.iter().map(|id| fixture.ack(*id, 1, Verdict::Success)).collect();
        settled += fixture.settle(acks).await.advanced.settled.len();
        if settled == 4 { Ok(()) } else { Err(settled) }
    })
    .await;
}

async fn two_relays_keep_within_one_cap(fixture: OutboxFixture) {
    const CAP: usize = 20;
    let broker = broker();
    let (one, other) = (fixture.relay(&broker, CAP), fixture.relay(&broker, CAP));
    let lease = Duration::from_secs(600);
    for owner in ["one", "other", "one"] {
        renew(&fixture.db, owner, lease).await.unwrap();
    }
    let others = renew(&fixture.db, "other", lease).await.unwrap();
    let ones = renew(&fixture.db, "one", lease).await.unwrap();
    assert_eq!((ones.tokens.len(), others.tokens.len()), (32, 32));
    for n in 0..200 {
        fixture.append(SNAPSHOT, &format!("K{n}"), 1).await;
    }
    let mut settled = 0;
    while settled < 200 {
        one.run_once(&ones).await.unwrap();
        other.run_once(&others).await.unwrap();
        let sent: Vec<(EventId, i32)> = fixture
            .run(|conn| {
                use common::schema::outbox_sent as s;
                on!(conn, c => s::table.select((s::id, s::partition)).load(c))
            })
            .await;
        for partition in 0..2 {
            let there = sent.iter().filter(|(_, own)| *own == partition).count();
            assert!(there <= CAP, "{there} in partition {partition}");
        }
        // Whoever settles, the relays are not told: they find out by themselves.
        let acks = sent.iter().map(|(id, _)| fixture.ack(*id, 1, Verdict::Success)).collect();
        settled += fixture.settle(acks).await.advanced.settled.len();
    }
}
