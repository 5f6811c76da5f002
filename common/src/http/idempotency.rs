//! `Idempotency-Key`: the answer to a write is kept with its change, and given again to the same request.
//!
//! After the IETF draft "The Idempotency-Key HTTP Header Field": same key and request, same answer; same key and
//! another body or other preconditions, 422; the first still running, 409. A key belongs to one address, however that
//! is spelled. What was refused or failed had no effect and is not kept: it is decided anew each time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::path::plain_path;
use super::{Principal, Problem, ProblemResult};
use crate::clock::Timestamp;
use crate::db::{Conn, Db, ROWS_PER_INSERT, Unnest, column};
use crate::on;
use crate::schema::idempotency;

/// The longest key that is taken, in characters.
const MAX_KEY: usize = 255;

/// The header that tells an answer that was kept from one that was just made.
const REPLAYED: &str = "idempotent-replayed";

/// The answer to a write, whether it was done or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: i32,
    etag: Option<String>,
    location: Option<String>,
    body: String,
    /// Whether it was given before, and kept.
    replayed: bool,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = idempotency)]
struct KeptReply {
    status: i32,
    etag: Option<String>,
    location: Option<String>,
    body: String,
}

impl From<KeptReply> for Reply {
    fn from(KeptReply { status, etag, location, body }: KeptReply) -> Self {
        Self { status, etag, location, body, replayed: true }
    }
}

impl Reply {
    /// An answer of JSON.
    pub fn json(status: StatusCode, body: &impl Serialize) -> ProblemResult<Self> {
        let body = serde_json::to_string(body).map_err(|error| Problem::internal(&error))?;
        let status = i32::from(status.as_u16());
        Ok(Self { status, etag: None, location: None, body, replayed: false })
    }

    /// An answer without a body: 204.
    pub fn no_content() -> Self {
        let body = String::new();
        Self { status: 204, etag: None, location: None, body, replayed: false }
    }

    /// With the version as its `ETag`.
    #[must_use]
    pub fn with_version(mut self, version: i64) -> Self {
        self.etag = Some(format!("\"{version}\""));
        self
    }

    /// With a `Location`.
    #[must_use]
    pub fn with_location(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    /// Whether the write was done, rather than refused.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// As an HTTP response.
    pub fn into_response(self) -> HttpResponse {
        let status = u16::try_from(self.status).ok().and_then(|s| StatusCode::from_u16(s).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if let Some(etag) = self.etag {
            response.insert_header((ETAG, etag));
        }
        if let Some(location) = self.location {
            response.insert_header((LOCATION, location));
        }
        if self.replayed {
            response.insert_header((REPLAYED, "true"));
        }
        if self.body.is_empty() {
            return response.finish();
        }
        let problem = status.is_client_error() || status.is_server_error();
        let kind = if problem { "application/problem+json" } else { "application/json" };
        response.insert_header((CONTENT_TYPE, kind)).body(self.body)
    }
}

impl From<&Problem> for Reply {
    fn from(problem: &Problem) -> Self {
        let body = serde_json::to_string(problem).unwrap_or_default();
        let status = i32::from(problem.status);
        Self { status, etag: None, location: None, body, replayed: false }
    }
}

/// The key of a write, with all that it is bound to; absent when the client sent none.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(Option<KeyedRequest>);

#[derive(Debug, Clone)]
struct KeyedRequest {
    bound: Bound,
    /// As one text; empty without any.
    preconditions: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bound {
    principal: String,
    route: String,
    key: String,
}

impl Bound {
    /// What other instances lock it by.
    fn number(&self) -> i64 {
        let text = format!("{}\n{}\n{}", self.principal, self.route, self.key);
        let hash: [u8; 32] = Sha256::digest(text).into();
        hash.iter().take(8).fold(0_i64, |n, byte| (n << 8) | i64::from(*byte))
    }
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        std::future::ready(Self::of(request, payload))
    }
}

impl IdempotencyKey {
    fn of(request: &HttpRequest, payload: &mut Payload) -> ProblemResult<Self> {
        let Some(header) = request.headers().get("idempotency-key") else {
            return Ok(Self(None));
        };
        let key = header.to_str().unwrap_or_default().trim();
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Problem::invalid(
                "Idempotency-Key",
                format!("the key must be 1 to {MAX_KEY} visible ASCII characters"),
            ));
        }
        let principal = Principal::from_request(request, payload).into_inner()?;
        let route = format!("{} {}", request.method(), plain_path(request));
        let bound = Bound { principal: principal.0, route, key: key.to_owned() };
        Ok(Self(Some(KeyedRequest { bound, preconditions: preconditions(request) })))
    }
}

/// What a request says in `If-Match` and `If-None-Match`, however it is spread over headers.
fn preconditions(request: &HttpRequest) -> String {
    let mut text = String::new();
    for name in [IF_MATCH, IF_NONE_MATCH] {
        let headers = request.headers().get_all(&name);
        let tags: Vec<&str> = headers
            .flat_map(|header| header.to_str().unwrap_or_default().split(','))
            .map(str::trim)
            .collect();
        if !tags.is_empty() {
            text.push_str(&format!("{name}: {}\n", tags.join(", ")));
        }
    }
    text
}

/// The keyed writes that this process is busy with; one per service.
#[derive(Debug, Clone, Default)]
pub struct KeysInProgress(Arc<Mutex<HashSet<Bound>>>);

impl KeysInProgress {
    fn enter(&self, bound: &Bound) -> ProblemResult<Entered> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.insert(bound.clone()) {
            Ok(Entered { running: self.clone(), bound: bound.clone() })
        } else {
            Err(still_running())
        }
    }
}

struct Entered {
    running: KeysInProgress,
    bound: Bound,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.bound);
    }
}

fn still_running() -> Problem {
    Problem::conflict(
        "idempotency-running",
        "a request with this Idempotency-Key is still running; repeat it when that has ended",
    )
}

/// Runs a write once per key: `work` and the keeping of its answer are one transaction.
///
/// `work` refuses by `Err`: whatever it wrote is undone (it runs in a savepoint), and nothing is kept.
///
/// # Errors
/// 409 while the first is running, 422 for another body or other preconditions, 5xx when the database fails.
/// Refusals by `work` come back as `Ok(Reply)`.
pub async fn idempotent(
    db: &Db,
    running: &KeysInProgress,
    key: IdempotencyKey,
    body: &[u8],
    now: Timestamp,
    work: impl FnOnce(&mut Conn) -> ProblemResult<Reply> + Send + 'static,
) -> ProblemResult<Reply> {
    let Some(write) = running.begin(key, body)? else {
        return db.write(|conn| settle(conn.transaction(work))).await;
    };
    // Held by the transaction, not by the request: a client that hangs up does not end the first run.
    db.write(move |conn| {
        lock(conn, &write.bound)?;
        if let Some(reply) = kept(conn, &write.bound, &write.request_hash)? {
            return Ok(reply);
        }
        let reply = settle(conn.transaction(work))?;
        if reply.is_success() {
            keep(conn, &write, &reply, now)?;
        }
        Ok(reply)
    })
    .await
}

/// The answer that [`idempotent`] kept for the same request, if there is one.
///
/// # Errors
/// 422 for another body or other preconditions, 5xx when the database fails.
pub async fn answered(db: &Db, key: &IdempotencyKey, body: &[u8]) -> ProblemResult<Option<Reply>> {
    let Some(KeyedRequest { bound, preconditions }) = key.0.clone() else { return Ok(None) };
    let request_hash = request_hash(body, &preconditions);
    db.read(move |conn| {
        let found = found(conn, &bound)?.filter(|(_, reply)| reply.is_success());
        found.map(|found| same(found, &request_hash)).transpose()
    })
    .await
}

/// What tells the requests with one key apart: body and preconditions.
fn request_hash(body: &[u8], preconditions: &str) -> String {
    let body = Sha256::digest(body);
    if preconditions.is_empty() {
        // As the last release writes it: during an upgrade, each finds the answers that the other kept.
        return hex::encode(body);
    }
    hex::encode(Sha256::new().chain_update(body).chain_update(preconditions).finalize())
}

/// Turns a refusal into an answer like any other; faults stay errors and roll back.
fn settle(outcome: ProblemResult<Reply>) -> ProblemResult<Reply> {
    match outcome {
        Err(problem) if problem.status().is_client_error() => Ok(Reply::from(&problem)),
        other => other,
    }
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Other instances are kept out by a lock that ends with the transaction; SQLite has one writer anyway.
fn lock(conn: &mut Conn, bound: &Bound) -> ProblemResult<()> {
    let Conn::Pg(c) = conn else { return Ok(()) };
    let row: Locked = sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked")
        .bind::<BigInt, _>(bound.number())
        .get_result(c)?;
    if row.locked { Ok(()) } else { Err(still_running()) }
}

/// [`lock`] for all of `writes`: which could be had.
fn lock_all(conn: &mut Conn, writes: &[&KeyedWrite]) -> QueryResult<Vec<bool>> {
    let Conn::Pg(c) = conn else { return Ok(vec![true; writes.len()]) };
    let rows: Vec<Locked> = sql_query(
        "SELECT pg_try_advisory_xact_lock(number) AS locked \
         FROM unnest($1) WITH ORDINALITY AS wanted (number, place) ORDER BY place",
    )
    .bind::<Array<BigInt>, _>(column(writes, |write| write.bound.number()))
    .load(c)?;
    Ok(rows.into_iter().map(|row| row.locked).collect())
}

fn find_all(
    conn: &mut Conn,
    writes: &[&KeyedWrite],
) -> QueryResult<HashMap<Bound, (String, Reply)>> {
    let Conn::Pg(c) = conn else {
        let mut all = HashMap::new();
        for write in writes {
            let found = found(conn, &write.bound)?;
            all.extend(found.map(|found| (write.bound.clone(), found)));
        }
        return Ok(all);
    };
    #[derive(QueryableByName)]
    #[diesel(table_name = idempotency)]
    struct Found {
        principal: String,
        route: String,
        key: String,
        body_hash: String,
        status: i32,
        etag: Option<String>,
        location: Option<String>,
        body: String,
    }
    let rows: Vec<Found> = sql_query(
        "SELECT i.principal, i.route, i.key, body_hash, status, etag, location, body \
         FROM unnest($1, $2, $3) AS wanted (principal, route, key) \
         JOIN idempotency i ON (i.principal, i.route, i.key) = (wanted.principal, wanted.route, wanted.key)",
    )
    .bind::<Array<Text>, _>(column(writes, |write| write.bound.principal.as_str()))
    .bind::<Array<Text>, _>(column(writes, |write| write.bound.route.as_str()))
    .bind::<Array<Text>, _>(column(writes, |write| write.bound.key.as_str()))
    .load(c)?;
    let found = rows.into_iter().map(|row| {
        let Found { principal, route, key, body_hash, status, etag, location, body } = row;
        let reply = Reply::from(KeptReply { status, etag, location, body });
        (Bound { principal, route, key }, (body_hash, reply))
    });
    Ok(found.collect())
}

/// A keyed write that goes on in this process, until it is dropped.
pub struct KeyedWrite {
    bound: Bound,
    request_hash: String,
    _entered: Entered,
}

impl KeysInProgress {
    /// Begins a write; none if it has no key.
    ///
    /// # Errors
    /// 409 while another one with its key goes on here.
    pub fn begin(&self, key: IdempotencyKey, body: &[u8]) -> ProblemResult<Option<KeyedWrite>> {
        let Some(KeyedRequest { bound, preconditions }) = key.0 else { return Ok(None) };
        let request_hash = request_hash(body, &preconditions);
        let entered = self.enter(&bound)?;
        Ok(Some(KeyedWrite { bound, request_hash, _entered: entered }))
    }
}

/// What is to be answered to each of `writes` before anything is done: what was kept for the same request, that another
/// one goes on elsewhere, or that its key was used for something else. Nothing: it is to be done. One statement locks all
/// keys until the transaction ends, and one looks all up.
///
/// # Errors
/// When a statement fails.
pub fn answers_before(
    conn: &mut Conn,
    writes: &[&KeyedWrite],
) -> QueryResult<Vec<Option<ProblemResult<Reply>>>> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let locked = lock_all(conn, writes)?;
    let mut found = find_all(conn, writes)?;
    let mut answers = Vec::with_capacity(writes.len());
    for (write, is_locked) in writes.iter().zip(locked) {
        answers.push(match found.remove(&write.bound) {
            _ if !is_locked => Some(Err(still_running())),
            // The last release kept refusals, too.
            Some((_, reply)) if !reply.is_success() => {
                forget(conn, &write.bound)?;
                None
            }
            found => found.map(|found| same(found, &write.request_hash)),
        });
    }
    Ok(answers)
}

fn kept(conn: &mut Conn, bound: &Bound, request_hash: &str) -> ProblemResult<Option<Reply>> {
    match found(conn, bound)? {
        // The last release kept refusals, too.
        Some((_, reply)) if !reply.is_success() => Ok(forget(conn, bound).map(|()| None)?),
        found => found.map(|found| same(found, request_hash)).transpose(),
    }
}

/// What a key was used with, as [`request_hash`] has it, and the answer.
fn found(conn: &mut Conn, bound: &Bound) -> QueryResult<Option<(String, Reply)>> {
    let found: Option<(String, KeptReply)> = on!(conn, c => idempotency::table
        .find((&bound.principal, &bound.route, &bound.key))
        .select((idempotency::body_hash, KeptReply::as_select()))
        .first(c)
        .optional())?;
    Ok(found.map(|(hash, reply)| (hash, Reply::from(reply))))
}

fn same((hash, reply): (String, Reply), request_hash: &str) -> ProblemResult<Reply> {
    match hash == request_hash {
        true => Ok(reply),
        false => Err(Problem::invalid(
            "Idempotency-Key",
            "this key was used with another body or other preconditions; use a new key for another request",
        )),
    }
}

fn forget(conn: &mut Conn, bound: &Bound) -> QueryResult<()> {
    let row = idempotency::table.find((&bound.principal, &bound.route, &bound.key));
    on!(conn, c => diesel::delete(row).execute(c))?;
    Ok(())
}

/// Keeps the answer to each write, given at that moment, with the change that it is of.
///
/// # Errors
/// When a statement fails.
pub fn keep_all(conn: &mut Conn, done: &[(&KeyedWrite, Reply, Timestamp)]) -> QueryResult<()> {
    let rows: Vec<NewReply<'_>> =
        done.iter().map(|(write, reply, now)| NewReply::of(write, reply, *now)).collect();
    match conn {
        Conn::Pg(_) if rows.is_empty() => Ok(()),
        Conn::Pg(c) => Unnest::of(
            "INSERT INTO idempotency (principal, route, key, body_hash, status, etag, location, body, created_us) \
             SELECT * FROM unnest(…)",
        )
        .column::<Text, _>(column(&rows, |row| row.principal))
        .column::<Text, _>(column(&rows, |row| row.route))
        .column::<Text, _>(column(&rows, |row| row.key))
        .column::<Text, _>(column(&rows, |row| row.body_hash))
        .column::<Integer, _>(column(&rows, |row| row.status))
        .column::<Nullable<Text>, _>(column(&rows, |row| row.etag))
        .column::<Nullable<Text>, _>(column(&rows, |row| row.location))
        .column::<Text, _>(column(&rows, |row| row.body))
        .column::<BigInt, _>(column(&rows, |row| row.created_us))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => rows.chunks(ROWS_PER_INSERT).try_for_each(|chunk| {
            diesel::insert_into(idempotency::table).values(chunk).execute(c).map(drop)
        }),
    }
}

fn keep(conn: &mut Conn, write: &KeyedWrite, reply: &Reply, now: Timestamp) -> ProblemResult<()> {
    let row = NewReply::of(write, reply, now);
    on!(conn, c => diesel::insert_into(idempotency::table).values(row).execute(c))?;
    Ok(())
}

#[derive(Insertable)]
#[diesel(table_name = idempotency)]
struct NewReply<'a> {
    principal: &'a str,
    route: &'a str,
    key: &'a str,
    body_hash: &'a str,
    status: i32,
    etag: Option<&'a str>,
    location: Option<&'a str>,
    body: &'a str,
    created_us: Timestamp,
}

impl<'a> NewReply<'a> {
    fn of(write: &'a KeyedWrite, reply: &'a Reply, created_us: Timestamp) -> Self {
        let Bound { principal, route, key } = &write.bound;
        Self {
            principal,
            route,
            key,
            body_hash: &write.request_hash,
            status: reply.status,
            etag: reply.etag.as_deref(),
            location: reply.location.as_deref(),
            body: &reply.body,
            created_us,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn keyed(request: TestRequest) -> KeyedRequest {
        let request = request.insert_header(("idempotency-key", "k")).to_http_request();
        IdempotencyKey::of(&request, &mut Payload::None).unwrap().0.unwrap()
    }

    fn bound(request: TestRequest) -> Bound {
        keyed(request).bound
    }

    fn stated(headers: &[(&str, &str)]) -> String {
        let request = TestRequest::default();
        let request =
            headers.iter().fold(request, |request, header| request.append_header(*header));
        keyed(request).preconditions
    }

    #[test]
    fn a_key_belongs_to_a_method_and_an_address_however_it_is_spelled() {
        let put = |path: &str| bound(TestRequest::put().uri(path));
        assert_eq!(put("/inventory/I%2FA").route, "PUT /inventory/I%2FA");
        assert_eq!(put("/inventory/I%2FA"), put("/inventory/%49%2f%41"));
        assert_ne!(put("/inventory/I%2FA"), put("/inventory/I/A"));
        assert_ne!(put("/inventory/I%2FA"), put("/inventory/I%252FA"));
        assert_ne!(put("/inventory/A"), bound(TestRequest::delete().uri("/inventory/A")));
    }

    #[test]
    fn preconditions_are_the_same_however_they_are_written() {
        assert_eq!(stated(&[]), "");
        let both = stated(&[("if-match", "\"1\",  \"2\"")]);
        assert_eq!(both, stated(&[("if-match", "\"1\""), ("if-match", "\"2\"")]));
        assert_ne!(both, stated(&[("if-match", "\"1\"")]));
        assert_ne!(stated(&[("if-match", "*")]), stated(&[("if-none-match", "*")]));
    }

    #[test]
    fn requests_differ_by_body_and_preconditions() {
        let hashes = [
            request_hash(b"a", ""),
            request_hash(b"b", ""),
            request_hash(b"a", "if-match: *\n"),
            request_hash(b"b", "if-match: *\n"),
            request_hash(b"a", "if-none-match: *\n"),
        ];
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        assert_eq!(request_hash(b"a", ""), hex::encode(Sha256::digest(b"a")));
    }
}
