//! What nobody reports: events that were passed by, and partitions that give no answers.

use super::*;

const ASKED: store::AskedOf<'static> =
    store::AskedOf { topic: TOPIC, consumer: "order-service", since: EventId::NIL };

on_every_database!(OutboxFixture::new =>
    only_what_was_passed_by_is_overdue,
    silence_costs_nothing_and_is_told_once,
    an_answer_meanwhile_ends_a_silence_for_good,
    a_clock_that_ran_ahead_hides_no_silence,
    a_clock_that_ran_ahead_keeps_no_attempt_waiting,
    a_topic_that_was_made_anew_proves_nothing,
    a_copy_of_a_message_proves_no_more_than_its_place,
    an_answer_may_come_behind_a_later_one,
);

async fn only_what_was_passed_by_is_overdue(fixture: OutboxFixture) {
    let passed_by = fixture.append(SNAPSHOT, "A", 1).await;
    let elsewhere = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.send(passed_by, 1, 0).await;
    fixture.send(elsewhere, 1, 1).await;
    fixture.clock.advance(Duration::from_secs(10));
    let later = fixture.append(SNAPSHOT, "C", 1).await;
    fixture.send(later, 1, 0).await;
    fixture.clock.advance(Duration::from_secs(25));
    // The time is over, but the consumer has answered nothing later yet: it may be slow.
    assert_eq!(fixture.overdue().await, []);
    fixture.settle(vec![fixture.ack(later, 1, Verdict::Success)]).await;
    assert_eq!(fixture.overdue().await, [passed_by], "the other partition proves nothing");
    let monitor = fixture.monitor();
    let (overdue, exhausted) = monitor.take_overdue().await.unwrap();
    assert_eq!((overdue, exhausted), (1, 0));
    assert_eq!(fixture.open(passed_by).await.unwrap().status, Status::Pending);
    assert_eq!(fixture.open(elsewhere).await.unwrap().status, Status::Sent);
}

impl OutboxFixture {
    /// What is overdue once there was time for the answers that come behind others.
    async fn overdue(&self) -> Vec<EventId> {
        let monitor = self.monitor();
        for _ in 0..2 {
            monitor.look().await.unwrap();
            self.clock.advance(Duration::from_secs(5));
        }
        monitor.look().await.unwrap();
        let now = self.env.now();
        let (sent, unplaced) =
            (now.before(Duration::from_secs(30)), now.before(Duration::from_secs(600)));
        self.run(move |conn| store::overdue(conn, &ASKED, sent, unplaced, 100)).await
    }
}

async fn silence_costs_nothing_and_is_told_once(fixture: OutboxFixture) {
    let oldest = fixture.append(SNAPSHOT, "A", 1).await;
    let other = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.send(oldest, 1, 0).await;
    fixture.clock.advance(Duration::from_secs(1));
    fixture.send(other, 1, 0).await;
    let monitor = fixture.monitor();
    assert_eq!(monitor.take_silent().await.unwrap(), (0, vec![]));
    fixture.clock.advance(Duration::from_secs(31));
    assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![oldest]));
    assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![]), "the next probe is not due yet");
    let probed = Update::new(
        oldest,
        Trigger::Probed { attempt: 2, partition: 0, offset: fixture.next_offset() },
    );
    let env = fixture.env.clone();
    fixture.run(move |conn| advance(conn, &env, &POLICY, vec![probed])).await;
    let row = fixture.open(oldest).await.unwrap();
    assert_eq!(row.attempt_limit - row.attempt, 4, "a probe costs nothing of the budget");
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(monitor.take_silent().await.unwrap().1, [oldest], "always the oldest");
    assert_eq!(fixture.alerts().await.len(), 1, "one alert for the whole episode");
    assert_eq!(fixture.overdue().await, []);
    // The answer to the send before proves nothing of the probe's time, but ends the silence.
    fixture.settle(vec![fixture.ack(oldest, 2, Verdict::Success)]).await;
    assert_eq!(monitor.take_silent().await.unwrap(), (0, vec![]));
    assert!(fixture.alerts().await[0].2.is_some(), "the alert is closed when answers come again");
    assert_eq!(fixture.overdue().await, [other], "now it is known to have been passed by");
    let silent: i64 = fixture
        .run(|conn| {
            on!(conn, c => consumer_partition::table
                .filter(consumer_partition::silent_us.is_not_null())
                .count()
                .get_result(c))
        })
        .await;
    assert_eq!(silent, 0);
}

/// The monitor reads, the answer is settled, the monitor writes: nobody would end that silence any more.
async fn an_answer_meanwhile_ends_a_silence_for_good(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 0).await;
    fixture.clock.advance(Duration::from_secs(31));
    let now = fixture.env.now();
    let before = now.before(Duration::from_secs(30));
    let read = fixture.run(move |conn| store::silent(conn, &ASKED, before)).await;
    assert_eq!(read.len(), 1);
    fixture.settle(vec![fixture.ack(id, 1, Verdict::Success)]).await;
    let silence =
        move |conn: &mut _| store::note_silence(conn, (&ASKED, before), &read[0], now, now);
    assert!(!fixture.run(silence).await, "nothing is noted");
    assert!(!fixture.run(|conn| store::any_silence(conn, &ASKED)).await);
}

/// Answers of a moment that has not come yet used to hide that nothing is answered, and to blame single events for it.
async fn a_clock_that_ran_ahead_hides_no_silence(fixture: OutboxFixture) {
    fixture.clock.advance(Duration::from_secs(600));
    let ahead = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(ahead, 1, 0).await;
    fixture.settle(vec![fixture.ack(ahead, 1, Verdict::Success)]).await;
    let unanswered = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.send(unanswered, 1, 0).await;
    fixture.clock.set_back(Duration::from_secs(600));
    let now = fixture.append(SNAPSHOT, "C", 1).await;
    fixture.send(now, 1, 0).await;
    let monitor = fixture.monitor();
    monitor.look().await.unwrap();
    assert_eq!(monitor.take_overdue().await.unwrap(), (0, 0));
    assert_eq!(fixture.overdue().await, []);
    fixture.clock.advance(Duration::from_secs(40));
    assert_eq!(monitor.take_overdue().await.unwrap(), (0, 0), "nothing behind them is answered");
    assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![unanswered]));
    assert_eq!(fixture.alerts().await.len(), 1);
    for id in [unanswered, now] {
        let row = fixture.open(id).await.unwrap();
        assert_eq!((row.status, row.attempt), (Status::Sent, 1));
    }
}

async fn a_clock_that_ran_ahead_keeps_no_attempt_waiting(fixture: OutboxFixture) {
    let monitor = fixture.monitor();
    let fail = async |key: &str| {
        let id = fixture.append(SNAPSHOT, key, 1).await;
        fixture.send(id, 1, 0).await;
        fixture.settle(vec![fixture.ack(id, 1, Verdict::Failed)]).await;
        id
    };
    let due = async |id: EventId| fixture.open(id).await.unwrap().due_us;
    fixture.clock.advance(Duration::from_secs(86_400));
    let ahead = fail("A").await;
    fixture.clock.set_back(Duration::from_secs(86_400));
    let waits = fail("B").await;
    let later = due(waits).await;
    assert!(later > fixture.env.now() && due(ahead).await > later);
    monitor.look().await.unwrap();
    assert_eq!(due(ahead).await, fixture.env.now());
    assert_eq!(due(waits).await, later, "a pause is no longer than others");
}

/// What was sent to the topic before it was made anew is lost, and what is sent to it now is not blamed for that.
async fn a_topic_that_was_made_anew_proves_nothing(fixture: OutboxFixture) {
    fixture.offset.store(5_000, Ordering::Relaxed);
    let (answered, lost) =
        (fixture.append(SNAPSHOT, "A", 1).await, fixture.append(SNAPSHOT, "B", 1).await);
    fixture.send(answered, 1, 0).await;
    fixture.send(lost, 1, 0).await;
    let old = Ack {
        partition: Some(0),
        offset: Some(5_000),
        ..fixture.ack(answered, 1, Verdict::Success)
    };
    fixture.settle(vec![old.clone()]).await;
    fixture.clock.advance(Duration::from_secs(10));
    fixture.offset.store(0, Ordering::Relaxed);
    let before = fixture.env.now().before(Duration::from_secs(2));
    let anew = BTreeMap::from([(0, 0)]);
    fixture.run(move |conn| store::begin_anew(conn, TOPIC, &anew, before, before)).await;
    let (fresh, later) =
        (fixture.append(SNAPSHOT, "C", 1).await, fixture.append(SNAPSHOT, "D", 1).await);
    fixture.send(fresh, 1, 0).await;
    fixture.send(later, 1, 0).await;
    fixture.clock.advance(Duration::from_secs(60));
    // An answer of the old topic that was on its way proves nothing of the new one.
    fixture.settle(vec![Ack { event_id: later, offset: Some(5_001), ..old }]).await;
    assert_eq!(fixture.overdue().await, []);
    let first =
        Ack { partition: Some(0), offset: Some(0), ..fixture.ack(fresh, 1, Verdict::Success) };
    fixture.settle(vec![first]).await;
    assert_eq!(fixture.overdue().await, [lost]);
}

/// A message may lie twice in its partition as the same attempt: its first copy's answer proves nothing of the second.
async fn a_copy_of_a_message_proves_no_more_than_its_place(fixture: OutboxFixture) {
    let twice = fixture.append(SNAPSHOT, "A", 1).await;
    let between = fixture.append(SNAPSHOT, "B", 1).await;
    let first = fixture.next_offset();
    fixture.send(between, 1, 0).await;
    fixture.send(twice, 1, 0).await;
    fixture.clock.advance(Duration::from_secs(60));
    let answer =
        Ack { partition: Some(0), offset: first, ..fixture.ack(twice, 1, Verdict::Success) };
    fixture.settle(vec![answer]).await;
    assert_eq!(fixture.overdue().await, []);
    assert_eq!(fixture.open(between).await.unwrap().status, Status::Sent);
}

/// Another answer may be faster than that to what lies before it; there is time for both.
async fn an_answer_may_come_behind_a_later_one(fixture: OutboxFixture) {
    let (first, second) =
        (fixture.append(SNAPSHOT, "A", 1).await, fixture.append(SNAPSHOT, "B", 1).await);
    fixture.send(first, 1, 0).await;
    fixture.send(second, 1, 0).await;
    fixture.clock.advance(Duration::from_secs(60));
    let monitor = fixture.monitor();
    monitor.look().await.unwrap();
    fixture.settle(vec![fixture.ack(second, 1, Verdict::Success)]).await;
    monitor.look().await.unwrap();
    fixture.clock.advance(Duration::from_secs(4));
    monitor.look().await.unwrap();
    assert_eq!(monitor.take_overdue().await.unwrap(), (0, 0));
    fixture.clock.advance(Duration::from_secs(1));
    monitor.look().await.unwrap();
    assert_eq!(monitor.take_overdue().await.unwrap(), (1, 0));
}
