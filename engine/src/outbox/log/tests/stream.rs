//! The reader on a real PostgreSQL: a transaction that is far larger than all that may wait here.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use stockloop_tests::database;
use stockloop_tests::poll::eventually;
use stockloop_tests::postgres::{Binaries, PostgresServer};
use stockloop_tests::real;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::super::SHARDS;
use super::super::super::store::snapshot;
use super::super::feed::{Ended, LogFeed, TablesShare, Taken};
use super::super::{LogError, LogReader};

const MINUTE: Duration = Duration::from_secs(60);

/// A server of its own: a slot waits for all that is written on its server, and that takes long here.
const SETTINGS: [&str; 2] = ["wal_level=logical", "fsync=off"];

/// What may wait for the relay, and what one piece may exceed that by.
const ROOM: usize = 20_500;

/// Nobody looks for events here.
const WITHOUT_INDEXES: &str = "DROP INDEX outbox_event_key, outbox_event_version";

const APPEND_A_MILLION: &str = "
    INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 0, 'test.changed', 'K' || n % 64, 1, n, '{}', 0
    FROM generate_series(1, 1000000) AS n";

const APPEND_ONE: &str = "
    INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us)
    VALUES (gen_random_uuid(), 0, 'test.changed', 'AFTERWARDS', 1, 1, '{}', 0)";

/// A log that is read, and nobody but the test who takes what it brings.
struct Reading {
    db: Db,
    feed: LogFeed,
    woken: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), LogError>>,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl Reading {
    /// Begins to read, and to follow.
    async fn start(url: String) -> Self {
        let db = database::open(&url);
        db.migrate(&[ENGINE_MIGRATIONS]).unwrap();
        let (feed, woken) = (LogFeed::default(), Arc::new(Notify::new()));
        let reader = LogReader {
            db: db.clone(),
            env: Env::system(),
            url: url.into(),
            service: "reads".to_owned(),
            most_kept: u64::MAX,
            feed: feed.clone(),
            woken: Arc::clone(&woken),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            reader.read_while(|| true, &stopped, false, async |_: &str| {}).await
        });
        let reading = Self { db, feed, woken, stop, task };
        eventually("the log to be followed", MINUTE, async || {
            reading.follow().await;
            if reading.feed.is_followed() { Ok(()) } else { Err(reading.task.is_finished()) }
        })
        .await;
        reading
    }

    /// As the relay's next read of the table does: what had ended by then is the table's.
    async fn follow(&self) {
        if let TablesShare::Last(session) = self.feed.of_the_table() {
            let read = |conn: &mut Conn| Ok::<_, DbError>(snapshot(conn)?);
            let ended: Ended = self.db.read(read).await.unwrap().ended.unwrap();
            // If it is unread again by now, the table goes on.
            _ = self.feed.follow(session, &ended);
        }
    }

    /// Takes up to 4,000 events, as a step of the relay does, and is done with them; returns their shards and versions.
    fn take(&self) -> Vec<(i16, i64)> {
        let shards: Vec<i16> = (0..SHARDS).collect();
        let Taken { rows, places } = self.feed.take(&shards, 4_000, |_| true);
        self.feed.finish(places);
        rows.iter().map(|row| (row.shard, row.version)).collect()
    }

    /// Runs a statement, and returns the number of its transaction.
    async fn run(&self, sql: &'static str) -> i64 {
        let work = move |conn: &mut Conn| {
            conn.batch_execute(sql)?;
            let of = sql_query("SELECT pg_current_xact_id()::text::bigint AS n");
            let Number { n } = on!(conn, c => of.get_result(c))?;
            Ok::<_, DbError>(n)
        };
        self.db.write(work).await.unwrap()
    }

    async fn number(&self, sql: String) -> i64 {
        let read = move |conn: &mut Conn| {
            let Number { n } = on!(conn, c => sql_query(sql).get_result(c))?;
            Ok::<_, DbError>(n)
        };
        self.db.read(read).await.unwrap()
    }

    /// Waits until the reader has told the server once more that it lives.
    async fn until_the_server_is_told(&self) {
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS n".to_owned();
        let since = self.number(now).await;
        let told = format!(
            "SELECT count(*) AS n FROM pg_replication_slots s \
             JOIN pg_stat_replication r ON r.pid = s.active_pid \
             WHERE s.database = current_database() AND extract(epoch FROM r.reply_time) * 1e6 > {since}"
        );
        eventually("the server to be told", MINUTE, async || {
            match self.number(told.clone()).await {
                1 => Ok(()),
                n => Err((n, self.task.is_finished())),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_a_million_events_waits_in_bounded_room() {
    let started = Binaries::find().and_then(|found| PostgresServer::start_with(found, &SETTINGS));
    let Some(server) = real::available("PostgreSQL", started) else { return };
    let reading = Reading::start(server.database("million")).await;
    reading.run(WITHOUT_INDEXES).await;
    let transaction = reading.run(APPEND_A_MILLION).await;
    eventually("the room to be full", MINUTE, async || {
        if reading.feed.is_full() { Ok(()) } else { Err(reading.feed.waiting()) }
    })
    .await;
    // Nobody takes anything: the server has to wait, and knows that the reader lives.
    reading.until_the_server_is_told().await;
    assert!(reading.feed.waiting() <= ROOM, "{} wait", reading.feed.waiting());

    // Each at most once, in its shard's order; what does not come by the log is the table's in the end.
    let (mut last, mut by_log): (BTreeMap<i16, i64>, usize) = (BTreeMap::new(), 0);
    loop {
        assert!(reading.feed.waiting() <= ROOM, "{} wait", reading.feed.waiting());
        let taken = reading.take();
        for (shard, version) in &taken {
            let before = last.insert(*shard, *version);
            assert!(before.is_none_or(|before| before < *version), "{version} of {shard}");
        }
        by_log += taken.len();
        reading.follow().await;
        match reading.feed.of_the_table() {
            TablesShare::Of(ended) if ended.has(transaction) => break,
            _ if taken.is_empty() => timeout(MINUTE, reading.woken.notified()).await.unwrap(),
            _ => {}
        }
    }
    println!("{by_log} of a million came by the log");
    eventually("a later event to come by the log", MINUTE, async || {
        reading.run(APPEND_ONE).await;
        reading.follow().await;
        if reading.take().is_empty() { Err(reading.task.is_finished()) } else { Ok(()) }
    })
    .await;
    reading.stop.cancel();
    reading.task.await.unwrap().unwrap();
}
