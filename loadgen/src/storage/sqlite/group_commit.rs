//! One change per closure and many closures per commit, as a writer thread with a queue does it.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::batch::{BatchStyle, Encoding, IdType, RowValues};
use super::file;
use super::layouts::{SPLIT, SPLIT_INSERT};
use crate::statement::Statement;
use crate::storage::store::{Event, make_events, now};

/// Changes at the most: with a commit each, more would take long and tell no more.
const MOST_CHANGES: usize = 4_000;

/// Prints how long a change takes, by how many closures share a commit.
pub(in crate::storage) fn group_commit(
    directory: &Path,
    cache: u32,
    rows: usize,
    repeat: usize,
) -> Result<()> {
    let changes = rows.min(MOST_CHANGES);
    println!("closures per commit | savepoints | µs per change | changes per second");
    for round in 1..=repeat {
        for group in [1, 10, 50, 200] {
            for savepoints in [true, false] {
                let micros = micros_per_change(directory, cache, group, changes, savepoints)?;
                println!(
                    "{group:>19} | {savepoints:>10} | {micros:>13.1} | {:>18.0}  (run {round})",
                    1e6 / micros
                );
            }
        }
    }
    Ok(())
}

fn micros_per_change(
    directory: &Path,
    cache: u32,
    group: usize,
    changes: usize,
    savepoints: bool,
) -> Result<f64> {
    let file = directory.join("stockloop-group-commit-benchmark.db");
    let mut connection = file::connect(&file, cache)?;
    connection.batch_execute(
        "CREATE TABLE inventory (sku TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL,
             on_hand INTEGER NOT NULL) WITHOUT ROWID",
    )?;
    connection.batch_execute(&SPLIT.replace("{ID}", "BLOB"))?;
    let events = make_events(0, changes, 245);
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
    file::remove(&file)?;
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
    let row = [RowValues::of_event(event, 0, now)];
    let encoding = Encoding { ids: IdType::Blob, style: BatchStyle::Rows };
    for statement in SPLIT_INSERT {
        statement.execute(connection, encoding, &row)?;
    }
    Ok(())
}
