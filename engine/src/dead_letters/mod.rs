//! Messages that could not be read: kept whole, so that nothing is lost, nothing is blocked, and each can be sent
//! again.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::dead_letter;
use common::stored_by_code;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, SmallInt, Text};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::kafka::{Record, cut_error};

/// Newest dead letters that a search by event id looks at: headers have no index.
const LOOKED_AT: i64 = 1_000;

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
    message_key: Option<Vec<u8>>,
    headers: Option<String>,
}

/// What became of a dead letter; a discarded one may still be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, AsExpression, FromSqlRow)]
#[serde(rename_all = "lowercase")]
#[diesel(sql_type = SmallInt)]
pub enum DeadLetterState {
    /// It waits for a person.
    Waiting,
    /// It was sent to its topic again.
    Replayed,
    /// A person decided that it is of no use.
    Discarded,
}

impl DeadLetterState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Replayed, Self::Discarded];

    /// As people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

stored_by_code!(DeadLetterState { Waiting => 0, Replayed => 1, Discarded => 2 });

impl std::str::FromStr for DeadLetterState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| "it is none of waiting, replayed, discarded".to_owned())
    }
}

/// Who decided on a dead letter, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of it.
    pub state: DeadLetterState,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
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
            message_key: record.key.clone(),
            headers: Some(headers_to_text(&record.headers)),
        }
    }
}

/// Pairs of name and value in hexadecimal, as JSON: values may be any bytes.
fn headers_to_text(headers: &[(String, Vec<u8>)]) -> String {
    let pairs: Vec<(&str, String)> =
        headers.iter().map(|(name, value)| (name.as_str(), hex::encode(value))).collect();
    serde_json::to_string(&pairs).unwrap_or_default()
}

/// The headers that a dead letter holds; none if they were not kept, as in letters from before they were.
pub fn headers_of(text: Option<&str>) -> Option<Vec<(String, Vec<u8>)>> {
    let pairs: Vec<(String, String)> = serde_json::from_str(text?).ok()?;
    pairs.into_iter().map(|(name, value)| Some((name, hex::decode(value).ok()?))).collect()
}

/// Keeps a dead letter; the same message a second time is the same dead letter.
///
/// # Errors
/// When the statement fails.
pub fn store(conn: &mut Conn, letter: &DeadLetter) -> QueryResult<()> {
    on!(conn, c => diesel::insert_into(dead_letter::table)
        .values(letter)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(())
}

/// A dead letter as the message that it was, and what became of it; with no headers where they were not kept.
///
/// # Errors
/// When the statement fails.
pub fn message_of(
    conn: &mut Conn,
    seq: i64,
) -> QueryResult<Option<(Record, Option<String>, DeadLetterState)>> {
    use dead_letter as d;
    type DeadLetterColumns =
        (String, i32, i64, Vec<u8>, Option<Vec<u8>>, Option<String>, DeadLetterState);
    let row: Option<DeadLetterColumns> = on!(conn, c => dead_letter::table
        .find(seq)
        .select((d::topic, d::partition, d::offset, d::bytes, d::message_key, d::headers, d::state))
        .first(c)
        .optional())?;
    Ok(row.map(|(topic, partition, offset, bytes, key, headers, state)| {
        let kept = headers_of(headers.as_deref()).unwrap_or_default();
        // A message without a value was kept as one of no bytes.
        let payload = Some(bytes).filter(|bytes| !bytes.is_empty());
        let record = Record {
            topic,
            partition,
            offset,
            assignment: 0,
            timestamp: None,
            key,
            headers: kept,
            payload,
        };
        (record, headers, state)
    }))
}

/// Puts a decision down, unless another one was made since it was `before`; returns whether it holds.
///
/// # Errors
/// When the statement fails.
pub fn decide(
    conn: &mut Conn,
    seq: i64,
    before: DeadLetterState,
    decision: &Decision,
) -> QueryResult<bool> {
    use dead_letter::{handled_by, handled_us, reason, state};
    let letter = dead_letter::table.find(seq).filter(state.eq(before));
    let change = (
        state.eq(decision.state),
        handled_us.eq(Some(decision.at)),
        handled_by.eq(Some(&decision.by)),
        reason.eq(decision.reason.as_deref()),
    );
    let changed = on!(conn, c => diesel::update(letter).set(change).execute(c))?;
    Ok(changed == 1)
}

/// How many wait for a person.
///
/// # Errors
/// When the statement fails.
pub fn count_waiting(conn: &mut Conn) -> QueryResult<i64> {
    let waiting = dead_letter::table.filter(dead_letter::state.eq(DeadLetterState::Waiting));
    on!(conn, c => waiting.count().get_result(c))
}

/// How many of `topic` wait for a person; it counts no further than `most`.
///
/// # Errors
/// When the statement fails.
pub fn waiting_of(conn: &mut Conn, topic: &str, most: usize) -> QueryResult<usize> {
    let waiting = dead_letter::table
        .filter(dead_letter::state.eq(DeadLetterState::Waiting))
        .filter(dead_letter::topic.eq(topic))
        .select(dead_letter::seq)
        .limit(i64::try_from(most).unwrap_or(i64::MAX));
    let found: Vec<i64> = on!(conn, c => waiting.load(c))?;
    Ok(found.len())
}

/// The numbers of dead letters whose headers name this event, among the newest.
pub fn of_event(conn: &mut Conn, id: EventId) -> QueryResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct SeqRow {
        #[diesel(sql_type = BigInt)]
        seq: i64,
    }
    let sql = "SELECT seq FROM (SELECT seq, headers FROM dead_letter ORDER BY seq DESC LIMIT $1) newest \
               WHERE headers LIKE $2 ORDER BY seq DESC";
    let pattern = format!("%\"{}\"%", hex::encode(id.to_string()));
    let rows: Vec<SeqRow> = on!(conn, c => sql_query(sql)
        .bind::<BigInt, _>(LOOKED_AT)
        .bind::<Text, _>(pattern)
        .load(c))?;
    Ok(rows.into_iter().map(|row| row.seq).collect())
}
