//! `Idempotency-Key`: the answer to a write is kept with its change, and given again to the same request.
//!
//! After the IETF draft "The Idempotency-Key HTTP Header Field": same key and request, same answer; same key and
//! another body or other preconditions, 422; the first still running, 409, but for writes that share transactions
//! ([`super::GroupWork`]): those wait for it. A key belongs to one address, however that
//! is spelled. What was refused or failed had no effect and is not kept: it is decided anew each time.

mod kept;
mod key;
mod reply;

use kept::{find_all, same};

pub(super) use kept::{answers_before, keep_all};
pub(super) use key::{HashedRequest, KeyedWrite};
pub use key::{IdempotencyKey, KeysInProgress};
pub use reply::Reply;

use super::ProblemResult;
use crate::clock::Timestamp;
use crate::db::{Conn, Db};

/// Runs a write once per key: `work` and the keeping of its answer are one transaction.
///
/// `work` refuses by `Err`: whatever it wrote is undone (it runs in a savepoint), and nothing is kept.
///
/// # Errors
/// 409 while the first is running, 422 for another body or other preconditions, 5xx when the database fails, which says so if
/// the write may be done all the same. Refusals by `work` come back as `Ok(Reply)`.
pub async fn idempotent(
    db: &Db,
    running: &KeysInProgress,
    key: IdempotencyKey,
    body: &[u8],
    now: Timestamp,
    work: impl FnOnce(&mut Conn) -> ProblemResult<Reply> + Send + 'static,
) -> ProblemResult<Reply> {
    let Some(request) = key.with_body(body) else {
        return db.write(|conn| settle(conn.transaction(work))).await;
    };
    let write = running.begin(request)?;
    // Held by the transaction, not by the request: a client that hangs up does not end the first run.
    db.write(move |conn| {
        if let Some(answer) = answers_before(conn, &[&write])?.pop().flatten() {
            return answer;
        }
        let reply = settle(conn.transaction(work))?;
        if reply.is_success() {
            keep_all(conn, now, &[(&write, reply.clone())])?;
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
    let Some(request) = key.clone().with_body(body) else { return Ok(None) };
    let HashedRequest { bound, request_hash } = request;
    db.read(move |conn| {
        let found = find_all(conn, &[&bound])?.remove(&bound);
        let found = found.filter(|(_, reply)| reply.is_success());
        found.map(|found| same(found, &request_hash)).transpose()
    })
    .await
}

/// Turns a refusal into an answer like any other; faults stay errors and roll back.
pub(super) fn settle(outcome: ProblemResult<Reply>) -> ProblemResult<Reply> {
    match outcome {
        Err(problem) if problem.status().is_client_error() => Ok(Reply::from(&problem)),
        other => other,
    }
}
