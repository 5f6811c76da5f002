//! The answers that are kept: every statement on their table.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};

use super::key::{Bound, KeyedWrite, still_running};
use super::reply::Reply;
use crate::clock::Timestamp;
use crate::db::{Conn, Kept, ROWS_PER_INSERT, Unnest, column};
use crate::http::{Problem, ProblemResult};
use crate::on;
use crate::schema::idempotency;

/// What a key was used with, as [`super::key`] makes its hash, and the answer.
pub(super) type KeptReply = (String, Reply);

/// What is to be answered to each of `writes` before anything is done: what was kept for the same request, that another
/// one goes on elsewhere, or that its key was used for something else. Nothing: it is to be done. One statement locks all
/// keys until the transaction ends, and one looks all up.
///
/// # Errors
/// When a statement fails.
pub(crate) fn answers_before(
    conn: &mut Conn,
    writes: &[&KeyedWrite],
) -> QueryResult<Vec<Option<ProblemResult<Reply>>>> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let locked = lock_all(conn, writes)?;
    let bounds = column(writes, |write| &write.bound);
    let mut found = find_all(conn, &bounds)?;
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

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Which of `writes` are kept out of other instances, by locks that end with the transaction; SQLite has one writer anyway.
fn lock_all(conn: &mut Conn, writes: &[&KeyedWrite]) -> QueryResult<Vec<bool>> {
    let Conn::Pg(c) = conn else { return Ok(vec![true; writes.len()]) };
    let lock = sql_query(
        "SELECT pg_try_advisory_xact_lock(number) AS locked \
         FROM unnest($1) WITH ORDINALITY AS wanted (number, place) ORDER BY place",
    )
    .bind::<Array<BigInt>, _>(column(writes, |write| write.bound.number()));
    let rows: Vec<Locked> = Kept::of(lock).load(c)?;
    Ok(rows.into_iter().map(|row| row.locked).collect())
}

#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = idempotency)]
struct KeptRow {
    principal: String,
    route: String,
    key: String,
    body_hash: String,
    status: i32,
    etag: Option<String>,
    location: Option<String>,
    body: String,
}

impl KeptRow {
    fn read(self) -> (Bound, KeptReply) {
        let Self { principal, route, key, body_hash, status, etag, location, body } = self;
        let reply = Reply { status, etag, location, body, replayed: true };
        (Bound { principal, route, key }, (body_hash, reply))
    }
}

/// What is kept of each of `bounds`, if anything is.
pub(super) fn find_all(
    conn: &mut Conn,
    bounds: &[&Bound],
) -> QueryResult<HashMap<Bound, KeptReply>> {
    let rows = match (conn, bounds) {
        (Conn::Pg(c), [_, _, ..]) => sql_query(
            "SELECT i.principal, i.route, i.key, body_hash, status, etag, location, body \
             FROM unnest($1, $2, $3) AS wanted (principal, route, key) \
             JOIN idempotency i ON (i.principal, i.route, i.key) = (wanted.principal, wanted.route, wanted.key)",
        )
        .bind::<Array<Text>, _>(column(bounds, |bound| bound.principal.as_str()))
        .bind::<Array<Text>, _>(column(bounds, |bound| bound.route.as_str()))
        .bind::<Array<Text>, _>(column(bounds, |bound| bound.key.as_str()))
        .load(c)?,
        (conn, _) => {
            let mut rows: Vec<KeptRow> = Vec::new();
            for Bound { principal, route, key } in bounds {
                rows.extend(on!(&mut *conn, c => idempotency::table
                    .find((principal, route, key))
                    .select(KeptRow::as_select())
                    .first(c)
                    .optional())?);
            }
            rows
        }
    };
    Ok(rows.into_iter().map(KeptRow::read).collect())
}

pub(super) fn same((hash, reply): KeptReply, request_hash: &str) -> ProblemResult<Reply> {
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

/// Keeps the answer to each write, given at `now`, with the change that it is of.
///
/// # Errors
/// When a statement fails.
pub(crate) fn keep_all(
    conn: &mut Conn,
    now: Timestamp,
    done: &[(&KeyedWrite, Reply)],
) -> QueryResult<()> {
    let rows: Vec<NewReply<'_>> =
        done.iter().map(|(write, reply)| NewReply::of(write, reply, now)).collect();
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
