//! An external relay: what it sends is SENT once it is seen on the topic, and what it does not send is told or taken over.

use common::db::Backend;
use common::event::Event;
use common::schema::{outbox_event, outbox_failed, outbox_pending, outbox_settled};

use super::*;
use crate::alerts::NewAlert;
use crate::kafka::Envelope;

on_every_database!(OutboxFixture::new =>
    what_is_seen_is_sent_and_settles,
    an_answer_may_overtake_the_message,
    what_is_not_seen_yet_is_looked_for_again,
    what_was_not_seen_counts_once_it_is,
    what_is_none_of_ours_is_counted,
    a_message_behind_a_later_one_is_no_new_topic,
    the_relay_leaves_first_attempts_alone_or_takes_them_over,
    what_nobody_sends_is_told_with_the_cause,
);

const EXTERNAL: FirstAttempts = FirstAttempts::External { takeover: Duration::ZERO };

const TAKEOVER: Duration = Duration::from_secs(60);

impl OutboxFixture {
    fn observer(&self) -> Observer {
        Observer::new(&self.db, &self.env, EXTERNAL, "product-service", TOPIC)
    }

    /// The message of an event, as another program sends it to `partition`.
    fn message(&self, id: EventId, attempt: i32, partition: i32) -> Record {
        let event = Event {
            id,
            event_type: SNAPSHOT.name.to_owned(),
            key: "A".to_owned(),
            epoch: 1,
            attempt,
            time: self.env.now(),
            traceparent: None,
            data: b"{}".to_vec(),
        };
        let source = "/product-service".to_owned();
        let message = Envelope { source, event }.into_message(TOPIC, partition);
        let (offset, timestamp) = (self.next_offset().unwrap(), Some(self.env.now()));
        Record { offset, timestamp, ..Record::from(message) }
    }

    /// An event whose id was known before, as one that was not seen.
    async fn show(&self, id: EventId) {
        let created = id.made_at();
        self.run(move |conn| {
            use {outbox_event as e, outbox_pending as p};
            let event = (
                (e::id.eq(id), e::kind.eq(SNAPSHOT.kind), e::event_type.eq(SNAPSHOT.name)),
                (e::key.eq("B"), e::epoch.eq(1_i64), e::version.eq(1_i64), e::payload.eq("{}")),
                e::created_us.eq(created),
            );
            let pending = (
                (p::id.eq(id), p::shard.eq(shard_of("B")), p::attempt_limit.eq(5)),
                (p::due_us.eq(created), p::size.eq(2)),
            );
            on!(conn, c => {
                diesel::insert_into(e::table).values(event).execute(c)?;
                diesel::insert_into(p::table).values(pending).execute(c)
            })
        })
        .await;
    }

    /// What the relay finds due of the events that were never sent.
    async fn first_due(&self, first_attempts: FirstAttempts) -> Vec<EventId> {
        let now = self.env.now();
        let read = |shard| ShardRead { shard, after: Position::BEGINNING, limit: 1_000 };
        let reads: Vec<ShardRead> = (0..SHARDS).map(read).collect();
        let rows = self.run(move |conn| {
            conn.read_by_index(|conn| {
                let fresh = first_attempts.fresh(conn, now)?;
                store::due(conn, (now, fresh), &reads, None, &[], 100)
            })
        });
        rows.await.into_iter().filter(|row| row.attempt == 0).map(|row| row.id).collect()
    }
}

async fn what_is_seen_is_sent_and_settles(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.clock.advance(Duration::from_secs(2));
    let message = fixture.message(id, 1, 3);
    fixture.clock.advance(Duration::from_secs(1));
    let twice = [message.clone(), fixture.message(id, 1, 3)];
    let observed = fixture.observer().run_once(&twice, Look::First).await.unwrap();
    assert_eq!((observed.sent, observed.repeated), (1, 1), "{observed:?}");
    assert_eq!(observed.first_sent, [Duration::from_secs(2)]);
    let row = fixture.open(id).await.unwrap();
    assert_eq!((row.status, row.attempt, row.partition), (Status::Sent, 1, Some(3)));
    assert_eq!((row.sent_us, row.sent_offset), (message.timestamp, Some(message.offset)));
    let again = fixture.observer().run_once(&twice, Look::First).await.unwrap();
    assert_eq!((again.sent, again.repeated), (0, 2), "what is noted is noted: {again:?}");
    // The loop goes on as after a send of its own: a failure waits for its next attempt.
    fixture.settle(vec![fixture.ack(id, 1, Verdict::Failed)]).await;
    let row = fixture.open(id).await.unwrap();
    assert_eq!((row.status, row.attempt), (Status::Pending, 1));
    fixture.send(id, 2, 3).await;
    let further =
        fixture.observer().run_once(&[fixture.message(id, 2, 3)], Look::First).await.unwrap();
    assert_eq!((further.further, further.sent), (1, 0), "the relay notes its own");
    let settled = fixture.settle(vec![fixture.ack(id, 2, Verdict::Success)]).await;
    assert_eq!(settled.advanced.settled.len(), 1);
}

async fn an_answer_may_overtake_the_message(fixture: OutboxFixture) {
    let passed = fixture.append(SNAPSHOT, "A", 1).await;
    let failed = fixture.append(COMMAND, "B", 0).await;
    let messages = [fixture.message(passed, 1, 0), fixture.message(failed, 1, 1)];
    let at = messages[0].timestamp;
    fixture
        .settle(vec![
            fixture.ack(passed, 1, Verdict::Success),
            fixture.ack(failed, 1, Verdict::Failed),
        ])
        .await;
    fixture.clock.advance(Duration::from_secs(1));
    let observed = fixture.observer().run_once(&messages, Look::First).await.unwrap();
    assert_eq!((observed.placed, observed.sent, observed.unknown), (2, 0, 0), "{observed:?}");
    let (settled, open) = fixture
        .run(move |conn| {
            use {outbox_failed as f, outbox_settled as s};
            let settled: (Option<i32>, Option<Timestamp>) =
                on!(conn, c => s::table.find(passed).select((s::partition, s::sent_us)).first(c))?;
            let open: (Option<i32>, Option<Timestamp>, i32) = on!(conn, c => f::table
                .find(failed)
                .select((f::partition, f::sent_us, f::attempt))
                .first(c))?;
            Ok((settled, open))
        })
        .await;
    assert_eq!((settled, open), ((Some(0), at), (Some(1), at, 1)));
    let again = fixture.observer().run_once(&messages, Look::First).await.unwrap();
    assert_eq!((again.placed, again.repeated), (0, 2), "{again:?}");
}

/// Another program reads a commit in the log a moment before other transactions see it.
async fn what_is_not_seen_yet_is_looked_for_again(fixture: OutboxFixture) {
    let id = fixture.env.event_id();
    let message = [fixture.message(id, 1, 0)];
    let observer = fixture.observer();
    let early = observer.run_once(&message, Look::First).await.unwrap();
    assert_eq!((&*early.unseen, early.unknown), (&message[..], 0), "{early:?}");
    let settler = Settler { first_attempts: EXTERNAL, ..fixture.settler.clone() };
    let answer = |offset: i64| {
        let acks = AckBatch { acks: vec![fixture.ack(id, 1, Verdict::Success)] };
        Record {
            topic: "acks".to_owned(),
            offset,
            headers: Vec::new(),
            payload: Some(serde_json::to_vec(&acks).unwrap()),
            ..message[0].clone()
        }
    };
    let early = settler.settle(&fixture.db, vec![answer(1)], false).await.unwrap();
    assert_eq!((early.unseen, early.unknown), (vec![answer(1)], 0));
    assert_eq!(fixture.alerts().await, [], "it is no database from a backup");
    // Nobody waits for ever, nor for what is of long ago.
    let last = settler.without_waiting();
    let late = last.settle(&fixture.db, vec![answer(1)], false).await.unwrap();
    assert_eq!((late.unseen, late.unknown), (vec![], 1));
    fixture.clock.advance(Duration::from_secs(61));
    let late = observer.run_once(&message, Look::First).await.unwrap();
    assert_eq!((late.unseen.len(), late.unknown), (0, 1), "{late:?}");
    let late = settler.settle(&fixture.db, vec![answer(2)], false).await.unwrap();
    assert_eq!((late.unseen, late.unknown), (vec![], 1));
}

/// With what came beside it settled at once, and nothing said of partitions that is not so.
async fn what_was_not_seen_counts_once_it_is(fixture: OutboxFixture) {
    let known = fixture.append(SNAPSHOT, "A", 1).await;
    let hidden = fixture.env.event_id();
    let both = [fixture.message(known, 1, 0), fixture.message(hidden, 1, 0)];
    // Whoever sends has a clock that is ahead.
    let ahead = |record: &Record| {
        let timestamp = record.timestamp.map(|at| at.after(Duration::from_secs(3)));
        Record { timestamp, ..record.clone() }
    };
    let both = [ahead(&both[0]), ahead(&both[1])];
    let observer = fixture.observer();
    let early = observer.run_once(&both, Look::First).await.unwrap();
    assert_eq!((early.sent, &*early.unseen), (1, &both[1..]), "{early:?}");
    let settler = Settler { first_attempts: EXTERNAL, ..fixture.settler.clone() };
    let acks = [known, hidden].map(|id| fixture.ack(id, 1, Verdict::Failed)).to_vec();
    let payload = Some(serde_json::to_vec(&AckBatch { acks }).unwrap());
    let answers = Record { topic: "acks".to_owned(), payload, ..both[0].clone() };
    let settled = settler.settle(&fixture.db, vec![answers], false).await.unwrap();
    assert_eq!((settled.advanced.again, settled.unseen.len()), (1, 1));
    assert_eq!(fixture.open(known).await.unwrap().attempt, 1);
    let sent = fixture.append(SNAPSHOT, "B", 1).await;
    observer.run_once(&[ahead(&fixture.message(sent, 1, 0))], Look::First).await.unwrap();

    fixture.clock.advance(Duration::from_secs(5));
    fixture.show(hidden).await;
    let seen = observer.run_once(&early.unseen, Look::Again).await.unwrap();
    assert_eq!((seen.sent, seen.unseen.len()), (1, 0), "{seen:?}");
    let place = fixture.open(sent).await.unwrap().sent_offset;
    assert!(place.is_some_and(|offset| offset > 0), "the topic is what it was: {place:?}");
    let given_again = settler.settle(&fixture.db, settled.unseen, false).await.unwrap();
    assert_eq!((given_again.advanced.again, given_again.unseen.len()), (1, 0));
    let attempts = (fixture.open(known).await.unwrap(), fixture.open(hidden).await.unwrap());
    assert_eq!((attempts.0.attempt, attempts.1.attempt), (1, 1), "each answer counts once");
}

async fn what_is_none_of_ours_is_counted(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    let mut foreign = fixture.message(id, 1, 0);
    for (name, value) in &mut foreign.headers {
        if name == "ce_source" {
            *value = b"/another-service".to_vec();
        }
    }
    let noise = Record { headers: Vec::new(), ..foreign.clone() };
    let unknown = fixture.message(fixture.env.event_id(), 1, 0);
    fixture.clock.advance(Duration::from_secs(61));
    let observed =
        fixture.observer().run_once(&[foreign, noise, unknown], Look::First).await.unwrap();
    let expected = Observed { foreign: 2, unknown: 1, ..Observed::default() };
    assert_eq!(observed, expected);
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Pending);
}

async fn a_message_behind_a_later_one_is_no_new_topic(fixture: OutboxFixture) {
    let (early, resent) =
        (fixture.append(SNAPSHOT, "A", 1).await, fixture.append(SNAPSHOT, "B", 1).await);
    let late = fixture.append(SNAPSHOT, "C", 1).await;
    let message = fixture.message(early, 1, 0);
    // The relay sends what lies behind that before it is seen.
    fixture.send(resent, 1, 0).await;
    let place = fixture.open(resent).await.unwrap().sent_offset;
    fixture.clock.advance(Duration::from_secs(30));
    let observer = fixture.observer();
    observer.run_once(&[message], Look::First).await.unwrap();
    assert_eq!(fixture.open(resent).await.unwrap().sent_offset, place);
    // A later message that lies before both: the topic was made anew.
    let anew = Record { offset: 0, ..fixture.message(late, 1, 0) };
    observer.run_once(&[anew], Look::First).await.unwrap();
    for id in [early, resent] {
        assert_eq!(fixture.open(id).await.unwrap().sent_offset, Some(-1));
    }
    assert_eq!(fixture.open(late).await.unwrap().sent_offset, Some(0));
}

async fn the_relay_leaves_first_attempts_alone_or_takes_them_over(fixture: OutboxFixture) {
    let never = FirstAttempts::External { takeover: Duration::ZERO };
    let after = FirstAttempts::External { takeover: TAKEOVER };
    let old = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.clock.advance(TAKEOVER - Duration::from_secs(1));
    let young = fixture.append(SNAPSHOT, "A", 2).await;
    assert!(fixture.first_due(after).await.is_empty());
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.first_due(after).await, [old], "the other may still be sent");
    assert!(fixture.first_due(never).await.is_empty());
    assert_eq!(fixture.first_due(FirstAttempts::Ours).await, [old, young]);
    // A resend is the relay's in any case.
    fixture.send(young, 1, 0).await;
    fixture.settle(vec![fixture.ack(young, 1, Verdict::Failed)]).await;
    fixture.clock.advance(Duration::from_secs(60));
    let (now, fresh) = (fixture.env.now(), Fresh::Nothing);
    let shard = fixture.open(young).await.unwrap().shard;
    let reads = vec![ShardRead { shard, after: Position::BEGINNING, limit: 10 }];
    let due = fixture.run(move |conn| store::due(conn, (now, fresh), &reads, None, &[], 10)).await;
    assert_eq!(due.iter().map(|row| (row.id, row.attempt)).collect::<Vec<_>>(), [(young, 1)]);
}

async fn what_nobody_sends_is_told_with_the_cause(fixture: OutboxFixture) {
    assert_eq!(fixture.run(Relay::unsent_since).await, None);
    let committed = fixture.env.now();
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.clock.advance(Duration::from_secs(31));
    assert_eq!(fixture.run(Relay::unsent_since).await, Some(committed));
    let alert = NewAlert::not_sent_by_external("product-service", TOPIC, committed);
    let now = fixture.env.now();
    assert!(fixture.run(move |conn| crate::alerts::raise(conn, now, alert)).await);
    let told: Option<String> =
        fixture.run(|conn| on!(conn, c => alert::table.select(alert::error).first(c))).await;
    let told = told.unwrap();
    assert!(told.contains("external relay") && told.contains("2023-11-14"), "{told}");
    fixture.observer().run_once(&[fixture.message(id, 1, 0)], Look::First).await.unwrap();
    assert_eq!(fixture.run(Relay::unsent_since).await, None);
    if fixture.db.backend() == Backend::Postgres {
        let walked = fixture.run(|conn| store::in_flight(conn, 0)).await;
        assert!(walked.is_empty(), "no more is counted than is asked for");
    }
}
