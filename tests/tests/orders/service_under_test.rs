//! One service without broker: its database, what goes out of it and what comes in.

use std::sync::Arc;
use std::time::Duration;

use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS, MigrationSet};
use common::env::Env;
use common::event::{Event, EventRow};
use common::on;
use common::retry::Backoff;
use common::schema::{inbox, outbox_event, outbox_open};
use common::telemetry::Spans;
use diesel::prelude::*;
use engine::inbox::{Control, Handler, Inbox};
use engine::kafka::{Ack, AckBatch, Envelope, Message, Record, Signing, Verdict};
use engine::outbox::{FirstAttempts, Listener, OpenRow, Outbox, Policy, Settler, operate};
use engine::restored::ReadPositions;
use stockloop_tests::database::TestDatabase;

/// A service's half of the loop; everything but the database is made anew by [`ServiceUnderTest::restart`].
pub(crate) struct ServiceUnderTest {
    db: Db,
    pub(crate) env: Env,
    pub(crate) outbox: Outbox,
    inbox: Inbox,
    settler: Settler,
    name: &'static str,
    other: &'static str,
    hooks: MakeHooks,
    clock: ManualClock,
    _database: TestDatabase,
}

/// What makes a service's handler and listener over its outbox.
pub(crate) type MakeHooks = fn(&Outbox) -> (Arc<dyn Handler>, Option<Arc<dyn Listener>>);

/// Attempts of an event: more than any script uses up.
const ATTEMPTS: i32 = 1_000;

impl ServiceUnderTest {
    pub(crate) fn open(
        name: &'static str,
        other: &'static str,
        set: MigrationSet,
        clock: &ManualClock,
        hooks: MakeHooks,
    ) -> Self {
        let database = TestDatabase::sqlite();
        let db = database.open(&[ENGINE_MIGRATIONS, set]);
        let (env, outbox, inbox, settler) = parts(&db, name, other, clock, hooks);
        let clock = clock.clone();
        Self { db, env, outbox, inbox, settler, name, other, hooks, clock, _database: database }
    }

    /// Forgets all that is not in the database.
    pub(crate) fn restart(&mut self) {
        let parts = parts(&self.db, self.name, self.other, &self.clock, self.hooks);
        (self.env, self.outbox, self.inbox, self.settler) = parts;
    }

    pub(crate) async fn write<T: Send + 'static, E>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        self.db.write(work).await
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.read(|conn| work(conn).map_err(DbError::from)).await.unwrap()
    }

    /// What is open in the outbox: its row and its event, oldest first.
    pub(crate) async fn open_events(&self) -> Vec<(OpenRow, EventRow)> {
        self.read(|conn| {
            on!(conn, c => outbox_open::table
                .inner_join(outbox_event::table.on(outbox_event::id.eq(outbox_open::id)))
                .order(outbox_open::id)
                .select((OpenRow::as_select(), EventRow::as_select()))
                .load(c))
        })
        .await
    }

    /// The messages of all that is open, as the relay would send them.
    pub(crate) async fn messages(&self) -> Vec<Record> {
        let rows = self.open_events().await;
        rows.into_iter().map(|(open, event)| self.message(open, event).into()).collect()
    }

    fn message(&self, open: OpenRow, event: EventRow) -> Message {
        let event = Event {
            id: event.id,
            event_type: event.event_type,
            key: event.key,
            epoch: event.epoch,
            attempt: open.attempt + 1,
            time: event.created_us,
            traceparent: event.traceparent,
            data: event.payload.into_bytes(),
        };
        Envelope { source: format!("/{}", self.name), event }.into_message("events", 0)
    }

    /// Receives events in one batch; returns the message with the answers.
    pub(crate) async fn receive(&self, records: Vec<Record>) -> Record {
        let applied = self.inbox.apply(records, false).await.unwrap();
        assert_eq!(applied.unreadable, 0);
        let acks = applied.acks.into_iter().map(|(_, ack)| ack).collect();
        self.ack_batch(acks)
    }

    fn ack_batch(&self, acks: Vec<Ack>) -> Record {
        let (id, now) = (self.env.event_id(), self.env.now());
        AckBatch { acks }.to_message(id, now, self.name, "acks", 0).unwrap().into()
    }

    /// Receives answers.
    pub(crate) async fn settle(&self, records: Vec<Record>) {
        let settlement = self.settler.settle(&self.db, records, false).await.unwrap();
        assert_eq!(settlement.unreadable + settlement.unknown + settlement.foreign, 0);
    }

    /// Receives the answer that the other service can't handle an event, for good.
    pub(crate) async fn receive_failure(&self, open: &OpenRow) {
        let ack = Ack {
            event_id: open.id,
            attempt: open.attempt + 1,
            outcome: Verdict::Failed,
            detail: None,
            error: Some("no such shelf".to_owned()),
            retryable: false,
            version: None,
            result: None,
            consumer: self.other.to_owned(),
            processed_at: self.env.now(),
            traceparent: None,
            partition: None,
            offset: None,
        };
        self.settle(vec![self.ack_batch(vec![ack])]).await;
    }

    /// An operator's action on an event that gave up: a retry, else a resolve.
    pub(crate) async fn operate(&self, open: &OpenRow, retry: bool) {
        let (outbox, id) = (self.outbox.clone(), open.id);
        self.write(move |conn| match retry {
            true => operate::retry(conn, &outbox, id, ATTEMPTS, "night shift", None),
            false => operate::resolve(conn, &outbox, id, "night shift", "by phone"),
        })
        .await
        .unwrap();
    }

    /// Forgets which events came, as retention does.
    pub(crate) async fn clear_inbox(&self) {
        self.write(|conn| {
            on!(conn, c => diesel::delete(inbox::table).execute(c)).map_err(DbError::from)
        })
        .await
        .unwrap();
    }
}

fn parts(
    db: &Db,
    name: &'static str,
    other: &'static str,
    clock: &ManualClock,
    hooks: MakeHooks,
) -> (Env, Outbox, Inbox, Settler) {
    let env = Env::seeded(Arc::new(clock.clone()), 1);
    let spans = Spans::off(env.clone());
    let outbox = Outbox::new(env.clone(), ATTEMPTS, spans.clone());
    let (handler, listener) = hooks(&outbox);
    let outbox = outbox.with_listener(listener.clone());
    let consumer = name.to_owned();
    let control = Control::default();
    let positions = ReadPositions::new(name, "events");
    let (db, signing) = (db.clone(), Signing::default());
    let inbox =
        Inbox { db, env: env.clone(), handler, consumer, spans, control, positions, signing };
    let backoff = Backoff { base: Duration::ZERO, max: Duration::ZERO };
    let settler = Settler {
        env: env.clone(),
        policy: Policy { backoff, listener },
        topic: "events".to_owned(),
        consumer: other.to_owned(),
        positions: ReadPositions::new(name, "acks"),
        owner: None,
        first_attempts: FirstAttempts::Ours,
        signing: Signing::default(),
    };
    (env, outbox, inbox, settler)
}

pub(crate) const START: Timestamp = Timestamp::from_micros(1_291_191_960_000_000);
