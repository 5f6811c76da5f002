//! A database as full as after a bad day, to see how the operators' side copes with it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use common::db::{Conn, DatabaseSettings, Db, DbError, ENGINE_MIGRATIONS, Pooler};
use common::env::Env;
use common::on;
use common::schema::outbox_event;
use diesel::prelude::*;
use engine::stats::{Sampler, Window, points};

use crate::made::made;

/// Fills an empty database of a service with events, and times what the operators' side reads.
///
/// Rows come from the database's own generators. Then samples and trends are taken as the service takes them;
/// start the service on the same database to time its answers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen fill --database-url sqlite:full.db
  stockloop-loadgen fill --events 20000 --open 10000 \\
    --database-url postgres://postgres@localhost/full")]
pub(crate) struct Arguments {
    /// The database, as a service would name it
    #[arg(long, value_name = "URL")]
    database_url: String,
    /// Events in all
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1..))]
    events: i64,
    /// How many of them are not settled: one in five SENT, one in fifty EXHAUSTED, the others PENDING
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(i64).range(0..))]
    open: i64,
}

const EVENTS: &str = "INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us) \
     SELECT id, 0, 'stockloop.inventory.changed', 'SKU-' || (n % 5000), 1, n, '{\"quantity\":1}', at_us FROM made";
const PENDING: &str = "INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size) \
     SELECT id, n % 64, 5, at_us, 14 FROM made WHERE n > $EVENTS - $OPEN AND n % 5 <> 0";
const SENT: &str = "INSERT INTO outbox_sent \
       (id, shard, attempt, attempt_limit, partition, sent_us, size) \
     SELECT id, n % 64, 1, 5, n % 4, at_us + 4000, 14 \
     FROM made WHERE n > $EVENTS - $OPEN AND n % 5 = 0 AND n % 50 <> 0";
const EXHAUSTED: &str = "INSERT INTO outbox_failed \
       (id, shard, status, attempt, attempt_limit, due_us, partition, sent_us, size) \
     SELECT id, n % 64, 2, 5, 5, at_us, n % 4, at_us + 4000, 14 \
     FROM made WHERE n > $EVENTS - $OPEN AND n % 50 = 0";
const SETTLED: &str = "INSERT INTO outbox_settled \
       (id, outcome, detail, attempt, partition, sent_us, settled_us, processed_us, consumer) \
     SELECT id, 0, 'applied', 1, n % 4, at_us + 4000, at_us + 9000 + n % 900, at_us + 7000, 'order-service' \
     FROM made WHERE n <= $EVENTS - $OPEN";
/// A week of the trend.
const TREND: &str = "INSERT INTO trend (at_us, committed, sent, processed, failed, waiting, exhausted, oldest_us) \
     SELECT at_us - n * 9999000, $EVENTS - n, $EVENTS - n, $EVENTS - n, 0, n % 100, 0, 1000 FROM made WHERE n <= 60480 AND n <= $EVENTS";

/// Fills and measures.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fill_and_measure(arguments))
}

async fn fill_and_measure(arguments: &Arguments) -> Result<()> {
    let (events, open) = (arguments.events, arguments.open);
    ensure!(open <= events, "--open {open} is more than the {events} of --events");
    let db = Db::open(&DatabaseSettings {
        url: arguments.database_url.clone().into(),
        pooler: Pooler::None,
        pool_size: 2,
        loop_pool_size: 2,
        connect_timeout: Duration::from_secs(5),
    })?;
    db.migrate(&[ENGINE_MIGRATIONS])?;
    let env = Env::system();
    let now = env.now().micros();
    let started = Instant::now();
    ensure!(
        db.write::<_, DbError>(move |conn| Ok(fill(conn, now, events, open)?)).await?,
        "the database has events already; name an empty one"
    );
    println!("filled with {events} events, {open} of them open, in {:.1?}", started.elapsed());
    measure(&db, &env).await
}

/// False when there are events already.
fn fill(conn: &mut Conn, now: i64, events: i64, open: i64) -> QueryResult<bool> {
    let any: i64 = on!(conn, c => outbox_event::table.limit(1).count().get_result(c))?;
    if any > 0 {
        return Ok(false);
    }
    let made = made(conn, events, now);
    // Written in place of the parameters, since not every statement has each of them.
    let values = [("$EVENTS", events), ("$OPEN", open)];
    for insert in [EVENTS, PENDING, SENT, EXHAUSTED, SETTLED, TREND] {
        let mut statement = format!("{made} {insert}");
        for (parameter, value) in values {
            statement = statement.replace(parameter, &value.to_string());
        }
        conn.batch_execute(&statement)?;
    }
    let counts = format!(
        "INSERT INTO counter (name, slot, value) VALUES ('outbox.processed', 0, {0}), ('outbox.sent', 0, {0})",
        events - open
    );
    conn.batch_execute(&counts)?;
    Ok(true)
}

async fn measure(db: &Db, env: &Env) -> Result<()> {
    let sampler = Sampler::default();
    for _ in 0..5 {
        let sample = sampler.run_once(db, env).await?;
        println!("sample: {:.1?}, next one in {:.1?}", sample.took, sample.rest());
    }
    for window in Window::ALL {
        let (started, now) = (Instant::now(), env.now());
        let read = db.read::<_, DbError>(move |conn| Ok(points(conn, now, window)?)).await?;
        println!("trend of {}: {} points in {:.1?}", window.name(), read.len(), started.elapsed());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use common::schema::{outbox_open, outbox_settled, trend};
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;

    use super::*;

    struct FillFixture {
        database: TestDatabase,
    }

    impl FillFixture {
        fn new(database: TestDatabase) -> Self {
            Self { database }
        }

        async fn fill(&self, events: i64, open: i64) -> Result<()> {
            fill_and_measure(&Arguments { database_url: self.database.url(), events, open }).await
        }

        /// Events, those that are open, those that are settled, and points of the trend.
        async fn counts(&self) -> [i64; 4] {
            let db = self.database.open(&[]);
            db.read::<[i64; 4], DbError>(|conn| {
                Ok(on!(conn, c => [
                    outbox_event::table.count().get_result(c)?,
                    outbox_open::table.count().get_result(c)?,
                    outbox_settled::table.count().get_result(c)?,
                    trend::table.count().get_result(c)?,
                ]))
            })
            .await
            .unwrap()
        }
    }

    on_every_database!(FillFixture::new =>
        an_empty_database_is_filled,
        what_can_not_be_filled_is_refused,
    );

    async fn an_empty_database_is_filled(fixture: FillFixture) {
        fixture.fill(3_000, 1_000).await.unwrap();
        assert_eq!(fixture.counts().await, [3_000, 1_000, 2_000, 3_000]);
        let error = fixture.fill(10, 10).await.unwrap_err().to_string();
        assert!(error.contains("has events already"), "{error}");
    }

    async fn what_can_not_be_filled_is_refused(fixture: FillFixture) {
        let error = fixture.fill(10, 11).await.unwrap_err().to_string();
        assert!(error.contains("--open 11"), "{error}");
    }
}
