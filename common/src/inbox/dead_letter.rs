//! Messages that could not be read: kept with their bytes, so that nothing is lost and nothing is blocked.

use diesel::prelude::*;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::kafka::{Record, cut_error};
use crate::on;
use crate::schema::dead_letter;

/// A message for the table of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = dead_letter)]
pub struct DeadLetter {
    topic: String,
    partition: i32,
    offset: i64,
    hash: String,
    bytes: Vec<u8>,
    error: String,
    at_us: Timestamp,
}

impl DeadLetter {
    /// `record`, which could not be read because of `error`.
    pub fn of(record: &Record, error: &str, now: Timestamp) -> Self {
        let bytes = record.payload.clone().unwrap_or_default();
        Self {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            hash: hex::encode(Sha256::digest(&bytes)),
            bytes,
            error: cut_error(error),
            at_us: now,
        }
    }
}

/// Keeps a dead letter; the same message a second time is the same dead letter.
///
/// # Errors
/// When the statement fails.
pub fn bury(conn: &mut Conn, letter: &DeadLetter) -> QueryResult<()> {
    on!(conn, c => diesel::insert_into(dead_letter::table)
        .values(letter)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(())
}
