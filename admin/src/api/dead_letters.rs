//! `/dead-letters`: messages that could not be read, whole, and what is done with them.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use common::on;
use common::schema::dead_letter;
use common::telemetry::SignedMessage;
use diesel::define_sql_function;
use diesel::prelude::*;
use diesel::sql_types::{Binary, Integer};
use engine::dead_letters::{self as letters, DeadLetterState, Decision};
use engine::kafka::{Envelope, Record, SendError, SignatureChecks};
use engine::outbox::check_answers;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};

/// Bytes of a message that a list shows.
const PREVIEW: i32 = 200;

define_sql_function! {
    /// The bytes from position `start` (1 is the first), at most `count`; SQLite has none of no bytes.
    fn substr(bytes: Binary, start: Integer, count: Integer) -> Nullable<Binary>
}
define_sql_function! {
    /// How many bytes they are.
    fn length(bytes: Binary) -> Integer
}

/// A message that could not be read, without its bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    pub(crate) seq: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// SHA-256 of the bytes, in hexadecimal.
    pub(crate) hash: String,
    pub(crate) error: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    pub(crate) state: DeadLetterState,
    /// When somebody replayed or discarded it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) handled_at: Option<Timestamp>,
    /// Who did.
    pub(crate) handled_by: Option<String>,
    /// Why.
    pub(crate) reason: Option<String>,
    /// How many bytes it has.
    pub(crate) size: i32,
    /// The first 200 bytes as text; what is not UTF-8 is shown as U+FFFD.
    pub(crate) preview: String,
}

/// A message that could not be read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeDeadLetter {
    #[serde(flatten)]
    pub(crate) letter: DeadLetter,
    /// The message's key as text; what is not UTF-8 is shown as U+FFFD.
    pub(crate) key: Option<String>,
    /// Its headers; none where they were not kept.
    pub(crate) headers: Option<Vec<LetterHeader>>,
    /// All bytes, in hexadecimal.
    pub(crate) bytes_hex: String,
    /// The same as text; what is not UTF-8 is shown as U+FFFD.
    pub(crate) bytes_text: String,
}

/// A header of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LetterHeader {
    pub(crate) name: String,
    /// Its value as text; what is not UTF-8 is shown as U+FFFD.
    pub(crate) value: String,
}

/// Why a dead letter is discarded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Discarding)]
pub(crate) struct Discard {
    /// 1 to 500 characters.
    reason: String,
}

#[derive(Queryable)]
struct DeadLetterRow {
    seq: i64,
    topic: String,
    partition: i32,
    offset: i64,
    hash: String,
    error: String,
    at: Timestamp,
    state: DeadLetterState,
    handled_at: Option<Timestamp>,
    handled_by: Option<String>,
    reason: Option<String>,
    size: i32,
    beginning: Option<Vec<u8>>,
}

impl From<DeadLetterRow> for DeadLetter {
    fn from(row: DeadLetterRow) -> Self {
        Self {
            seq: row.seq.to_string(),
            topic: row.topic,
            partition: row.partition,
            offset: row.offset,
            hash: row.hash,
            error: row.error,
            at: row.at,
            state: row.state,
            handled_at: row.handled_at,
            handled_by: row.handled_by,
            reason: row.reason,
            size: row.size,
            preview: String::from_utf8_lossy(&row.beginning.unwrap_or_default()).into_owned(),
        }
    }
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/dead-letters", Role::Viewer, Area::DeadLetters),
    Rule::new("GET", "/dead-letters/{seq}", Role::Viewer, Area::DeadLetters),
    Rule::new("POST", "/dead-letters/{seq}/replay", Role::Operator, Area::DeadLetters),
    Rule::new("POST", "/dead-letters/{seq}/discard", Role::Operator, Area::DeadLetters),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/dead-letters").get(list).default_service(wrong_method("GET"));
    let one = web::resource("/dead-letters/{seq}").get(show).default_service(wrong_method("GET"));
    let replay = web::resource("/dead-letters/{seq}/replay")
        .post(replay)
        .default_service(wrong_method("POST"));
    let discard = web::resource("/dead-letters/{seq}/discard")
        .post(discard)
        .default_service(wrong_method("POST"));
    scope.service(all).service(one).service(replay).service(discard);
}

/// Messages that could not be read, newest first.
#[utoipa::path(
    get, path = "/api/admin/v1/dead-letters", tag = "dead-letters",
    params(
        ("state" = Option<DeadLetterState>, Query),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<DeadLetter>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<DeadLetter>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    let state: Option<DeadLetterState> = params.take("state", "a state")?;
    params.finish()?;
    admin.db.read(move |conn| Ok(Json(DeadLetter::page(conn, state, after, limit)?))).await
}

/// One message that could not be read, with its key, headers and bytes.
#[utoipa::path(
    get, path = "/api/admin/v1/dead-letters/{seq}", tag = "dead-letters",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = WholeDeadLetter),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    admin: Data<Admin>,
    seq: Path<String>,
) -> ProblemResult<Json<WholeDeadLetter>> {
    let seq = number(&seq)?;
    admin.db.read(move |conn| Ok(Json(WholeDeadLetter::find(conn, seq)?))).await
}

/// Sends a message again to the topic and partition that it came from, unchanged, if it can be read now.
///
/// It has no `Idempotency-Key`: one that was replayed is not replayed again (409), and an event that comes twice
/// has one effect.
#[utoipa::path(
    post, path = "/api/admin/v1/dead-letters/{seq}/replay", tag = "dead-letters",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = WholeDeadLetter),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replay(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
) -> ProblemResult<Json<WholeDeadLetter>> {
    replay_now(&admin, number(&seq)?, by).await.map(Json)
}

/// Sends a message once more, and notes that.
///
/// # Errors
/// 404 when there is none of that number, 409 when it was replayed before, 422 when it can't be read now either, or is of
/// a view.
pub(crate) async fn replay_now(
    admin: &Admin,
    seq: i64,
    by: Caller,
) -> ProblemResult<WholeDeadLetter> {
    let found =
        admin.db.read(move |conn| letters::message_of(conn, seq)?.ok_or_else(|| unknown(seq)));
    let (record, headers, before) = found.await?;
    if before == DeadLetterState::Replayed {
        return Err(decided(seq, before));
    }
    check_readable(admin, &record, headers.is_some())?;
    send(admin, &record).await?;
    let now = admin.env.now();
    let decision =
        Decision { state: DeadLetterState::Replayed, at: now, by: by.name.clone(), reason: None };
    // Sent and not noted, should that fail: then it waits as before, and a further replay does no harm.
    let noted = admin.db.write(move |conn| {
        decide(conn, seq, before, &decision)?;
        by.note(conn, now, "dead_letter.replay", Some(&seq.to_string()), None)?;
        WholeDeadLetter::find(conn, seq)
    });
    noted.await
}

/// Discards a message; it is kept, and can still be replayed.
#[utoipa::path(
    post, path = "/api/admin/v1/dead-letters/{seq}/discard", tag = "dead-letters",
    params(("seq" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = Discard,
    responses(
        (status = 200, body = WholeDeadLetter),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn discard(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Discard>,
) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let reason = body.value.reason;
    checked_reason(&reason)?;
    let now = admin.env.now();
    let work = move |conn: &mut Conn| {
        discard_now(conn, (&by, now), seq, reason)?;
        Reply::json(StatusCode::OK, &WholeDeadLetter::find(conn, seq)?)
    };
    admin.act(key, &body.bytes, work).await
}

/// Discards a message.
///
/// # Errors
/// 404 when there is none of that number, 409 when somebody decided on it before.
pub(crate) fn discard_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    seq: i64,
    reason: String,
) -> ProblemResult<()> {
    let (_, _, before) = letters::message_of(conn, seq)?.ok_or_else(|| unknown(seq))?;
    if before != DeadLetterState::Waiting {
        return Err(decided(seq, before));
    }
    let detail = serde_json::json!({ "reason": reason });
    let decision = Decision {
        state: DeadLetterState::Discarded,
        at: now,
        by: by.name.clone(),
        reason: Some(reason),
    };
    decide(conn, seq, before, &decision)?;
    Ok(by.note(conn, now, "dead_letter.discard", Some(&seq.to_string()), Some(detail))?)
}

impl DeadLetter {
    /// A page of them, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        state: Option<DeadLetterState>,
        after: Option<i64>,
        limit: i64,
    ) -> QueryResult<Page<Self>> {
        let rows = rows_before(conn, state, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = rows.into_iter().map(Self::from).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.seq.clone()))
    }
}

impl WholeDeadLetter {
    /// One of them.
    ///
    /// # Errors
    /// 404 if there is none of that number.
    pub(crate) fn find(conn: &mut Conn, seq: i64) -> ProblemResult<Self> {
        // The first row before the next number is this one, unless it is missing.
        let rows = rows_before(conn, None, seq.saturating_add(1), 1)?;
        let row = rows.into_iter().find(|row| row.seq == seq).ok_or_else(|| unknown(seq))?;
        let (record, headers, _) = letters::message_of(conn, seq)?.ok_or_else(|| unknown(seq))?;
        let bytes = record.payload.unwrap_or_default();
        let shown = |(name, value): (String, Vec<u8>)| LetterHeader { name, value: text(&value) };
        Ok(Self {
            letter: row.into(),
            key: record.key.as_deref().map(text),
            headers: headers.map(|_| record.headers.into_iter().map(shown).collect()),
            bytes_hex: hex::encode(&bytes),
            bytes_text: text(&bytes),
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Refuses what would come back as the same dead letter, or do harm.
fn check_readable(admin: &Admin, record: &Record, has_headers: bool) -> ProblemResult<()> {
    if admin.view_topic() == Some(record.topic.as_str()) {
        let detail = format!(
            "messages of {}, a view's topic, are not sent again: an old one would be the last of its key; mend the program that writes them, and discard it; nothing was sent",
            record.topic
        );
        return Err(Problem::invalid("seq", detail));
    }
    let are_answers = record.topic == admin.settings.kafka.outbound_ack_topic;
    let signed = if are_answers { SignedMessage::Ack } else { SignedMessage::Event };
    let signing = admin.producer.signing();
    signing.check(signed, record, &mut SignatureChecks::default()).map_err(|bad| {
        let detail = format!("it would not be believed: {bad}; nothing was sent");
        Problem::invalid("seq", detail)
    })?;
    let read = match are_answers {
        true => check_answers(record),
        false if !has_headers => Err("its headers were not kept when it arrived".to_owned()),
        false => Envelope::read(record).map(drop).map_err(|error| error.reason),
    };
    read.map_err(|reason| {
        Problem::invalid("seq", format!("it still can't be read: {reason}; nothing was sent"))
    })
}

async fn send(admin: &Admin, record: &Record) -> ProblemResult<()> {
    let sent = admin.producer.resend(record).await.map_err(|error| match error {
        SendError::Message(_) => Problem::invalid("seq", format!("{error}; nothing was sent")),
        SendError::Broker(_) => {
            Problem::unavailable(format!("{error}; the dead letter waits as before"))
        }
    });
    sent.map(drop)
}

fn decide(
    conn: &mut Conn,
    seq: i64,
    before: DeadLetterState,
    decision: &Decision,
) -> ProblemResult<()> {
    match letters::decide(conn, seq, before, decision)? {
        true => Ok(()),
        false => Err(Problem::conflict(
            "dead-letter-decided",
            format!("somebody else handled dead letter {seq} at the same time"),
        )),
    }
}

fn decided(seq: i64, fate: DeadLetterState) -> Problem {
    let name = fate.name();
    Problem::conflict("dead-letter-decided", format!("dead letter {seq} was already {name}"))
}

fn number(seq: &str) -> ProblemResult<i64> {
    seq.parse().map_err(|_| Problem::invalid("seq", "a dead letter's number is a whole number"))
}

fn unknown(seq: i64) -> Problem {
    Problem::not_found(format!("there is no dead letter {seq}"))
}

fn rows_before(
    conn: &mut Conn,
    wanted: Option<DeadLetterState>,
    before: i64,
    limit: i64,
) -> QueryResult<Vec<DeadLetterRow>> {
    use dead_letter::{
        at_us, bytes, error, handled_by, handled_us, hash, offset, partition, reason, seq, state,
        topic,
    };
    on!(conn, c => {
        let mut rows = dead_letter::table.filter(seq.lt(before)).into_boxed();
        if let Some(fate) = wanted {
            rows = rows.filter(state.eq(fate));
        }
        rows.order(seq.desc())
            .limit(limit)
            .select((
                seq, topic, partition, offset, hash, error, at_us,
                state, handled_us, handled_by, reason,
                length(bytes), substr(bytes, 1, PREVIEW),
            ))
            .load(c)
    })
}
