//! The first step of the loop: the event is written with the change that causes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, Unnest, column};
use common::env::Env;
use common::event::{EventRow, NewEvent};
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{outbox_event, outbox_pending, service_state};
use common::telemetry::Spans;
use diesel::QueryResult;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};
use tokio::sync::Notify;

use super::alarm::{Alarm, notify_in};
use super::listener::Listener;
use super::model::NewPending;
use super::neighbours::Neighbours;

/// Shards of the outbox: relays hold them one by one, and a partition of the topic takes whole shards.
pub const SHARDS: i16 = 64;

/// Where a service's changes put their events; cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    env: Env,
    max_attempts: i32,
    woken: Arc<Notify>,
    alarm: Alarm,
    neighbours: Neighbours,
    appends: Arc<AtomicU64>,
    listener: Option<Arc<dyn Listener>>,
    spans: Spans,
}

impl Outbox {
    /// An outbox whose events have `max_attempts` attempts before they wait for a person, and begin their own traces
    /// in `spans` where they belong to none.
    pub fn new(env: Env, max_attempts: i32, spans: Spans) -> Self {
        Self {
            env,
            max_attempts,
            woken: Arc::default(),
            alarm: Alarm::default(),
            neighbours: Neighbours::default(),
            appends: Arc::default(),
            listener: None,
            spans,
        }
    }

    /// The same outbox, with someone who acts on what becomes of its events.
    #[must_use]
    pub fn with_listener(mut self, listener: Option<Arc<dyn Listener>>) -> Self {
        self.listener = listener;
        self
    }

    /// Who acts on what becomes of its events.
    pub fn listener(&self) -> Option<&Arc<dyn Listener>> {
        self.listener.as_ref()
    }

    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// The epoch that this database's events carry: raised when it came back from a backup.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn epoch(conn: &mut Conn) -> QueryResult<i64> {
        on!(conn, c => service_state::table.select(service_state::epoch).first(c))
    }

    /// Writes `events` in the caller's transaction, in order, and returns their ids.
    ///
    /// The caller holds the lock of each key's row by now, so that a key's ids grow with its versions, and
    /// calls [`Outbox::wake`] once the transaction is committed.
    ///
    /// # Errors
    /// When a statement fails; the change must then be rolled back with it.
    pub fn append(&self, conn: &mut Conn, events: Vec<NewEvent>) -> QueryResult<Vec<EventId>> {
        self.append_of(conn, events.into_iter().map(|event| (event, None)).collect())
    }

    /// As [`Outbox::append`]; an event with an epoch keeps that: it is a state of before, sent once more.
    ///
    /// # Errors
    /// When a statement fails.
    pub(crate) fn append_of(
        &self,
        conn: &mut Conn,
        events: Vec<(NewEvent, Option<i64>)>,
    ) -> QueryResult<Vec<EventId>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.appends.fetch_add(1, Ordering::Relaxed);
        let (now, tx) = begin(conn)?;
        let epochs: Vec<Option<i64>> = events.iter().map(|(_, epoch)| epoch.or(now)).collect();
        let rows = events.into_iter().zip(&epochs);
        let rows = rows.map(|((event, _), epoch)| self.rows(event, epoch.unwrap_or_default(), tx));
        let (events, pending): (Vec<_>, Vec<_>) = rows.unzip();
        insert(conn, epochs, &events, &pending)?;
        Ok(events.into_iter().map(|event| event.id).collect())
    }

    fn rows(&self, event: NewEvent, epoch: i64, tx: Option<i64>) -> (EventRow, NewPending) {
        let now = self.env.now();
        let id = self.env.event_id();
        let pending = NewPending {
            id,
            shard: shard_of(&event.key),
            tx,
            attempt_limit: self.max_attempts,
            due_us: now,
            size: i32::try_from(event.payload.len()).unwrap_or(i32::MAX),
        };
        let event = EventRow {
            id,
            kind: event.event_type.kind,
            event_type: event.event_type.name.to_owned(),
            key: event.key,
            epoch,
            version: event.version,
            payload: event.payload,
            traceparent: Some(self.spans.rooted(event.traceparent)),
            created_us: now,
        };
        (event, pending)
    }

    /// Tells the relays of all instances, and the listener, that events were committed or became due, so that nobody
    /// waits for the sweep.
    pub fn wake(&self) {
        self.wake_here();
        self.neighbours.tell();
    }

    /// Tells this instance's relay, and the listener, that something was committed which others need not look at.
    pub fn wake_here(&self) {
        self.woken.notify_one();
        if let Some(listener) = &self.listener {
            listener.committed();
        }
    }

    /// Tells this instance's relay once what failed is `due` for another attempt: it does not wait for the sweep.
    pub(crate) fn wake_at(&self, due: Timestamp) {
        if let Some(wait) = self.alarm.set(self.env.now(), due) {
            notify_in(&self.woken, wait);
        }
    }

    /// [`Outbox::wake`] if events were appended in this process since `watch` was asked the last time, else
    /// [`Outbox::wake_here`]: for a loop whose transactions seldom append any.
    pub fn wake_after(&self, watch: &AppendWatch) {
        match watch.any_new() {
            true => self.wake(),
            false => self.wake_here(),
        }
    }

    /// Knows whether events are appended from now on.
    pub fn watch_appends(&self) -> AppendWatch {
        let seen = self.appends.load(Ordering::Relaxed).into();
        AppendWatch { appends: Arc::clone(&self.appends), seen }
    }

    /// Where other instances are told of what was committed here.
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// What [`Outbox::wake`] notifies.
    pub fn notify(&self) -> &Arc<Notify> {
        &self.woken
    }
}

/// Whether events were appended in this process, by whatever transaction, since it was asked the last time.
#[derive(Debug)]
pub struct AppendWatch {
    appends: Arc<AtomicU64>,
    seen: AtomicU64,
}

impl AppendWatch {
    fn any_new(&self) -> bool {
        let appends = self.appends.load(Ordering::Relaxed);
        self.seen.swap(appends, Ordering::Relaxed) != appends
    }
}

/// The epoch, and the number of this append, where the database writes neither down itself.
fn begin(conn: &mut Conn) -> QueryResult<(Option<i64>, Option<i64>)> {
    use service_state as s;
    match conn {
        Conn::Pg(_) => Ok((None, None)),
        Conn::Sqlite(c) => diesel::update(s::table)
            .set(s::appended.eq(s::appended + 1))
            .returning((s::epoch, s::appended))
            .get_result(c)
            .map(|(epoch, appended): (i64, i64)| (Some(epoch), Some(appended))),
    }
}

fn insert(
    conn: &mut Conn,
    epochs: Vec<Option<i64>>,
    events: &[EventRow],
    pending: &[NewPending],
) -> QueryResult<()> {
    match conn {
        Conn::Pg(c) => insert_postgres(c, epochs, events, pending),
        Conn::Sqlite(c) => {
            for chunk in events.chunks(ROWS_PER_INSERT) {
                diesel::insert_into(outbox_event::table).values(chunk).execute(c)?;
            }
            for chunk in pending.chunks(ROWS_PER_INSERT) {
                diesel::insert_into(outbox_pending::table).values(chunk).execute(c)?;
            }
            Ok(())
        }
    }
}

/// What the database writes down itself: the number of the transaction, and the epoch where none of `epochs` is given.
/// The events come second, as PostgreSQL does what nothing refers to at the end; they refer to no other row.
fn insert_postgres(
    c: &mut PgConnection,
    epochs: Vec<Option<i64>>,
    events: &[EventRow],
    pending: &[NewPending],
) -> QueryResult<()> {
    Unnest::of(
        "WITH n AS (SELECT * FROM unnest(…) AS n (id, kind, event_type, key, epoch, version, payload, traceparent, \
           created_us, shard, attempt_limit, size)), \
         event AS (INSERT INTO outbox_event \
           (id, kind, event_type, key, epoch, version, payload, traceparent, created_us) \
           SELECT id, kind, event_type, key, coalesce(epoch, (SELECT epoch FROM service_state)), version, payload, \
             traceparent, created_us FROM n) \
         INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size) \
         SELECT id, shard, attempt_limit, created_us, size FROM n",
    )
    .column::<EventIdSql, _>(column(events, |event| event.id))
    .column::<SmallInt, _>(column(events, |event| event.kind.code()))
    .column::<Text, _>(column(events, |event| event.event_type.as_str()))
    .column::<Text, _>(column(events, |event| event.key.as_str()))
    .column::<Nullable<BigInt>, _>(epochs)
    .column::<BigInt, _>(column(events, |event| event.version))
    .column::<Text, _>(column(events, |event| event.payload.as_str()))
    .column::<Nullable<Text>, _>(column(events, |event| event.traceparent.as_deref()))
    .column::<BigInt, _>(column(events, |event| event.created_us))
    .column::<SmallInt, _>(column(pending, |row| row.shard))
    .column::<Integer, _>(column(pending, |row| row.attempt_limit))
    .column::<Integer, _>(column(pending, |row| row.size))
    .execute(c)
    .map(drop)
}

/// The seed of murmur2 in Kafka's own partitioner.
const KAFKA_SEED: u32 = 0x9747_b28c;

/// The shard of a key: Kafka's own hash, so that keys lie in the partitions where its default partitioner
/// would put them, wherever the number of partitions divides [`SHARDS`].
pub fn shard_of(key: &str) -> i16 {
    let hash = murmur2::murmur2(key.as_bytes(), KAFKA_SEED) & 0x7fff_ffff;
    // The remainder is below SHARDS, so it fits.
    i16::try_from(hash % u32::from(SHARDS.unsigned_abs())).unwrap_or(0)
}

/// The partition that a shard's events go to.
pub fn partition_of(shard: i16, partitions: i32) -> i32 {
    i32::from(shard) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::clock::ManualClock;
    use tokio::time::timeout;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[actix_web::test]
    async fn the_relay_is_woken_when_what_failed_is_due() {
        let clock = ManualClock::at(Timestamp::from_micros(1_700_000_000_000_000));
        let env = Env::seeded(Arc::new(clock), 1);
        let outbox = Outbox::new(env.clone(), 5, Spans::off(env.clone()));
        for pause in [Duration::ZERO, Duration::from_millis(10)] {
            outbox.wake_at(env.now().after(pause));
            let woken = timeout(MINUTE, outbox.notify().notified()).await;
            assert!(woken.is_ok(), "{pause:?}");
        }
    }

    /// Values of Apache Kafka's own test of its murmur2.
    #[test]
    fn hashes_as_kafka_does() {
        for (key, hash) in [("21", -973_932_308), ("foobar", -790_332_482), ("abc", 479_470_107)] {
            assert_eq!(murmur2::murmur2(key.as_bytes(), KAFKA_SEED).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_partition_takes_whole_shards() {
        assert_eq!(partition_of(shard_of("foobar"), 4), i32::from(shard_of("foobar")) % 4);
        assert!((0..1_000).all(|n| (0..SHARDS).contains(&shard_of(&n.to_string()))));
    }
}
