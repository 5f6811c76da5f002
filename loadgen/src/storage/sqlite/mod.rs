//! The layouts on SQLite, and what group commit buys there.

mod batch;
mod file;
mod group_commit;
mod layouts;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Text};
use diesel::sqlite::Sqlite;
use uuid::Uuid;

use self::batch::{Field, RowValues};
use self::layouts::LayoutSql;
use super::report::{Metric, Metrics};
use super::store::{Cursor, Event, Layout, Relayed, SENT, SHARDS, Store};
use crate::statement::Statement;

pub(super) use self::batch::{BatchStyle, Encoding, IdType};
pub(super) use self::group_commit::group_commit;

/// One layout in a file of its own, removed at the end.
struct SqliteStore {
    connection: SqliteConnection,
    file: PathBuf,
    layout: Layout,
    encoding: Encoding,
    sql: LayoutSql,
    /// The sequence number of the newest event.
    seq: i64,
    cursor: Cursor,
}

/// Makes the layout's empty tables.
pub(super) fn open(
    directory: &Path,
    layout: Layout,
    encoding: Encoding,
    cache: u32,
) -> Result<Box<dyn Store>> {
    let sql = LayoutSql::of(layout);
    let file = directory.join("stockloop-storage-benchmark.db");
    let mut connection = file::connect(&file, cache)?;
    let id_type = match encoding.ids {
        IdType::Text => "TEXT",
        IdType::Blob => "BLOB",
    };
    connection.batch_execute(&sql.tables.replace("{ID}", id_type))?;
    let cursor = Cursor::default();
    Ok(Box::new(SqliteStore { connection, file, layout, encoding, sql, seq: 0, cursor }))
}

/// A row the relay reads: id, seq, attempt, key, version, payload.
type ReadSql<T> = (T, BigInt, Integer, Text, BigInt, Text);
type ReadRow<T> = (T, i64, i32, String, i64, String);
/// A row settle loads: ordinal or seq, status, attempt, attempt limit.
type LoadSql = (BigInt, Integer, Integer, Integer);
type LoadRow = (i64, i32, i32, i32);

impl SqliteStore {
    fn read_statement<ST>(&self, limit: i64, now: i64) -> Statement<'static, Sqlite, ST> {
        let statement = Statement::new(self.sql.read).bind::<BigInt, _>(now);
        let statement = match self.layout.reads_by_shard() {
            true => statement.bind::<BigInt, _>(i64::from(self.cursor.shard)),
            false => statement,
        };
        let lowest = RowValues::of_id(self.cursor.lowest_open);
        lowest.bind(Field::Id, self.encoding.ids, statement).bind::<BigInt, _>(limit)
    }

    fn read_once(&mut self, limit: usize, now: i64) -> Result<Vec<Relayed>> {
        let limit = i64::try_from(limit)?;
        match self.encoding.ids {
            IdType::Blob => self
                .read_statement::<ReadSql<Binary>>(limit, now)
                .load::<ReadRow<Vec<u8>>>(&mut self.connection)?
                .into_iter()
                .map(|(id, seq, attempt, key, _, payload)| {
                    Ok(Relayed::new(Uuid::from_slice(&id)?, seq, attempt, &key, &payload))
                })
                .collect(),
            IdType::Text => self
                .read_statement::<ReadSql<Text>>(limit, now)
                .load::<ReadRow<String>>(&mut self.connection)?
                .into_iter()
                .map(|(id, seq, attempt, key, _, payload)| {
                    Ok(Relayed::new(Uuid::parse_str(&id)?, seq, attempt, &key, &payload))
                })
                .collect(),
        }
    }
}

impl Store for SqliteStore {
    fn insert(&mut self, events: &[Event], now: i64) -> Result<()> {
        let first = self.seq + 1;
        self.seq += events.len() as i64;
        let rows: Vec<RowValues<'_>> = (events.iter().zip(first..))
            .map(|(event, seq)| RowValues::of_event(event, seq, now))
            .collect();
        let (sql, encoding) = (&self.sql, self.encoding);
        self.connection.immediate_transaction(|connection| {
            for statement in sql.insert {
                statement.execute(connection, encoding, &rows)?;
            }
            Ok(())
        })
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
        let rows: Vec<RowValues<'_>> =
            batch.iter().map(|event| RowValues::of_relayed(event, None, now)).collect();
        let (sql, encoding) = (&self.sql, self.encoding);
        self.connection
            .immediate_transaction(|connection| sql.mark.execute(connection, encoding, &rows))
    }

    fn settle(&mut self, batch: &[Relayed], now: i64) -> Result<usize> {
        let sequenced = self.layout == Layout::D;
        let mut rows: Vec<RowValues<'_>> = (batch.iter().enumerate())
            .map(|(index, event)| RowValues::of_relayed(event, (!sequenced).then_some(index), now))
            .collect();
        let (sql, encoding) = (&self.sql, self.encoding);
        let settled = self.connection.immediate_transaction(|connection| -> Result<usize> {
            let mut found: Vec<LoadRow> = Vec::with_capacity(rows.len());
            for statement in sql.load.statements::<LoadSql>(encoding, &rows)? {
                found.extend(statement.load::<LoadRow>(connection)?);
            }
            let sent = |(_, status, attempt, limit): &LoadRow| {
                *status == i32::from(SENT) && attempt <= limit
            };
            ensure!(found.iter().all(sent), "an acknowledged event was not SENT");
            if found.is_empty() {
                rows.clear();
            }
            for statement in sql.settle {
                statement.execute(connection, encoding, &rows)?;
            }
            Ok(found.len())
        })?;
        if self.layout == Layout::F && settled > 0 {
            self.cursor.pass_by(batch);
        }
        Ok(settled)
    }

    fn written(&mut self) -> Result<Option<i64>> {
        Ok(None)
    }

    fn process(&mut self) -> Result<Option<i32>> {
        Ok(None)
    }

    fn finish(&mut self, metrics: &mut Metrics) -> Result<()> {
        let size: i64 = Statement::<Sqlite, BigInt>::new(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        )
        .get_result(&mut self.connection)?;
        metrics.insert(Metric::Size, size as f64);
        file::remove(&self.file)
    }
}
