//! An inbox on either database, and what tests do with it.

use common::clock::ManualClock;
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::on;
use common::schema::{counter, dead_letter, inbox};
use common::telemetry::Spans;
use diesel::prelude::*;
use serde_json::json;

use super::*;
use crate::alerts::{Condition, tests::alerts_to_nobody};
use crate::batch::BatchError;
use crate::kafka::{Signing, received_for_tests};
use crate::restored::ReadPositions;

/// Counts each event's effect by key; keys say what goes wrong.
#[derive(Clone, Default)]
pub(super) struct Counting {
    /// Whether it fails whatever it is given.
    pub(super) broken: Arc<AtomicBool>,
}

impl Handler for Counting {
    fn is_command(&self, event_type: &str) -> bool {
        event_type == "test.command"
    }

    fn apply(
        &self,
        conn: &mut Conn,
        _now: Timestamp,
        events: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        assert!(!self.broken.load(Ordering::Relaxed), "a flaw that meets everything");
        let mut answers = Vec::new();
        for event in events {
            answers.push(match event.key.as_str() {
                "no" => HandlerOutcome::Rejected { result: json!({"reason": "out of stock"}) },
                "fails" => {
                    HandlerOutcome::Failed { error: "no such shelf".to_owned(), retryable: true }
                }
                "panics" => panic!("a flaw of the handler"),
                key => {
                    effect(conn, key)?;
                    HandlerOutcome::Success {
                        detail: Detail::Applied,
                        version: Some(7),
                        result: None,
                    }
                }
            });
        }
        Ok(answers)
    }
}

pub(super) fn effect(conn: &mut Conn, key: &str) -> QueryResult<()> {
    let row = (counter::name.eq(key), counter::slot.eq(0), counter::value.eq(1_i64));
    // "taken" is a row that the data forbids: it is there already.
    if key == "taken" {
        on!(conn, c => diesel::insert_into(counter::table).values(row).execute(c))?;
        return Ok(());
    }
    on!(conn, c => diesel::insert_into(counter::table)
        .values(row)
        .on_conflict((counter::name, counter::slot))
        .do_update()
        .set(counter::value.eq(counter::value + 1))
        .execute(c))?;
    Ok(())
}

/// An inbox with a handler that counts, on a clock that stands still.
pub(super) struct InboxFixture {
    pub(super) db: Db,
    pub(super) env: Env,
    pub(super) inbox: Inbox,
    pub(super) handler: Counting,
    _database: TestDatabase,
}

impl InboxFixture {
    pub(super) fn new(database: TestDatabase) -> Self {
        let env = Env::seeded(Arc::new(ManualClock::at(START)), 3);
        let db = database.open(&[ENGINE_MIGRATIONS]);
        let handler = Counting::default();
        let inbox = Inbox {
            db: db.clone(),
            env: env.clone(),
            handler: Arc::new(handler.clone()),
            consumer: "order-service".to_owned(),
            spans: Spans::off(env.clone()),
            control: Control::default(),
            positions: ReadPositions::new("order-service", "events"),
            signing: Signing::default(),
        };
        Self { db, env, inbox, handler, _database: database }
    }

    pub(super) fn event(&self, event_type: &str, key: &str) -> Event {
        Event {
            id: self.env.event_id(),
            event_type: event_type.to_owned(),
            key: key.to_owned(),
            epoch: 1,
            attempt: 1,
            time: START,
            traceparent: None,
            data: b"{}".to_vec(),
        }
    }

    pub(super) async fn deliver(&self, events: &[Event]) -> Vec<Ack> {
        let records: Vec<Record> = events.iter().map(record).collect();
        let applied = self.inbox.apply(records, false).await.unwrap();
        applied.acks.into_iter().map(|(_, ack)| ack).collect()
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.write(|conn| work(conn).map_err(DbError::from)).await.unwrap()
    }

    pub(super) async fn effects(&self, key: &'static str) -> i64 {
        let row = counter::table.find((key, 0_i16)).select(counter::value);
        let value: Option<i64> =
            self.run(move |conn| on!(conn, c => row.first(c).optional())).await;
        value.unwrap_or(0)
    }

    pub(super) async fn kept(&self) -> i64 {
        self.run(|conn| on!(conn, c => inbox::table.count().get_result(c))).await
    }

    pub(super) fn condition(&self, kind: AlertKind, patience: Duration) -> Condition {
        let (db, env) = (self.db.clone(), self.env.clone());
        Condition::new(db, env, alerts_to_nobody(), kind, patience)
    }

    pub(super) async fn dead_letters(&self) -> i64 {
        self.run(|conn| on!(conn, c => dead_letter::table.count().get_result(c))).await
    }
}

pub(super) fn record(event: &Event) -> Record {
    signed(event, &Signing::default())
}

pub(super) fn signed(event: &Event, signing: &Signing) -> Record {
    let envelope = Envelope { source: "/product-service".to_owned(), event: event.clone() };
    let message = envelope.into_message("inventory", 2);
    received_for_tests(&message, signing.sign(&message))
}
