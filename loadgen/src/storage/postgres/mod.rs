//! The layouts on PostgreSQL.

mod layouts;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Integer, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use self::layouts::LayoutSql;
use super::report::{Metric, Metrics};
use super::store::{Cursor, Event, Layout, PROCESSED, Relayed, SENT, SHARDS, Store};
use crate::statement::Statement;

/// How statements get their plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanMode {
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

impl PlanMode {
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

/// One layout in a schema of its own, dropped at the end.
struct PostgresStore {
    connection: PgConnection,
    layout: Layout,
    sql: LayoutSql,
    prepared: bool,
    cursor: Cursor,
}

/// Makes the layout's empty tables.
pub(super) fn open(
    url: &str,
    layout: Layout,
    plan_mode: PlanMode,
    autovacuum: bool,
) -> Result<Box<dyn Store>> {
    let mut connection = PgConnection::establish(url)?;
    let sql = LayoutSql::of(layout);
    connection.batch_execute(
        "SET client_min_messages = warning;
         DROP SCHEMA IF EXISTS stockloop_storage_benchmark CASCADE;
         CREATE SCHEMA stockloop_storage_benchmark;
         SET search_path = stockloop_storage_benchmark",
    )?;
    connection.batch_execute(&sql.tables)?;
    if !autovacuum {
        let tables: &[&str] = match layout {
            _ if layout.is_wide() => &["outbox"],
            Layout::G => &["outbox_event", "outbox_open", "outbox_sent", "outbox_settled"],
            _ => &["outbox_event", "outbox_open", "outbox_settled"],
        };
        for table in tables {
            connection
                .batch_execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)"))?;
        }
    }
    // Every run starts right after a checkpoint, so full page images cost each the same.
    connection.batch_execute("CHECKPOINT")?;
    if let Some(settings) = plan_mode.settings() {
        connection.batch_execute(settings)?;
    }
    let prepared = plan_mode != PlanMode::Unnamed;
    Ok(Box::new(PostgresStore { connection, layout, sql, prepared, cursor: Cursor::default() }))
}

/// A row the relay reads: id, seq, attempt, key, version, payload.
type ReadSql = (SqlUuid, BigInt, Integer, Text, BigInt, Text);
type ReadRow = (Uuid, i64, i32, String, i64, String);
/// A row settle loads: id, status, attempt, attempt limit.
type LoadSql = (SqlUuid, SmallInt, Integer, Integer);
type LoadRow = (Uuid, i16, i32, i32);

impl PostgresStore {
    fn read_once(&mut self, limit: usize, now: i64) -> Result<Vec<Relayed>> {
        let statement = Statement::<Pg, ReadSql>::new(self.sql.read.clone())
            .prepared(self.prepared)
            .bind::<BigInt, _>(now);
        let statement = match self.layout.reads_by_shard() {
            true => statement.bind::<SmallInt, _>(self.cursor.shard),
            false => statement.bind::<Array<SmallInt>, _>((0..SHARDS).collect::<Vec<_>>()),
        };
        let statement = match self.layout {
            Layout::F => statement.bind::<SqlUuid, _>(self.cursor.lowest_open),
            _ => statement,
        };
        let rows: Vec<ReadRow> =
            statement.bind::<BigInt, _>(i64::try_from(limit)?).load(&mut self.connection)?;
        Ok(rows
            .into_iter()
            .map(|(id, seq, attempt, key, _, payload)| {
                Relayed::new(id, seq, attempt, &key, &payload)
            })
            .collect())
    }
}

impl Store for PostgresStore {
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
        if !self.layout.reads_by_shard() {
            return self.read_once(limit, now);
        }
        for _ in 0..SHARDS {
            let batch = self.read_once(limit, now)?;
            self.cursor.next_shard();
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
            if let Some(load) = sql.load {
                let rows: Vec<LoadRow> = Statement::<Pg, LoadSql>::new(load)
                    .prepared(prepared)
                    .bind::<Array<SqlUuid>, _>(ids)
                    .load(connection)?;
                let sent =
                    |(_, status, attempt, limit): &LoadRow| *status == SENT && attempt <= limit;
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
            self.cursor.pass_by(batch);
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
