//! What is paused is left alone, and nothing else is.

use common::event::{NewEvent, Status};

use super::super::overdue::OverdueMonitor;
use super::super::pause::{self, EVERYTHING, PauseRow};
use super::*;

on_every_database!(OutboxFixture::new =>
    a_paused_key_starves_nobody,
    a_pause_is_put_and_ended,
    a_silent_partition_is_not_probed_with_what_is_paused,
    many_events_are_acted_on_at_once,
    an_error_is_kept_with_its_class,
);

impl OutboxFixture {
    async fn pause(&self, key: &str) -> bool {
        let row = PauseRow {
            key: key.to_owned(),
            reason: "it hurts".to_owned(),
            since_us: self.env.now(),
            by_whom: "anna".to_owned(),
        };
        self.run(move |conn| pause::put(conn, &row)).await
    }

    /// Keys of what the relay would send next.
    async fn due_keys(&self, limit: usize) -> Vec<String> {
        let paused = self.run(pause::all).await;
        let due = self.due(0..SHARDS, paused.keys, limit).await;
        due.into_iter().map(|row| row.key).collect()
    }
}

async fn a_paused_key_starves_nobody(fixture: OutboxFixture) {
    let events = |key: &'static str, count: i64| {
        let outbox = fixture.outbox.clone();
        let event = move |version| NewEvent {
            event_type: SNAPSHOT,
            key: key.to_owned(),
            version,
            payload: "{}".to_owned(),
            traceparent: None,
        };
        fixture.run(move |conn| outbox.append(conn, (1..=count).map(event).collect()))
    };
    events("PAUSED", 3_000).await;
    events("B", 2).await;
    let neighbour = (0..).map(|n| format!("N{n}")).find(|key| shard_of(key) == shard_of("PAUSED"));
    fixture.append(SNAPSHOT, &neighbour.clone().unwrap(), 1).await;
    assert_eq!(fixture.due_keys(2).await, ["PAUSED", "PAUSED"]);
    assert!(fixture.pause("PAUSED").await);
    let begun = std::time::Instant::now();
    let others = ["B", "B", &neighbour.unwrap()];
    assert_eq!(
        fixture.due_keys(3).await,
        others,
        "neither a page full of what is paused, nor its whole shard left out"
    );
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let waits = fixture.run(|conn| pause::end(conn, "PAUSED")).await;
    assert!(waits && fixture.due_keys(1).await == ["PAUSED"]);
}

async fn a_pause_is_put_and_ended(fixture: OutboxFixture) {
    assert!(
        fixture.pause(EVERYTHING).await && fixture.pause("B").await && fixture.pause("A").await
    );
    fixture.clock.advance(Duration::from_secs(9));
    assert!(!fixture.pause("A").await, "a second reason is no second pause");
    let row = fixture.run(|conn| pause::find(conn, "A")).await.unwrap();
    assert_eq!(row.since_us, START);
    let keys = fixture.run(|conn| pause::list(conn, "", 10)).await;
    assert_eq!(keys.iter().map(|row| &*row.key).collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(fixture.run(pause::count).await, 2);
    let all = fixture.run(pause::all).await;
    assert!(all.everything && all.keys == ["A", "B"]);
    assert_eq!(fixture.run(store::snapshot).await.paused, all, "as a step asks");
    for (key, ended) in [("A", true), ("A", false), (EVERYTHING, true)] {
        assert_eq!(fixture.run(move |conn| pause::end(conn, key)).await, ended);
    }
    let all = fixture.run(pause::all).await;
    assert!(!all.everything && all.keys == ["B"]);
}

async fn a_silent_partition_is_not_probed_with_what_is_paused(fixture: OutboxFixture) {
    let paused = fixture.append(SNAPSHOT, "A", 1).await;
    let other = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.send(paused, 1, 3).await;
    fixture.send(other, 1, 3).await;
    let probes = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(1) };
    let monitor = OverdueMonitor { probes, ..fixture.monitor() };
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![paused]));
    fixture.pause("A").await;
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![other]));
    fixture.pause(EVERYTHING).await;
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![]));
    assert_eq!(fixture.alerts().await.len(), 1, "one alert tells of the episode all the same");
    assert_eq!(monitor.take_overdue().await.unwrap(), (0, 0));
    let row = fixture.open(paused).await.unwrap();
    assert_eq!((row.status, row.attempt), (Status::Sent, 1), "a pause costs nothing");
}

async fn many_events_are_acted_on_at_once(fixture: OutboxFixture) {
    use operate::{OperatorAction, act_on_all};
    let mut ids = Vec::new();
    for version in 1..=5 {
        let id = fixture.append(COMMAND, "A", version).await;
        let mut row = fixture.open(id).await.unwrap();
        row.status = if version == 5 { Status::Pending } else { Status::Exhausted };
        row.attempt = if version == 5 { 0 } else { 5 };
        fixture.force(row).await;
        ids.push(id);
    }
    let processed = ids[3];
    fixture.settle(vec![fixture.ack(processed, 5, Verdict::Success)]).await;
    let stranger = fixture.env.event_id();
    let asked: Vec<EventId> = ids.iter().copied().chain([stranger]).collect();
    let act = |action: OperatorAction| {
        let (outbox, asked) = (fixture.outbox.clone(), asked.clone());
        fixture
            .run(move |conn| act_on_all(conn, &outbox, &asked, &action, "anna (job 1)", Some("x")))
    };
    let resolved = act(OperatorAction::Resolve).await;
    assert_eq!(resolved.done, ids[..3]);
    let why: Vec<(EventId, &str)> =
        resolved.skipped.iter().map(|(id, why)| (*id, why.split(',').next().unwrap())).collect();
    let left = [
        (processed, "it is PROCESSED"),
        (ids[4], "it is PENDING"),
        (stranger, "there is no such event"),
    ];
    assert_eq!(why, left);
    assert_eq!(
        act(OperatorAction::Resolve).await.skipped[0],
        (ids[0], "it is resolved already".to_owned())
    );
    let retried = act(OperatorAction::Retry { more_attempts: 2 }).await;
    assert_eq!(retried.done, ids[..3]);
    for id in &ids[..3] {
        let row = fixture.open(*id).await.unwrap();
        assert_eq!((row.status, row.attempt_limit), (Status::Pending, 7));
        let history: Vec<String> =
            fixture.history(*id).await.into_iter().map(|line| line.1).collect();
        assert_eq!(history, ["RESOLVED", "RETRIED"]);
    }
}

async fn an_error_is_kept_with_its_class(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 0).await;
    let mut ack = fixture.ack(id, 1, Verdict::Failed);
    ack.error = Some("shelf \"7\" holds 12 of 300".to_owned());
    fixture.settle(vec![ack]).await;
    let classes: Vec<Option<String>> = fixture
        .run(move |conn| {
            on!(conn, c => outbox_history::table
                .filter(outbox_history::event_id.eq(id))
                .select(outbox_history::class)
                .load(c))
        })
        .await;
    assert_eq!(classes, [Some("shelf '…' holds # of #".to_owned())]);
}
