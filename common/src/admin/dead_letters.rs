//! `/dead-letters`: messages that could not be read, with their bytes.

use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use diesel::define_sql_function;
use diesel::prelude::*;
use diesel::sql_types::{Binary, Integer};
use serde::Serialize;

use super::Admin;
use crate::access::{Area, Role, Rule};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::http::{Page, Params, Problem, ProblemResult, wrong_method};
use crate::on;
use crate::schema::dead_letter;

/// Bytes of a message that a list shows.
const PREVIEW: i32 = 200;

define_sql_function! {
    /// The bytes from position `start` (1 is the first), `count` at the most; SQLite has none of no bytes.
    fn substr(bytes: Binary, start: Integer, count: Integer) -> Nullable<Binary>
}
define_sql_function! {
    /// How many bytes they are.
    fn length(bytes: Binary) -> Integer
}

/// A message that could not be read, without its bytes.
#[derive(Debug, Serialize)]
struct DeadLetter {
    seq: String,
    topic: String,
    partition: i32,
    offset: i64,
    /// SHA-256 of the bytes, in hexadecimal.
    hash: String,
    error: String,
    at: Timestamp,
    /// How many bytes it has.
    size: i32,
    /// The first 200 bytes as text; what is no UTF-8 is shown as U+FFFD.
    preview: String,
}

/// A message that could not be read.
#[derive(Debug, Serialize)]
struct WholeDeadLetter {
    #[serde(flatten)]
    letter: DeadLetter,
    /// All bytes, in hexadecimal.
    bytes_hex: String,
}

#[derive(Queryable)]
struct Row {
    seq: i64,
    topic: String,
    partition: i32,
    offset: i64,
    hash: String,
    error: String,
    at: Timestamp,
    size: i32,
    beginning: Option<Vec<u8>>,
}

impl From<Row> for DeadLetter {
    fn from(row: Row) -> Self {
        Self {
            seq: row.seq.to_string(),
            topic: row.topic,
            partition: row.partition,
            offset: row.offset,
            hash: row.hash,
            error: row.error,
            at: row.at,
            size: row.size,
            preview: String::from_utf8_lossy(&row.beginning.unwrap_or_default()).into_owned(),
        }
    }
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/dead-letters", Role::Viewer, Area::DeadLetters),
    Rule::new("GET", "/dead-letters/{seq}", Role::Viewer, Area::DeadLetters),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/dead-letters").get(list).default_service(wrong_method("GET"));
    let one = web::resource("/dead-letters/{seq}").get(show).default_service(wrong_method("GET"));
    scope.service(all).service(one);
}

/// Newest first.
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<DeadLetter>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let before = after.unwrap_or(i64::MAX);
    let rows = admin
        .engine
        .db
        .read(move |conn| rows_before(conn, before, limit + 1).map_err(Problem::from))
        .await?;
    let items = rows.into_iter().map(DeadLetter::from).collect();
    Ok(Json(Page::cut(items, limit, |item: &DeadLetter| item.seq.clone())))
}

async fn show(admin: Data<Admin>, seq: Path<String>) -> ProblemResult<Json<WholeDeadLetter>> {
    let seq: i64 = seq
        .parse()
        .map_err(|_| Problem::invalid("seq", "a dead letter's number is a whole number"))?;
    admin
        .engine
        .db
        .read(move |conn| match whole(conn, seq)? {
            Some(letter) => Ok(Json(letter)),
            None => Err(Problem::not_found(format!("there is no dead letter {seq}"))),
        })
        .await
}

fn rows_before(conn: &mut Conn, before: i64, limit: i64) -> QueryResult<Vec<Row>> {
    use dead_letter::{at_us, bytes, error, hash, offset, partition, seq, topic};
    on!(conn, c => dead_letter::table
        .filter(seq.lt(before))
        .order(seq.desc())
        .limit(limit)
        .select((
            seq, topic, partition, offset, hash, error, at_us,
            length(bytes), substr(bytes, 1, PREVIEW),
        ))
        .load(c))
}

fn whole(conn: &mut Conn, seq: i64) -> QueryResult<Option<WholeDeadLetter>> {
    // The first row before the next number is this one, unless it is missing.
    let rows = rows_before(conn, seq.saturating_add(1), 1)?;
    let Some(row) = rows.into_iter().find(|row| row.seq == seq) else {
        return Ok(None);
    };
    let bytes: Vec<u8> = on!(conn, c => dead_letter::table
        .find(seq)
        .select(dead_letter::bytes)
        .first(c))?;
    Ok(Some(WholeDeadLetter { letter: row.into(), bytes_hex: hex::encode(bytes) }))
}
