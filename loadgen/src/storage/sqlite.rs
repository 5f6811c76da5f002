//! The layouts on SQLite, and what group commit buys there.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Text};
use diesel::sqlite::Sqlite;
use serde_json::json;
use uuid::Uuid;

use super::report::{Metric, Metrics};
use super::statement::Statement;
use super::{Event, Layout, PROCESSED, Relayed, SENT, SHARDS, Store, make, now};

/// How ids are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ids {
    /// 36 characters.
    Text,
    /// 16 bytes.
    Blob,
}

/// How a batch reaches its statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Style {
    /// One statement per row, kept prepared.
    Rows,
    /// One statement per batch, its rows in one JSON text.
    Json,
    /// One statement per batch, its rows in a VALUES list of binds.
    Values,
}

/// What a statement takes from a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Seq,
    Key,
    Shard,
    Version,
    Payload,
    Attempt,
    Partition,
    Outcome,
    Now,
}
use Field::{Attempt, Id, Key, Now, Outcome, Partition, Payload, Seq, Shard, Version};

impl Field {
    fn name(self) -> &'static str {
        match self {
            Id => "id",
            Seq => "seq",
            Key => "key",
            Shard => "shard",
            Version => "version",
            Payload => "payload",
            Attempt => "attempt",
            Partition => "partition",
            Outcome => "outcome",
            Now => "now",
        }
    }
}

/// A row on its way into a statement.
#[derive(Clone, Copy, Default)]
struct Cells<'a> {
    id: Uuid,
    seq: i64,
    key: &'a str,
    shard: i16,
    version: i64,
    payload: &'a str,
    attempt: i32,
    partition: i32,
    outcome: i16,
    now: i64,
}

impl<'a> Cells<'a> {
    fn event(event: &'a Event, seq: i64, now: i64) -> Self {
        Self {
            id: event.id,
            seq,
            key: &event.key,
            shard: event.shard,
            version: event.version,
            payload: &event.payload,
            now,
            ..Self::default()
        }
    }

    fn relayed(event: &Relayed, ordinal: Option<usize>, now: i64) -> Self {
        Self {
            id: event.id,
            seq: ordinal.map_or(event.seq, |ordinal| ordinal as i64),
            attempt: event.attempt,
            partition: event.partition,
            outcome: PROCESSED,
            now,
            ..Self::default()
        }
    }

    fn number(&self, column: Field) -> i64 {
        match column {
            Seq => self.seq,
            Shard => self.shard.into(),
            Version => self.version,
            Attempt => self.attempt.into(),
            Partition => self.partition.into(),
            Outcome => self.outcome.into(),
            Now => self.now,
            Id | Key | Payload => 0,
        }
    }

    fn bind<ST>(
        &self,
        column: Field,
        ids: Ids,
        statement: Statement<'a, Sqlite, ST>,
    ) -> Statement<'a, Sqlite, ST> {
        match (column, ids) {
            (Id, Ids::Text) => statement.bind::<Text, _>(self.id.to_string()),
            (Id, Ids::Blob) => statement.bind::<Binary, _>(self.id.as_bytes().to_vec()),
            (Key, _) => statement.bind::<Text, _>(self.key),
            (Payload, _) => statement.bind::<Text, _>(self.payload),
            _ => statement.bind::<BigInt, _>(self.number(column)),
        }
    }

    fn json(&self, column: Field, ids: Ids) -> serde_json::Value {
        match (column, ids) {
            (Id, Ids::Text) => json!(self.id.to_string()),
            (Id, Ids::Blob) => json!(self.id.simple().to_string()),
            (Key, _) => json!(self.key),
            (Payload, _) => json!(self.payload),
            _ => json!(self.number(column)),
        }
    }
}

/// A statement in two forms: for one row with its binds in the order of `columns`,
/// and for a set of rows named `b` with these columns.
struct Op {
    columns: &'static [Field],
    row: &'static str,
    set: &'static str,
}

impl Op {
    /// The statements that take the rows, in the given style.
    fn statements<'a, ST>(
        &self,
        style: Style,
        ids: Ids,
        rows: &[Cells<'a>],
    ) -> Result<Vec<Statement<'a, Sqlite, ST>>> {
        let columns: Vec<&str> = self.columns.iter().map(|column| column.name()).collect();
        let columns = columns.join(", ");
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match style {
            Style::Rows => Ok(rows
                .iter()
                .map(|row| {
                    self.columns.iter().fold(Statement::new(self.row), |statement, column| {
                        row.bind(*column, ids, statement)
                    })
                })
                .collect()),
            Style::Json => {
                let values: Vec<String> = (self.columns.iter().enumerate())
                    .map(|(index, column)| match (column, ids) {
                        (Id, Ids::Blob) => format!("unhex(value ->> {index})"),
                        _ => format!("value ->> {index}"),
                    })
                    .collect();
                let values = values.join(", ");
                let sql = format!(
                    "WITH b ({columns}) AS (SELECT {values} FROM json_each({{}})) {}",
                    self.set
                );
                let rows: Vec<Vec<serde_json::Value>> = rows
                    .iter()
                    .map(|row| self.columns.iter().map(|column| row.json(*column, ids)).collect())
                    .collect();
                let text = serde_json::to_string(&rows)?;
                Ok(vec![Statement::new(sql).bind::<Text, _>(text)])
            }
            Style::Values => {
                let tuple = format!("({})", vec!["{}"; self.columns.len()].join(","));
                let tuples = vec![tuple.as_str(); rows.len()].join(",");
                let sql = format!("WITH b ({columns}) AS (VALUES {tuples}) {}", self.set);
                let mut statement = Statement::new(sql);
                for row in rows {
                    for column in self.columns {
                        statement = row.bind(*column, ids, statement);
                    }
                }
                Ok(vec![statement])
            }
        }
    }
}

/// A layout's tables and statements.
struct Sql {
    /// `{ID}` stands for the type of ids.
    tables: String,
    insert: &'static [Op],
    read: &'static str,
    mark: Op,
    /// Gives ordinal, status, attempt and attempt limit.
    load: Op,
    settle: &'static [Op],
}

const WIDE: &str = "
    CREATE TABLE outbox (
        id {ID} PRIMARY KEY NOT NULL, key TEXT NOT NULL, shard INTEGER NOT NULL,
        version INTEGER NOT NULL, due_at INTEGER NOT NULL, status INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0, attempt_limit INTEGER NOT NULL DEFAULT 5,
        partition INTEGER, outcome INTEGER, sent_at INTEGER, settled_at INTEGER,
        payload TEXT NOT NULL);";

const SPLIT: &str = "
    CREATE TABLE outbox_open (
        id {ID} PRIMARY KEY NOT NULL, shard INTEGER NOT NULL, due_at INTEGER NOT NULL,
        status INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
        attempt_limit INTEGER NOT NULL DEFAULT 5, partition INTEGER, sent_at INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE outbox_settled (
        id {ID} PRIMARY KEY NOT NULL, status INTEGER NOT NULL, attempt INTEGER NOT NULL,
        outcome INTEGER NOT NULL, partition INTEGER, sent_at INTEGER, settled_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE outbox_event (
        id {ID} PRIMARY KEY NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
        created_at INTEGER NOT NULL, payload TEXT NOT NULL)";

const SEQUENCED: &str = "
    CREATE TABLE outbox_open (
        seq INTEGER PRIMARY KEY, id {ID} NOT NULL, shard INTEGER NOT NULL, due_at INTEGER NOT NULL,
        status INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
        attempt_limit INTEGER NOT NULL DEFAULT 5, partition INTEGER, sent_at INTEGER);
    CREATE TABLE outbox_settled (
        seq INTEGER PRIMARY KEY, status INTEGER NOT NULL, attempt INTEGER NOT NULL,
        outcome INTEGER NOT NULL, partition INTEGER, sent_at INTEGER, settled_at INTEGER NOT NULL);
    CREATE TABLE outbox_event (
        seq INTEGER PRIMARY KEY, id {ID} UNIQUE NOT NULL, key TEXT NOT NULL,
        version INTEGER NOT NULL, created_at INTEGER NOT NULL, payload TEXT NOT NULL);";

const SPLIT_INSERT: &[Op] = &[
    Op {
        columns: &[Id, Key, Version, Now, Payload],
        row: "INSERT INTO outbox_event (id, key, version, created_at, payload)
              VALUES ({}, {}, {}, {}, {})",
        set: "INSERT INTO outbox_event (id, key, version, created_at, payload) SELECT * FROM b",
    },
    Op {
        columns: &[Id, Shard, Now],
        row: "INSERT INTO outbox_open (id, shard, due_at) VALUES ({}, {}, {})",
        set: "INSERT INTO outbox_open (id, shard, due_at) SELECT * FROM b",
    },
];

const SETTLED_INSERT: Op = Op {
    columns: &[Id, Attempt, Outcome, Partition, Now, Now],
    row: "INSERT INTO outbox_settled
              (id, status, attempt, outcome, partition, sent_at, settled_at)
          VALUES ({}, 2, {}, {}, {}, {}, {})",
    set: "INSERT INTO outbox_settled
              (id, status, attempt, outcome, partition, sent_at, settled_at)
          SELECT id, 2, attempt, outcome, partition, now, now FROM b",
};

impl Sql {
    fn of(layout: Layout) -> Self {
        match layout {
            Layout::A | Layout::As => Self::wide(layout),
            Layout::D => Self::sequenced(),
            _ => Self::split(layout),
        }
    }

    fn wide(layout: Layout) -> Self {
        let (columns, read) = match layout {
            Layout::A => (
                "id",
                "SELECT id, 0, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND id >= {} ORDER BY id LIMIT {}",
            ),
            _ => (
                "shard, id",
                "SELECT id, 0, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND shard = {} AND id >= {}
                 ORDER BY id LIMIT {}",
            ),
        };
        Self {
            tables: format!(
                "{WIDE} CREATE INDEX outbox_pending ON outbox ({columns}) WHERE status = 0"
            ),
            insert: &[Op {
                columns: &[Id, Key, Shard, Version, Now, Payload],
                row: "INSERT INTO outbox (id, key, shard, version, due_at, payload)
                      VALUES ({}, {}, {}, {}, {}, {})",
                set: "INSERT INTO outbox (id, key, shard, version, due_at, payload)
                      SELECT * FROM b",
            }],
            read,
            mark: Op {
                columns: &[Partition, Now, Id, Attempt],
                row: "UPDATE outbox
                      SET status = 1, attempt = attempt + 1, partition = {}, sent_at = {}
                      WHERE id = {} AND status = 0 AND attempt = {}",
                set: "UPDATE outbox SET status = 1, attempt = b.attempt + 1,
                          partition = b.partition, sent_at = b.now
                      FROM b WHERE outbox.id = b.id AND outbox.status = 0
                          AND outbox.attempt = b.attempt",
            },
            load: Op {
                columns: &[Seq, Id],
                row: "SELECT {}, status, attempt, attempt_limit FROM outbox WHERE id = {}",
                set: "SELECT b.seq, o.status, o.attempt, o.attempt_limit
                      FROM b CROSS JOIN outbox AS o ON o.id = b.id",
            },
            settle: &[Op {
                columns: &[Outcome, Now, Id],
                row: "UPDATE outbox SET status = 2, outcome = {}, settled_at = {} WHERE id = {}",
                set: "UPDATE outbox SET status = 2, outcome = b.outcome, settled_at = b.now
                      FROM b WHERE outbox.id = b.id",
            }],
        }
    }

    fn split(layout: Layout) -> Self {
        let extra = match layout {
            // The payload's own tree is ordered by id: no second index, but wide inner pages.
            Layout::Bx => "WITHOUT ROWID",
            Layout::C => {
                "; CREATE INDEX outbox_pending ON outbox_open (shard, id) WHERE status = 0"
            }
            _ => "",
        };
        Self {
            tables: format!("{SPLIT} {extra}"),
            insert: SPLIT_INSERT,
            read: match layout {
                Layout::C => {
                    "SELECT o.id, 0, o.attempt, e.key, e.version, e.payload
                     FROM outbox_open AS o CROSS JOIN outbox_event AS e ON e.id = o.id
                     WHERE o.status = 0 AND o.due_at <= {} AND o.shard = {} AND o.id >= {}
                     ORDER BY o.id LIMIT {}"
                }
                _ => {
                    "SELECT o.id, 0, o.attempt, e.key, e.version, e.payload
                     FROM outbox_open AS o CROSS JOIN outbox_event AS e ON e.id = o.id
                     WHERE o.status = 0 AND o.due_at <= {} AND o.id >= {} ORDER BY o.id LIMIT {}"
                }
            },
            mark: Op {
                columns: &[Partition, Now, Id, Attempt],
                row: "UPDATE outbox_open
                      SET status = 1, attempt = attempt + 1, partition = {}, sent_at = {}
                      WHERE id = {} AND status = 0 AND attempt = {}",
                set: "UPDATE outbox_open SET status = 1, attempt = b.attempt + 1,
                          partition = b.partition, sent_at = b.now
                      FROM b WHERE outbox_open.id = b.id AND outbox_open.status = 0
                          AND outbox_open.attempt = b.attempt",
            },
            load: match layout {
                Layout::E => Op {
                    columns: &[Id],
                    row: "DELETE FROM outbox_open WHERE id = {}
                          RETURNING 0, status, attempt, attempt_limit",
                    set: "DELETE FROM outbox_open WHERE id IN (SELECT id FROM b)
                          RETURNING 0, status, attempt, attempt_limit",
                },
                _ => Op {
                    columns: &[Seq, Id],
                    row: "SELECT {}, status, attempt, attempt_limit FROM outbox_open WHERE id = {}",
                    set: "SELECT b.seq, o.status, o.attempt, o.attempt_limit
                          FROM b CROSS JOIN outbox_open AS o ON o.id = b.id",
                },
            },
            settle: match layout {
                Layout::E => &[SETTLED_INSERT],
                _ => &[
                    SETTLED_INSERT,
                    Op {
                        columns: &[Id],
                        row: "DELETE FROM outbox_open WHERE id = {}",
                        set: "DELETE FROM outbox_open WHERE id IN (SELECT id FROM b)",
                    },
                ],
            },
        }
    }

    fn sequenced() -> Self {
        Self {
            tables: SEQUENCED.to_owned(),
            insert: &[
                Op {
                    columns: &[Seq, Id, Key, Version, Now, Payload],
                    row: "INSERT INTO outbox_event (seq, id, key, version, created_at, payload)
                          VALUES ({}, {}, {}, {}, {}, {})",
                    set: "INSERT INTO outbox_event (seq, id, key, version, created_at, payload)
                          SELECT * FROM b",
                },
                Op {
                    columns: &[Seq, Id, Shard, Now],
                    row: "INSERT INTO outbox_open (seq, id, shard, due_at) VALUES ({}, {}, {}, {})",
                    set: "INSERT INTO outbox_open (seq, id, shard, due_at) SELECT * FROM b",
                },
            ],
            read: "
                SELECT o.id, o.seq, o.attempt, e.key, e.version, e.payload
                FROM outbox_open AS o CROSS JOIN outbox_event AS e ON e.seq = o.seq
                WHERE o.status = 0 AND o.due_at <= {} AND o.id >= {} ORDER BY o.seq LIMIT {}",
            mark: Op {
                columns: &[Partition, Now, Seq, Attempt],
                row: "UPDATE outbox_open
                      SET status = 1, attempt = attempt + 1, partition = {}, sent_at = {}
                      WHERE seq = {} AND status = 0 AND attempt = {}",
                set: "UPDATE outbox_open SET status = 1, attempt = b.attempt + 1,
                          partition = b.partition, sent_at = b.now
                      FROM b WHERE outbox_open.seq = b.seq AND outbox_open.status = 0
                          AND outbox_open.attempt = b.attempt",
            },
            // An ack knows the event's id only.
            load: Op {
                columns: &[Id],
                row: "SELECT o.seq, o.status, o.attempt, o.attempt_limit
                      FROM outbox_event AS e CROSS JOIN outbox_open AS o ON o.seq = e.seq
                      WHERE e.id = {}",
                set: "SELECT o.seq, o.status, o.attempt, o.attempt_limit
                      FROM b CROSS JOIN outbox_event AS e ON e.id = b.id
                      CROSS JOIN outbox_open AS o ON o.seq = e.seq",
            },
            settle: &[
                Op {
                    columns: &[Seq, Attempt, Outcome, Partition, Now, Now],
                    row: "INSERT INTO outbox_settled
                              (seq, status, attempt, outcome, partition, sent_at, settled_at)
                          VALUES ({}, 2, {}, {}, {}, {}, {})",
                    set: "INSERT INTO outbox_settled
                              (seq, status, attempt, outcome, partition, sent_at, settled_at)
                          SELECT seq, 2, attempt, outcome, partition, now, now FROM b",
                },
                Op {
                    columns: &[Seq],
                    row: "DELETE FROM outbox_open WHERE seq = {}",
                    set: "DELETE FROM outbox_open WHERE seq IN (SELECT seq FROM b)",
                },
            ],
        }
    }
}

/// One layout in a file of its own, removed at the end.
struct SqliteStore {
    connection: SqliteConnection,
    file: PathBuf,
    layout: Layout,
    ids: Ids,
    style: Style,
    sql: Sql,
    turn: i16,
    seq: i64,
    low: Uuid,
}

/// Makes the layout's empty tables.
pub(super) fn open(
    directory: &Path,
    layout: Layout,
    ids: Ids,
    style: Style,
    cache: u32,
) -> Result<Box<dyn Store>> {
    let sql = Sql::of(layout);
    let file = directory.join("stockloop-storage-benchmark.db");
    let mut connection = connect(&file, cache)?;
    let kind = match ids {
        Ids::Text => "TEXT",
        Ids::Blob => "BLOB",
    };
    connection.batch_execute(&sql.tables.replace("{ID}", kind))?;
    let (turn, seq, low) = (0, 0, Uuid::nil());
    Ok(Box::new(SqliteStore { connection, file, layout, ids, style, sql, turn, seq, low }))
}

fn connect(file: &Path, cache: u32) -> Result<SqliteConnection> {
    remove(file)?;
    let name = file.to_str().context("the directory's name is not UTF-8")?;
    let mut connection = SqliteConnection::establish(name)?;
    // With automatic indexes, a compare-and-set from a VALUES list may scan the whole open table.
    connection.batch_execute(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA automatic_index = OFF; PRAGMA cache_size = -{}",
        u64::from(cache) * 1024
    ))?;
    Ok(connection)
}

fn remove(file: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// A row the relay reads: id, seq, attempt, key, version, payload.
type ReadSql<T> = (T, BigInt, Integer, Text, BigInt, Text);
/// A row settle loads: ordinal or seq, status, attempt, attempt limit.
type LoadSql = (BigInt, Integer, Integer, Integer);
type LoadRow = (i64, i32, i32, i32);

impl SqliteStore {
    fn read_statement<ST>(&self, limit: i64, now: i64) -> Statement<'static, Sqlite, ST> {
        let statement = Statement::new(self.sql.read).bind::<BigInt, _>(now);
        let statement = match self.layout {
            Layout::As | Layout::C => statement.bind::<BigInt, _>(i64::from(self.turn)),
            _ => statement,
        };
        let low = Cells { id: self.low, ..Cells::default() };
        low.bind(Id, self.ids, statement).bind::<BigInt, _>(limit)
    }

    fn read_once(&mut self, limit: usize, now: i64) -> Result<Vec<Relayed>> {
        let limit = i64::try_from(limit)?;
        // Stands for the client's use of key and payload.
        let used = |key: &str, payload: &str| (key.len() + payload.len()) as i32 % 12;
        match self.ids {
            Ids::Blob => self
                .read_statement::<ReadSql<Binary>>(limit, now)
                .load::<(Vec<u8>, i64, i32, String, i64, String)>(&mut self.connection)?
                .into_iter()
                .map(|(id, seq, attempt, key, _, payload)| {
                    let id = Uuid::from_slice(&id)?;
                    Ok(Relayed { id, seq, attempt, partition: used(&key, &payload) })
                })
                .collect(),
            Ids::Text => self
                .read_statement::<ReadSql<Text>>(limit, now)
                .load::<(String, i64, i32, String, i64, String)>(&mut self.connection)?
                .into_iter()
                .map(|(id, seq, attempt, key, _, payload)| {
                    let id = Uuid::parse_str(&id)?;
                    Ok(Relayed { id, seq, attempt, partition: used(&key, &payload) })
                })
                .collect(),
        }
    }

    fn execute(
        connection: &mut SqliteConnection,
        op: &Op,
        style: Style,
        ids: Ids,
        rows: &[Cells<'_>],
    ) -> Result<usize> {
        let mut touched = 0;
        for statement in op.statements::<()>(style, ids, rows)? {
            touched += statement.execute(connection)?;
        }
        Ok(touched)
    }
}

impl Store for SqliteStore {
    fn insert(&mut self, events: &[Event], now: i64) -> Result<()> {
        let first = self.seq + 1;
        self.seq += events.len() as i64;
        let rows: Vec<Cells<'_>> =
            events.iter().zip(first..).map(|(event, seq)| Cells::event(event, seq, now)).collect();
        let (sql, style, ids) = (&self.sql, self.style, self.ids);
        self.connection.immediate_transaction(|connection| {
            for op in sql.insert {
                Self::execute(connection, op, style, ids, &rows)?;
            }
            Ok(())
        })
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
        let rows: Vec<Cells<'_>> =
            batch.iter().map(|event| Cells::relayed(event, None, now)).collect();
        let (sql, style, ids) = (&self.sql, self.style, self.ids);
        self.connection.immediate_transaction(|connection| {
            Self::execute(connection, &sql.mark, style, ids, &rows)
        })
    }

    fn settle(&mut self, batch: &[Relayed], now: i64) -> Result<usize> {
        let sequenced = self.layout == Layout::D;
        let mut rows: Vec<Cells<'_>> = (batch.iter().enumerate())
            .map(|(index, event)| Cells::relayed(event, (!sequenced).then_some(index), now))
            .collect();
        let (sql, style, ids) = (&self.sql, self.style, self.ids);
        let settled = self.connection.immediate_transaction(|connection| -> Result<usize> {
            let mut found: Vec<LoadRow> = Vec::with_capacity(rows.len());
            for statement in sql.load.statements::<LoadSql>(style, ids, &rows)? {
                found.extend(statement.load::<LoadRow>(connection)?);
            }
            let sent = |(_, status, attempt, limit): &LoadRow| {
                *status == i32::from(SENT) && attempt <= limit
            };
            ensure!(found.iter().all(sent), "an acknowledged event was not SENT");
            if found.is_empty() {
                rows.clear();
            }
            for op in sql.settle {
                Self::execute(connection, op, style, ids, &rows)?;
            }
            Ok(found.len())
        })?;
        if self.layout == Layout::F && settled > 0 {
            // What is open is above what was settled first, in this benchmark's order of acks.
            self.low = batch.iter().map(|event| event.id).max().unwrap_or(self.low);
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
        remove(&self.file)
    }
}

/// Measures one change per closure, N closures per commit, as a writer thread with a queue does.
pub(super) fn group_commit(directory: &Path, cache: u32, repeat: usize) -> Result<()> {
    const CHANGES: usize = 4_000;
    println!("closures per commit | savepoints | µs per change | changes per second");
    for round in 1..=repeat {
        for group in [1, 10, 50, 200] {
            for savepoints in [true, false] {
                let micros = grouped(directory, cache, group, CHANGES, savepoints)?;
                println!(
                    "{group:>19} | {savepoints:>10} | {micros:>13.1} | {:>18.0}  (run {round})",
                    1e6 / micros
                );
            }
        }
    }
    Ok(())
}

fn grouped(
    directory: &Path,
    cache: u32,
    group: usize,
    changes: usize,
    savepoints: bool,
) -> Result<f64> {
    let file = directory.join("stockloop-group-commit-benchmark.db");
    let mut connection = connect(&file, cache)?;
    connection.batch_execute(
        "CREATE TABLE inventory (sku TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL,
             on_hand INTEGER NOT NULL) WITHOUT ROWID",
    )?;
    connection.batch_execute(&SPLIT.replace("{ID}", "BLOB"))?;
    let events = make(0, changes, 245);
    let start = Instant::now();
    for closures in events.chunks(group) {
        connection.immediate_transaction(|connection| -> Result<()> {
            for event in closures {
                match savepoints {
                    true => connection.transaction(|connection| change(connection, event))?,
                    false => change(connection, event)?,
                }
            }
            Ok(())
        })?;
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / changes as f64;
    drop(connection);
    remove(&file)?;
    Ok(micros)
}

/// One change of inventory with its event.
fn change(connection: &mut SqliteConnection, event: &Event) -> Result<()> {
    let now = now()?;
    Statement::<Sqlite, BigInt>::new(
        "INSERT INTO inventory (sku, version, on_hand) VALUES ({}, 1, {})
         ON CONFLICT (sku) DO UPDATE SET version = version + 1, on_hand = excluded.on_hand
         RETURNING version",
    )
    .bind::<Text, _>(event.key.as_str())
    .bind::<BigInt, _>(event.version)
    .get_result::<i64>(connection)?;
    let row = [Cells::event(event, 0, now)];
    for op in SPLIT_INSERT {
        SqliteStore::execute(connection, op, Style::Rows, Ids::Blob, &row)?;
    }
    Ok(())
}
