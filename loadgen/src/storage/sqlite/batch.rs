//! A batch of rows on its way into statements: one by one, as JSON, or as a list of values.

use anyhow::Result;
use clap::ValueEnum;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;
use serde_json::json;
use uuid::Uuid;

use self::Field::{Attempt, Id, Key, Now, Outcome, Partition, Payload, Seq, Shard, Version};
use crate::statement::Statement;
use crate::storage::store::{Event, PROCESSED, Relayed};

/// How ids are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::storage) enum IdType {
    /// 36 characters.
    Text,
    /// 16 bytes.
    Blob,
}

/// How a batch reaches its statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::storage) enum BatchStyle {
    /// One statement per row, kept prepared.
    Rows,
    /// One statement per batch, its rows in one JSON text.
    Json,
    /// One statement per batch, its rows in a VALUES list of binds.
    Values,
}

/// How a batch is written down for its statements.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) struct Encoding {
    pub(in crate::storage) ids: IdType,
    pub(in crate::storage) style: BatchStyle,
}

/// What a statement takes from a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
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
pub(super) struct RowValues<'a> {
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

impl<'a> RowValues<'a> {
    pub(super) fn of_id(id: Uuid) -> Self {
        Self { id, ..Self::default() }
    }

    pub(super) fn of_event(event: &'a Event, seq: i64, now: i64) -> Self {
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

    /// `ordinal` takes the place of the sequence number, where a layout has none.
    pub(super) fn of_relayed(event: &Relayed, ordinal: Option<usize>, now: i64) -> Self {
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

    /// Binds one of the values to the next `{}`.
    pub(super) fn bind<ST>(
        &self,
        field: Field,
        ids: IdType,
        statement: Statement<'a, Sqlite, ST>,
    ) -> Statement<'a, Sqlite, ST> {
        match (field, ids) {
            (Id, IdType::Text) => statement.bind::<Text, _>(self.id.to_string()),
            (Id, IdType::Blob) => statement.bind::<Binary, _>(self.id.as_bytes().to_vec()),
            (Key, _) => statement.bind::<Text, _>(self.key),
            (Payload, _) => statement.bind::<Text, _>(self.payload),
            _ => statement.bind::<BigInt, _>(self.number(field)),
        }
    }

    fn json(&self, field: Field, ids: IdType) -> serde_json::Value {
        match (field, ids) {
            (Id, IdType::Text) => json!(self.id.to_string()),
            (Id, IdType::Blob) => json!(self.id.simple().to_string()),
            (Key, _) => json!(self.key),
            (Payload, _) => json!(self.payload),
            _ => json!(self.number(field)),
        }
    }

    fn number(&self, field: Field) -> i64 {
        match field {
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
}

/// A statement in two forms: for one row with its binds in the order of `fields`, and for a set of rows named `b`
/// whose columns are the fields.
pub(super) struct BatchStatement {
    pub(super) fields: &'static [Field],
    pub(super) row: &'static str,
    pub(super) set: &'static str,
}

impl BatchStatement {
    /// Runs it for all rows; returns how many rows of the table it touched.
    pub(super) fn execute(
        &self,
        connection: &mut SqliteConnection,
        encoding: Encoding,
        rows: &[RowValues<'_>],
    ) -> Result<usize> {
        let mut touched = 0;
        for statement in self.statements::<()>(encoding, rows)? {
            touched += statement.execute(connection)?;
        }
        Ok(touched)
    }

    /// The statements that take the rows.
    pub(super) fn statements<'a, ST>(
        &self,
        encoding: Encoding,
        rows: &[RowValues<'a>],
    ) -> Result<Vec<Statement<'a, Sqlite, ST>>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids = encoding.ids;
        Ok(match encoding.style {
            BatchStyle::Rows => rows.iter().map(|row| self.one_row(ids, row)).collect(),
            BatchStyle::Json => vec![self.json_text(ids, rows)?],
            BatchStyle::Values => vec![self.values_list(ids, rows)],
        })
    }

    fn one_row<'a, ST>(&self, ids: IdType, row: &RowValues<'a>) -> Statement<'a, Sqlite, ST> {
        let fields = self.fields.iter();
        fields.fold(Statement::new(self.row), |statement, field| row.bind(*field, ids, statement))
    }

    fn json_text<'a, ST>(
        &self,
        ids: IdType,
        rows: &[RowValues<'a>],
    ) -> Result<Statement<'a, Sqlite, ST>> {
        let values: Vec<String> = (self.fields.iter().enumerate())
            .map(|(index, field)| match (field, ids) {
                (Id, IdType::Blob) => format!("unhex(value ->> {index})"),
                _ => format!("value ->> {index}"),
            })
            .collect();
        let (columns, values) = (self.columns(), values.join(", "));
        let sql =
            format!("WITH b ({columns}) AS (SELECT {values} FROM json_each({{}})) {}", self.set);
        let rows: Vec<Vec<serde_json::Value>> = rows
            .iter()
            .map(|row| self.fields.iter().map(|field| row.json(*field, ids)).collect())
            .collect();
        Ok(Statement::new(sql).bind::<Text, _>(serde_json::to_string(&rows)?))
    }

    fn values_list<'a, ST>(
        &self,
        ids: IdType,
        rows: &[RowValues<'a>],
    ) -> Statement<'a, Sqlite, ST> {
        let tuple = format!("({})", vec!["{}"; self.fields.len()].join(","));
        let tuples = vec![tuple.as_str(); rows.len()].join(",");
        let sql = format!("WITH b ({}) AS (VALUES {tuples}) {}", self.columns(), self.set);
        let mut statement = Statement::new(sql);
        for row in rows {
            for field in self.fields {
                statement = row.bind(*field, ids, statement);
            }
        }
        statement
    }

    fn columns(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name()).collect();
        names.join(", ")
    }
}
