//! What an operator does to an event that waits for one: retry it, or resolve it without an answer.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{IdempotencyKey, OptionalJson, Problem, ProblemResult, Reply, StrictJson};
use common::ids::EventId;
use engine::outbox::{Outbox, operate};
use serde::Deserialize;
use utoipa::ToSchema;

use super::item::EventDetail;
use super::{Admin, event_id, unknown};
use crate::access::Caller;
use crate::api::checked_reason;
use crate::api::problems::operate_problem;

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    /// How many further attempts, 1 to 100.
    attempts: Option<i32>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resolve {
    /// Why, for whoever reads the history: 1 to 500 characters.
    reason: String,
}

/// Makes an EXHAUSTED event PENDING again, with a raised limit; answers with the event.
#[utoipa::path(
    post, path = "/api/admin/v1/events/{id}/retry", tag = "events",
    params(("id" = String, Path, format = "uuid"), ("Idempotency-Key" = Option<String>, Header)),
    request_body = Retry,
    responses(
        (status = 200, body = EventDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retry(
    admin: Data<Admin>,
    id: Path<String>,
    by: Caller,
    key: IdempotencyKey,
    OptionalJson(body): OptionalJson<Retry>,
) -> ProblemResult<HttpResponse> {
    let id = event_id(&id)?;
    let Retry { attempts, reason } = body.value;
    reason.as_deref().map_or(Ok(()), checked_reason)?;
    let more = checked_attempts(attempts.unwrap_or(admin.settings.outbox.max_attempts))?;
    let (outbox, now) = (admin.outbox.clone(), admin.env.now());
    let work = move |conn: &mut Conn| {
        retry_now(conn, &outbox, (&by, now), id, more, reason.as_deref())?;
        event(conn, id)
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.outbox.wake();
    Ok(response)
}

/// Marks an EXHAUSTED event as handled by other means; answers with the event.
#[utoipa::path(
    post, path = "/api/admin/v1/events/{id}/resolve", tag = "events",
    params(("id" = String, Path, format = "uuid"), ("Idempotency-Key" = Option<String>, Header)),
    request_body = Resolve,
    responses(
        (status = 200, body = EventDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resolve(
    admin: Data<Admin>,
    id: Path<String>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Resolve>,
) -> ProblemResult<HttpResponse> {
    let id = event_id(&id)?;
    let reason = body.value.reason;
    checked_reason(&reason)?;
    let (outbox, now) = (admin.outbox.clone(), admin.env.now());
    let work = move |conn: &mut Conn| {
        resolve_now(conn, &outbox, (&by, now), id, &reason)?;
        event(conn, id)
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.outbox.wake();
    Ok(response)
}

/// Makes an EXHAUSTED event PENDING again; the caller wakes the outbox once that is committed.
///
/// # Errors
/// 404 when there is no such event, 409 when it is not EXHAUSTED.
pub(crate) fn retry_now(
    conn: &mut Conn,
    outbox: &Outbox,
    (by, now): (&Caller, Timestamp),
    id: EventId,
    more: i32,
    reason: Option<&str>,
) -> ProblemResult<()> {
    operate::retry(conn, outbox, id, more, &by.name, reason).map_err(operate_problem)?;
    let detail = serde_json::json!({ "attempts": more, "reason": reason });
    Ok(by.note(conn, now, "event.retry", Some(&id.to_string()), Some(detail))?)
}

/// Resolves an EXHAUSTED event; the caller wakes the outbox once that is committed.
///
/// # Errors
/// As [`retry_now`].
pub(crate) fn resolve_now(
    conn: &mut Conn,
    outbox: &Outbox,
    (by, now): (&Caller, Timestamp),
    id: EventId,
    reason: &str,
) -> ProblemResult<()> {
    operate::resolve(conn, outbox, id, &by.name, reason).map_err(operate_problem)?;
    let detail = serde_json::json!({ "reason": reason });
    Ok(by.note(conn, now, "event.resolve", Some(&id.to_string()), Some(detail))?)
}

pub(crate) fn checked_attempts(attempts: i32) -> ProblemResult<i32> {
    match attempts {
        1..=100 => Ok(attempts),
        _ => Err(Problem::invalid("attempts", "a retry adds 1 to 100 attempts")),
    }
}

fn event(conn: &mut Conn, id: EventId) -> ProblemResult<Reply> {
    let event = EventDetail::find(conn, id)?.ok_or_else(|| unknown(id))?;
    Reply::json(StatusCode::OK, &event)
}
