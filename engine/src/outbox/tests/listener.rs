//! Who acts on what becomes of events: told of each update, in its transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

on_every_database!(OutboxFixture::new =>
    a_listener_gets_every_change_of_what_it_asked_for,
    a_listener_that_fails_takes_the_transition_back,
);

/// Writes down what it hears, and fails where it is told to.
#[derive(Debug, Default)]
struct RecordingListener {
    received: Mutex<Vec<(EventId, EventChange)>>,
    fails: AtomicBool,
}

impl Listener for RecordingListener {
    fn listens_to(&self, event_type: &str) -> bool {
        event_type == COMMAND.name
    }

    fn on_updates(
        &self,
        _conn: &mut Conn,
        _now: Timestamp,
        updates: &[EventUpdate],
    ) -> QueryResult<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(diesel::result::Error::BrokenTransactionManager);
        }
        let received = updates.iter().map(|update| (update.event.id, update.change.clone()));
        self.received.lock().unwrap().extend(received);
        Ok(())
    }
}

impl OutboxFixture {
    fn with_listener(mut self) -> (Self, Arc<RecordingListener>) {
        let listener = Arc::new(RecordingListener::default());
        self.settler.policy.listener = Some(listener.clone());
        self.outbox = self.outbox.with_listener(Some(listener.clone()));
        (self, listener)
    }
}

async fn a_listener_gets_every_change_of_what_it_asked_for(fixture: OutboxFixture) {
    let (fixture, listener) = fixture.with_listener();
    let other = fixture.append(SNAPSHOT, "A", 1).await;
    let id = fixture.append(COMMAND, "A", 0).await;
    fixture.send(id, 1, 0).await;
    let failed = fixture.ack(id, 1, Verdict::Failed);
    fixture.settle(vec![fixture.ack(other, 1, Verdict::Success), failed.clone(), failed]).await;
    fixture.send(id, 2, 0).await;
    let refusal = Ack { retryable: false, ..fixture.ack(id, 2, Verdict::Failed) };
    fixture.settle(vec![refusal]).await;
    let outbox = fixture.outbox.clone();
    let resolved = fixture
        .db
        .write(move |conn| operate::resolve(conn, &outbox, id, "night shift", "done"))
        .await;
    assert!(resolved.unwrap().resolved_us.is_some());
    let outbox = fixture.outbox.clone();
    fixture.db.write(move |conn| operate::retry(conn, &outbox, id, 1, "me", None)).await.unwrap();
    let result = serde_json::value::to_raw_value(&serde_json::json!({"no": 1})).unwrap();
    let no = Ack { result: Some(result), ..fixture.ack(id, 3, Verdict::Rejected) };
    fixture.settle(vec![no.clone(), no]).await;
    let by = |name: &str| Some(name.to_owned());
    let wanted = [
        EventChange::Retrying,
        EventChange::Exhausted { error: "no such shelf".to_owned() },
        EventChange::Resolved { by: by("night shift"), reason: by("done") },
        EventChange::Retried { by: by("me"), reason: None },
        EventChange::Rejected { result: by(r#"{"no":1}"#) },
    ];
    assert_eq!(*listener.received.lock().unwrap(), wanted.map(|change| (id, change)));
}

async fn a_listener_that_fails_takes_the_transition_back(fixture: OutboxFixture) {
    let (fixture, listener) = fixture.with_listener();
    let id = fixture.append(COMMAND, "A", 0).await;
    fixture.send(id, 1, 0).await;
    listener.fails.store(true, Ordering::Relaxed);
    let acks = AckBatch { acks: vec![fixture.ack(id, 1, Verdict::Success)] };
    let record = Record {
        topic: "acks".to_owned(),
        payload: Some(serde_json::to_vec(&acks).unwrap()),
        ..Record::default()
    };
    assert!(fixture.settler.settle(&fixture.db, vec![record.clone()], false).await.is_err());
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Sent);
    listener.fails.store(false, Ordering::Relaxed);
    fixture.settler.settle(&fixture.db, vec![record], false).await.unwrap();
    assert_eq!(fixture.open(id).await, None);
    assert_eq!(listener.received.lock().unwrap().len(), 1);
}
