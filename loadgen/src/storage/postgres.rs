//! The layouts on PostgreSQL.

use std::borrow::Cow;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Integer, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::report::{Metric, Metrics};
use super::statement::Statement;
use super::{Event, Layout, PROCESSED, Relayed, SENT, SHARDS, Store};

/// How statements get their plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Plans {
    /// Prepared; the server may settle on a plan made while the tables were empty.
    Auto,
    /// Prepared, planned again at every execution (`plan_cache_mode = force_custom_plan`).
    Custom,
    /// Prepared, planned once on the empty tables.
    Generic,
    /// Prepared, planned once, with everything but index scans and nested loops discouraged.
    Index,
    /// Not prepared: parsed and planned at every execution, as `diesel::sql_query` does.
    Unnamed,
}

impl Plans {
    fn settings(self) -> Option<&'static str> {
        match self {
            Self::Auto | Self::Unnamed => None,
            Self::Custom => Some("SET plan_cache_mode = force_custom_plan"),
            Self::Generic => Some("SET plan_cache_mode = force_generic_plan"),
            Self::Index => Some(
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
                 SET enable_hashjoin = off; SET enable_mergejoin = off;
                 SET enable_bitmapscan = off; SET enable_sort = off;
                 SET max_parallel_workers_per_gather = 0",
            ),
        }
    }
}

/// The statements of a layout; every `{}` is a bind, in the order of [`Store`]'s methods.
struct Sql {
    tables: String,
    insert: &'static str,
    read: Cow<'static, str>,
    mark: Cow<'static, str>,
    lock: Option<&'static str>,
    settle: &'static str,
    /// The table whose updates should stay on their page.
    updated: &'static str,
}

const WIDE: &str = "
    CREATE TABLE outbox (
        due_at int8 NOT NULL, sent_at int8, settled_at int8, version int8 NOT NULL,
        id uuid PRIMARY KEY, attempt int4 NOT NULL DEFAULT 0, attempt_limit int4 NOT NULL DEFAULT 5,
        partition int4, shard int2 NOT NULL, status int2 NOT NULL DEFAULT 0, outcome int2,
        key text NOT NULL, payload text NOT NULL);";

const SPLIT: &str = "
    CREATE TABLE outbox_event (
        created_at int8 NOT NULL, version int8 NOT NULL, id uuid PRIMARY KEY,
        key text NOT NULL, payload text NOT NULL);
    CREATE TABLE outbox_open (
        due_at int8 NOT NULL, sent_at int8, id uuid PRIMARY KEY,
        attempt int4 NOT NULL DEFAULT 0, attempt_limit int4 NOT NULL DEFAULT 5, partition int4,
        shard int2 NOT NULL, status int2 NOT NULL DEFAULT 0);
    CREATE TABLE outbox_settled (
        sent_at int8, settled_at int8 NOT NULL, id uuid PRIMARY KEY, attempt int4 NOT NULL,
        partition int4, status int2 NOT NULL, outcome int2 NOT NULL);";

const SEQUENCED: &str = "
    CREATE SEQUENCE outbox_seq CACHE 100;
    CREATE TABLE outbox_event (
        seq int8 PRIMARY KEY, created_at int8 NOT NULL, version int8 NOT NULL, id uuid NOT NULL,
        key text NOT NULL, payload text NOT NULL);
    CREATE TABLE outbox_open (
        seq int8 PRIMARY KEY, due_at int8 NOT NULL, sent_at int8, id uuid NOT NULL UNIQUE,
        attempt int4 NOT NULL DEFAULT 0, attempt_limit int4 NOT NULL DEFAULT 5, partition int4,
        shard int2 NOT NULL, status int2 NOT NULL DEFAULT 0);
    CREATE TABLE outbox_settled (
        seq int8 NOT NULL, sent_at int8, settled_at int8 NOT NULL, id uuid PRIMARY KEY,
        attempt int4 NOT NULL, partition int4, status int2 NOT NULL, outcome int2 NOT NULL);";

/// Leaves room on the page for the SENT version of each row.
const ROOM: &str = "ALTER TABLE outbox_open SET (fillfactor = 50);";

const SPLIT_INSERT: &str = "
    WITH new AS MATERIALIZED (
        SELECT * FROM unnest({}::uuid[], {}::text[], {}::int2[], {}::int8[], {}::text[])
            AS b (id, key, shard, version, payload) CROSS JOIN (VALUES ({}::int8)) AS n (now)),
    event AS (
        INSERT INTO outbox_event (id, key, version, payload, created_at)
        SELECT id, key, version, payload, now FROM new)
    INSERT INTO outbox_open (id, shard, due_at) SELECT id, shard, now FROM new";

const SPLIT_READ: &str = "
    SELECT o.id, 0::int8, o.attempt, e.key, e.version, e.payload
    FROM (SELECT id, attempt FROM outbox_open
          WHERE status = 0 AND due_at <= {} AND shard = ANY({})
          ORDER BY id LIMIT {}) AS o
    JOIN outbox_event AS e ON e.id = o.id ORDER BY o.id";

const SPLIT_MARK: &str = "
    UPDATE outbox_open AS o
    SET status = 1, attempt = b.attempt + 1, partition = b.partition, sent_at = b.now
    FROM (SELECT * FROM unnest({}::uuid[], {}::int4[], {}::int4[]) AS b (id, attempt, partition)
          CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
    WHERE o.id = b.id AND o.status = 0 AND o.attempt = b.attempt";

/// Keeps a partial index on (shard, id) out of the compare-and-set: it matches the predicate, so
/// the planner may walk all of it to find a single id.
const UNINDEXED: &str = "o.status + 0 = 0";

const SPLIT_LOCK: &str = "
    SELECT id, status, attempt, attempt_limit FROM outbox_open
    WHERE id = ANY({}) ORDER BY id FOR UPDATE";

const SPLIT_SETTLE: &str = "
    WITH gone AS (
        DELETE FROM outbox_open AS o USING unnest({}::uuid[], {}::int2[]) AS b (id, outcome)
        WHERE o.id = b.id RETURNING o.id, o.attempt, o.partition, o.sent_at, b.outcome)
    INSERT INTO outbox_settled (id, status, attempt, outcome, partition, sent_at, settled_at)
    SELECT id, 2, attempt, outcome, partition, sent_at, {}::int8 FROM gone";

impl Sql {
    fn of(layout: Layout) -> Self {
        match layout {
            Layout::A | Layout::As => Self::wide(layout),
            Layout::D => Self::sequenced(),
            _ => Self::split(layout),
        }
    }

    fn wide(layout: Layout) -> Self {
        let (columns, guard, read) = match layout {
            Layout::A => (
                "id",
                "o.status = 0",
                "SELECT id, 0::int8, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND shard = ANY({})
                 ORDER BY id LIMIT {}",
            ),
            _ => (
                "shard, id",
                UNINDEXED,
                "SELECT id, 0::int8, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND shard = {}
                 ORDER BY id LIMIT {}",
            ),
        };
        Self {
            tables: format!("{WIDE} CREATE INDEX ON outbox ({columns}) WHERE status = 0;"),
            insert: "
                INSERT INTO outbox (id, key, shard, version, payload, due_at)
                SELECT id, key, shard, version, payload, now
                FROM unnest({}::uuid[], {}::text[], {}::int2[], {}::int8[], {}::text[])
                    AS b (id, key, shard, version, payload) CROSS JOIN (VALUES ({}::int8)) n (now)",
            read: read.into(),
            mark: "
                UPDATE outbox AS o
                SET status = 1, attempt = b.attempt + 1, partition = b.partition, sent_at = b.now
                FROM (SELECT * FROM unnest({}::uuid[], {}::int4[], {}::int4[])
                          AS b (id, attempt, partition)
                      CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
                WHERE o.id = b.id AND o.status = 0 AND o.attempt = b.attempt"
                .replace("o.status = 0", guard)
                .into(),
            lock: Some(
                "SELECT id, status, attempt, attempt_limit FROM outbox
                 WHERE id = ANY({}) ORDER BY id FOR UPDATE",
            ),
            settle: "
                UPDATE outbox AS o SET status = 2, outcome = b.outcome, settled_at = b.now
                FROM (SELECT * FROM unnest({}::uuid[], {}::int2[]) AS b (id, outcome)
                      CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
                WHERE o.id = b.id",
            updated: "outbox",
        }
    }

    fn split(layout: Layout) -> Self {
        let extra = match layout {
            Layout::Bx => "",
            Layout::C => "CREATE INDEX ON outbox_open (shard, id) WHERE status = 0;",
            _ => ROOM,
        };
        Self {
            tables: format!("{SPLIT} {extra}"),
            insert: SPLIT_INSERT,
            read: match layout {
                Layout::C => "SELECT o.id, 0::int8, o.attempt, e.key, e.version, e.payload
                     FROM (SELECT id, attempt FROM outbox_open
                           WHERE status = 0 AND due_at <= {} AND shard = {}
                           ORDER BY id LIMIT {}) AS o
                     JOIN outbox_event AS e ON e.id = o.id ORDER BY o.id"
                    .into(),
                Layout::F => SPLIT_READ.replace("ORDER BY id ", "AND id >= {} ORDER BY id ").into(),
                _ => SPLIT_READ.into(),
            },
            mark: match layout {
                Layout::C => SPLIT_MARK.replace("o.status = 0", UNINDEXED).into(),
                _ => SPLIT_MARK.into(),
            },
            lock: (layout != Layout::E).then_some(SPLIT_LOCK),
            settle: SPLIT_SETTLE,
            updated: "outbox_open",
        }
    }

    fn sequenced() -> Self {
        Self {
            tables: format!("{SEQUENCED} {ROOM}"),
            insert: "
                WITH new AS MATERIALIZED (
                    SELECT nextval('outbox_seq') AS seq, * FROM
                        unnest({}::uuid[], {}::text[], {}::int2[], {}::int8[], {}::text[])
                            AS b (id, key, shard, version, payload)
                        CROSS JOIN (VALUES ({}::int8)) AS n (now)),
                event AS (
                    INSERT INTO outbox_event (seq, id, key, version, payload, created_at)
                    SELECT seq, id, key, version, payload, now FROM new)
                INSERT INTO outbox_open (seq, id, shard, due_at) SELECT seq, id, shard, now FROM new",
            read: "
                SELECT o.id, o.seq, o.attempt, e.key, e.version, e.payload
                FROM (SELECT id, seq, attempt FROM outbox_open
                      WHERE status = 0 AND due_at <= {} AND shard = ANY({})
                      ORDER BY seq LIMIT {}) AS o
                JOIN outbox_event AS e ON e.seq = o.seq ORDER BY o.seq".into(),
            mark: "
                UPDATE outbox_open AS o
                SET status = 1, attempt = b.attempt + 1, partition = b.partition, sent_at = b.now
                FROM (SELECT * FROM unnest({}::int8[], {}::int4[], {}::int4[])
                          AS b (seq, attempt, partition)
                      CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
                WHERE o.seq = b.seq AND o.status = 0 AND o.attempt = b.attempt"
                .into(),
            lock: Some(SPLIT_LOCK),
            settle: "
                WITH gone AS (
                    DELETE FROM outbox_open AS o
                    USING unnest({}::uuid[], {}::int2[]) AS b (id, outcome) WHERE o.id = b.id
                    RETURNING o.seq, o.id, o.attempt, o.partition, o.sent_at, b.outcome)
                INSERT INTO outbox_settled
                    (seq, id, status, attempt, outcome, partition, sent_at, settled_at)
                SELECT seq, id, 2, attempt, outcome, partition, sent_at, {}::int8 FROM gone",
            updated: "outbox_open",
        }
    }
}

/// One layout in a schema of its own, dropped at the end.
struct Postgres {
    connection: PgConnection,
    layout: Layout,
    sql: Sql,
    prepared: bool,
    /// The shard that is read next, where they are read one by one.
    turn: i16,
    /// The lowest id that may be open, for the layout that starts reading there.
    low: Uuid,
}

/// Makes the layout's empty tables.
pub(super) fn open(
    url: &str,
    layout: Layout,
    plans: Plans,
    autovacuum: bool,
) -> Result<Box<dyn Store>> {
    let mut connection = PgConnection::establish(url)?;
    let sql = Sql::of(layout);
    connection.batch_execute(
        "SET client_min_messages = warning;
         DROP SCHEMA IF EXISTS stockloop_storage_benchmark CASCADE;
         CREATE SCHEMA stockloop_storage_benchmark;
         SET search_path = stockloop_storage_benchmark",
    )?;
    connection.batch_execute(&sql.tables)?;
    if !autovacuum {
        let tables: &[&str] = match layout {
            Layout::A | Layout::As => &["outbox"],
            _ => &["outbox_event", "outbox_open", "outbox_settled"],
        };
        for table in tables {
            connection
                .batch_execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)"))?;
        }
    }
    // Every run starts right after a checkpoint, so full page images cost each the same.
    connection.batch_execute("CHECKPOINT")?;
    if let Some(settings) = plans.settings() {
        connection.batch_execute(settings)?;
    }
    let prepared = plans != Plans::Unnamed;
    Ok(Box::new(Postgres { connection, layout, sql, prepared, turn: 0, low: Uuid::nil() }))
}

/// A row the relay reads: id, seq, attempt, key, version, payload.
type ReadSql = (SqlUuid, BigInt, Integer, Text, BigInt, Text);
type ReadRow = (Uuid, i64, i32, String, i64, String);
/// A row settle locks: id, status, attempt, attempt limit.
type LockSql = (SqlUuid, SmallInt, Integer, Integer);
type LockRow = (Uuid, i16, i32, i32);

impl Postgres {
    fn read_once(&mut self, limit: usize, now: i64) -> Result<Vec<Relayed>> {
        let statement = Statement::<Pg, ReadSql>::new(self.sql.read.clone())
            .prepared(self.prepared)
            .bind::<BigInt, _>(now);
        let statement = match self.layout {
            Layout::As | Layout::C => statement.bind::<SmallInt, _>(self.turn),
            _ => statement.bind::<Array<SmallInt>, _>((0..SHARDS).collect::<Vec<_>>()),
        };
        let statement = match self.layout {
            Layout::F => statement.bind::<SqlUuid, _>(self.low),
            _ => statement,
        };
        let rows: Vec<ReadRow> =
            statement.bind::<BigInt, _>(i64::try_from(limit)?).load(&mut self.connection)?;
        Ok(rows
            .into_iter()
            .map(|(id, seq, attempt, key, _, payload)| Relayed {
                id,
                seq,
                attempt,
                // Stands for the client's use of key and payload.
                partition: (key.len() + payload.len()) as i32 % 12,
            })
            .collect())
    }
}

impl Store for Postgres {
    fn insert(&mut self, events: &[Event], now: i64) -> Result<()> {
        let statement = Statement::<Pg>::new(self.sql.insert)
            .prepared(self.prepared)
            .bind::<Array<SqlUuid>, _>(events.iter().map(|e| e.id).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(events.iter().map(|e| e.key.as_str()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(events.iter().map(|e| e.shard).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(events.iter().map(|e| e.version).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(events.iter().map(|e| e.payload.as_str()).collect::<Vec<_>>())
            .bind::<BigInt, _>(now);
        self.connection.transaction(|connection| statement.execute(connection))?;
        Ok(())
    }

    fn read(&mut self, limit: usize, now: i64) -> Result<Vec<Relayed>> {
        if !matches!(self.layout, Layout::As | Layout::C) {
            return self.read_once(limit, now);
        }
        for _ in 0..SHARDS {
            let batch = self.read_once(limit, now)?;
            self.turn = (self.turn + 1) % SHARDS;
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
        Ok(Vec::new())
    }

    fn mark(&mut self, batch: &[Relayed], now: i64) -> Result<usize> {
        let statement = Statement::<Pg>::new(self.sql.mark.as_ref()).prepared(self.prepared);
        let statement =
            match self.layout {
                Layout::D => statement
                    .bind::<Array<BigInt>, _>(batch.iter().map(|e| e.seq).collect::<Vec<_>>()),
                _ => statement
                    .bind::<Array<SqlUuid>, _>(batch.iter().map(|e| e.id).collect::<Vec<_>>()),
            };
        Ok(statement
            .bind::<Array<Integer>, _>(batch.iter().map(|e| e.attempt).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(batch.iter().map(|e| e.partition).collect::<Vec<_>>())
            .bind::<BigInt, _>(now)
            .execute(&mut self.connection)?)
    }

    fn settle(&mut self, batch: &[Relayed], now: i64) -> Result<usize> {
        let mut ids: Vec<Uuid> = batch.iter().map(|event| event.id).collect();
        ids.sort_unstable();
        let (sql, prepared) = (&self.sql, self.prepared);
        let settled = self.connection.transaction(|connection| -> Result<usize> {
            if let Some(lock) = sql.lock {
                let rows: Vec<LockRow> = Statement::<Pg, LockSql>::new(lock)
                    .prepared(prepared)
                    .bind::<Array<SqlUuid>, _>(ids)
                    .load(connection)?;
                let sent =
                    |(_, status, attempt, limit): &LockRow| *status == SENT && attempt <= limit;
                ensure!(rows.iter().all(sent), "an acknowledged event was not SENT");
                ids = rows.into_iter().map(|(id, ..)| id).collect();
            }
            let outcomes = vec![PROCESSED; ids.len()];
            Ok(Statement::<Pg>::new(sql.settle)
                .prepared(prepared)
                .bind::<Array<SqlUuid>, _>(ids)
                .bind::<Array<SmallInt>, _>(outcomes)
                .bind::<BigInt, _>(now)
                .execute(connection)?)
        })?;
        if self.layout == Layout::F && settled > 0 {
            // What is open is above what was settled first, in this benchmark's order of acks.
            self.low = batch.iter().map(|event| event.id).max().unwrap_or(self.low);
        }
        Ok(settled)
    }

    fn written(&mut self) -> Result<Option<i64>> {
        let statement =
            Statement::<Pg, BigInt>::new("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8");
        Ok(Some(statement.get_result(&mut self.connection)?))
    }

    fn process(&mut self) -> Result<Option<i32>> {
        let statement = Statement::<Pg, Integer>::new("SELECT pg_backend_pid()");
        Ok(Some(statement.get_result(&mut self.connection)?))
    }

    fn finish(&mut self, metrics: &mut Metrics) -> Result<()> {
        let size: i64 = Statement::<Pg, BigInt>::new(
            "SELECT sum(pg_total_relation_size(c.oid))::int8 FROM pg_class AS c
             WHERE relnamespace = 'stockloop_storage_benchmark'::regnamespace AND relkind = 'r'",
        )
        .get_result(&mut self.connection)?;
        metrics.insert(Metric::Size, size as f64);
        let name = format!("stockloop_storage_benchmark.{}", self.sql.updated);
        self.connection.batch_execute("SELECT pg_stat_force_next_flush()")?;
        let hot: f64 = Statement::<Pg, Double>::new(
            "SELECT coalesce(100.0 * pg_stat_get_tuples_hot_updated(t)
                 / nullif(pg_stat_get_tuples_updated(t), 0), 0)::float8
             FROM (SELECT {}::text::regclass::oid AS t) AS t",
        )
        .bind::<Text, _>(name)
        .get_result(&mut self.connection)?;
        metrics.insert(Metric::Hot, hot);
        self.connection.batch_execute("DROP SCHEMA stockloop_storage_benchmark CASCADE")?;
        Ok(())
    }
}
