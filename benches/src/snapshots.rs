//! What a copy makes of snapshots, and what it is verified by.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use anyhow::{Result, ensure};
use common::db::Conn;
use diesel::prelude::*;
use engine::inbox::{CopyVersion, Snapshot, SnapshotCopy, apply_snapshots};
use engine::verify::{Row, Value};

use crate::{Part, key};

/// Events of one batch, as many as the inbox takes.
const ARRIVALS: u16 = 1_000;

/// Rows of one run.
const ROWS: u16 = 500;

/// A batch is folded to the newest state of each key, and every event gets its answer. The copy takes what it is given
/// without a statement, so the database is only there because it has to be named.
pub(crate) fn fold() -> Result<Part> {
    let mut conn = Conn::Sqlite(SqliteConnection::establish(":memory:")?);
    let arrival = |number: u16| Ok(State { key: key(number), version: number.into() });
    let arrivals: Vec<Result<State, String>> = (0..ARRIVALS).map(arrival).collect();
    Ok(Part::new("snapshots-fold", ARRIVALS, move || {
        let applied = apply_snapshots(&Copy, &mut conn, black_box(&arrivals))?;
        ensure!(applied.outcomes.len() == arrivals.len(), "an event has no answer");
        black_box(applied);
        Ok(())
    }))
}

struct State {
    key: String,
    version: i64,
}

impl Snapshot for State {
    fn key(&self) -> &str {
        &self.key
    }

    fn version(&self) -> CopyVersion {
        CopyVersion { epoch: 1, version: self.version }
    }
}

/// A copy in which every state is new.
struct Copy;

impl SnapshotCopy for Copy {
    type State = State;

    fn write_newer(&self, _: &mut Conn, states: &[&State]) -> QueryResult<BTreeSet<String>> {
        Ok(states.iter().map(|state| state.key.clone()).collect())
    }

    fn versions(&self, _: &mut Conn, _: &[&str]) -> QueryResult<BTreeMap<String, CopyVersion>> {
        Ok(BTreeMap::new())
    }
}

/// A verification's digest of rows: each is written in its one form, and that is hashed.
pub(crate) fn digest() -> Part {
    let fields: Vec<String> = ["description", "quantity", "unit_price_minor", "allow_backorder"]
        .map(str::to_owned)
        .into();
    let keys: Vec<String> = (0..ROWS).map(key).collect();
    Part::new("row-digest", ROWS, move || {
        for key in &keys {
            let head = (black_box(key).clone(), Some(1), 7, false);
            black_box(Row::new(head, &fields, value)?.digest());
        }
        Ok(())
    })
}

fn value(field: &str) -> Option<Value<'static>> {
    Some(match field {
        "description" => Value::Text("WHITE HANGING HEART T-LIGHT HOLDER"),
        "quantity" => Value::Number(1_000_000),
        "unit_price_minor" => Value::Number(255),
        "allow_backorder" => Value::Flag(true),
        _ => return None,
    })
}
