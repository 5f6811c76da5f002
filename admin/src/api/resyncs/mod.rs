//! `/resyncs`: states sent again as events, to repair what differs or because a person wants it.

mod asked;
mod into_topic;
pub(super) mod replay;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use engine::bulk::JobState;
use engine::resync::{self, ResyncJob, ResyncKind, ResyncSelection, Skipped};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub(crate) use self::asked::Create;
use self::asked::{Checked, repairable};
use self::into_topic::checked_topic;
use self::replay::checked_consumer;
use super::verifications::{Asked, checked_after};
use super::{Admin, number};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/resyncs", Role::Viewer, Area::Events),
    Rule::new("POST", "/resyncs", Role::Operator, Area::Events),
    Rule::new("POST", "/resyncs/replay-preview", Role::Viewer, Area::Events),
    Rule::new("GET", "/resyncs/{seq}", Role::Viewer, Area::Events),
    Rule::new("GET", "/resyncs/{seq}/skipped", Role::Viewer, Area::Events),
    Rule::new("POST", "/resyncs/{seq}/cancel", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let resource = |path: &str| web::resource(format!("/resyncs{path}"));
    let other = wrong_method;
    scope
        .service(resource("").get(list).post(create).default_service(other("GET, POST")))
        .service(resource("/replay-preview").post(replay::preview).default_service(other("POST")))
        .service(resource("/{seq}").get(show).default_service(other("GET")))
        .service(resource("/{seq}/skipped").get(skipped).default_service(other("GET")))
        .service(resource("/{seq}/cancel").post(cancel).default_service(other("POST")));
}

/// A job that sends states again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResyncJob)]
pub(crate) struct ResyncItem {
    pub(crate) seq: String,
    #[schema(value_type = ResyncKind)]
    pub(crate) kind: ResyncKind,
    /// Which keys.
    #[schema(value_type = ResyncSelection)]
    pub(crate) selection: Box<RawValue>,
    pub(crate) reason: Option<String>,
    pub(crate) state: JobState,
    /// How many keys it is for, if that is known.
    pub(crate) expected: Option<i64>,
    /// Keys whose states were sent again so far; of a replay, the states.
    pub(crate) done: i64,
    /// Keys left as they are so far.
    pub(crate) skipped: i64,
    /// The key that it has got to.
    pub(crate) cursor: Option<String>,
    /// The last version of that key that was sent, where a replay goes on with the same key.
    pub(crate) cursor_version: Option<i64>,
    /// Why a replay into another topic, which is not at its end, could not send its next states the last time; it is tried
    /// again after a pause, which grows up to a minute.
    pub(crate) hindered: Option<String>,
    /// The verification of the same keys that a repair ends with.
    pub(crate) verification: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
    /// Who cancelled it.
    pub(crate) ended_by: Option<String>,
}

/// A key that a job left as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SkippedKey {
    pub(crate) key: String,
    pub(crate) why: String,
}

impl TryFrom<ResyncJob> for ResyncItem {
    type Error = Problem;

    fn try_from(job: ResyncJob) -> ProblemResult<Self> {
        let (cursor, cursor_version) = job.reached();
        let hindered = job.hindered();
        Ok(Self {
            seq: job.seq.to_string(),
            kind: job.kind,
            selection: RawValue::from_string(job.selection)
                .map_err(|error| Problem::internal(&error))?,
            reason: job.reason,
            state: job.state,
            expected: job.expected,
            done: job.done,
            skipped: job.skipped,
            cursor,
            cursor_version,
            hindered,
            verification: job.verification.map(|seq| seq.to_string()),
            created_at: job.created_us,
            created_by: job.created_by,
            started_at: job.started_us,
            ended_at: job.ended_us,
            ended_by: job.ended_by,
        })
    }
}

impl ResyncItem {
    /// One job.
    ///
    /// # Errors
    /// 404 if there is none of that number.
    pub(crate) fn find(conn: &mut Conn, seq: i64) -> ProblemResult<Self> {
        resync::find(conn, seq)?.ok_or_else(|| unknown(seq)).and_then(Self::try_from)
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        after: Option<i64>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let jobs = resync::list(conn, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = jobs.into_iter().map(Self::try_from).collect::<ProblemResult<_>>()?;
        Ok(Page::cut(items, limit, |job: &Self| job.seq.clone()))
    }
}

impl SkippedKey {
    /// Keys that a job left as they are, behind `after`.
    ///
    /// # Errors
    /// 404 if there is no such job.
    pub(crate) fn page(
        conn: &mut Conn,
        job: i64,
        after: &str,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        resync::find(conn, job)?.ok_or_else(|| unknown(job))?;
        let keys = resync::skipped(conn, job, after, limit + 1)?;
        let items = keys.into_iter().map(|Skipped { key, why, .. }| Self { key, why }).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.key.clone()))
    }
}

/// All jobs that send states again, newest first.
#[utoipa::path(
    get, path = "/api/admin/v1/resyncs", tag = "verification",
    params(PageQuery),
    responses(
        (status = 200, body = Page<ResyncItem>),
        (status = 404, description = "This service owns nothing whose states could be sent"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<ResyncItem>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    admin.verifier()?;
    admin.db.read(move |conn| ResyncItem::page(conn, after, limit).map(Json)).await
}

/// One job that sends states again, with its progress.
#[utoipa::path(
    get, path = "/api/admin/v1/resyncs/{seq}", tag = "verification",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = ResyncItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>, seq: Path<String>) -> ProblemResult<Json<ResyncItem>> {
    let seq = resync_number(&seq)?;
    admin.verifier()?;
    admin.db.read(move |conn| ResyncItem::find(conn, seq).map(Json)).await
}

/// The keys that a job left as they are, and why.
#[utoipa::path(
    get, path = "/api/admin/v1/resyncs/{seq}/skipped", tag = "verification",
    params(("seq" = String, Path), PageQuery),
    responses(
        (status = 200, body = Page<SkippedKey>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn skipped(
    admin: Data<Admin>,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<Json<Page<SkippedKey>>> {
    let seq = resync_number(&seq)?;
    let limit = params.limit()?;
    let after = checked_after(params.text("after"))?;
    params.finish()?;
    admin.verifier()?;
    admin.db.read(move |conn| SkippedKey::page(conn, seq, &after, limit).map(Json)).await
}

/// Sends states again, as events through the loop, or those that are kept into another topic; answers with the job, which
/// runs in the background.
#[utoipa::path(
    post, path = "/api/admin/v1/resyncs", tag = "verification",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Create,
    responses(
        (status = 201, body = ResyncItem),
        (status = 404, description = "This service owns nothing whose states could be sent"),
        (status = 409, description = "The verification is not at its end, found nothing, or another number of keys"),
        (status = 503, description = "The broker can't be asked for the topic", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Create>,
) -> ProblemResult<HttpResponse> {
    admin.verifier()?;
    let now = admin.env.now();
    let job = body.value.check((&by, now))?;
    // A topic that has gone since is no other answer to the same request.
    if let Some(response) = admin.acted(&key, &body.bytes).await? {
        return Ok(response);
    }
    checked_topic(&admin, job.into.as_deref()).await?;
    let first = admin.settings.kafka.outbound_consumer.clone();
    let work = move |conn: &mut Conn| {
        checked_consumer(conn, &first, job.consumer.as_deref())?;
        let job = create_now(conn, (&by, now), job)?;
        let location = format!("/api/admin/v1/resyncs/{}", job.seq);
        Ok(Reply::json(StatusCode::CREATED, &job)?.with_location(location))
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.resync.wake();
    Ok(response)
}

/// Cancels a job; what it has sent stays sent, and up to 100 messages on their way into another topic arrive.
#[utoipa::path(
    post, path = "/api/admin/v1/resyncs/{seq}/cancel", tag = "verification",
    params(("seq" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = ResyncItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let seq = resync_number(&seq)?;
    admin.verifier()?;
    let now = admin.env.now();
    let work =
        move |conn: &mut Conn| Reply::json(StatusCode::OK, &cancel_now(conn, (&by, now), seq)?);
    admin.act(key, &[], work).await
}

/// Puts a job down; the caller wakes the resync once that is committed.
///
/// # Errors
/// 409 when the verification that it repairs is not at its end, or does not have the differences that were announced.
pub(crate) fn create_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    checked: Checked,
) -> ProblemResult<ResyncItem> {
    let Checked { mut new, verification, only_listed, .. } = checked;
    if let Some(seq) = verification {
        let repaired = Asked::Number(seq).find(conn)?;
        new.expected = Some(repairable(&repaired, new.expected, only_listed)?);
    }
    let seq = resync::insert(conn, &new)?;
    let job = ResyncItem::find(conn, seq)?;
    let detail = serde_json::json!({
        "kind": job.kind, "selection": job.selection, "reason": job.reason, "expected": job.expected,
    });
    by.note(conn, now, "resync.create", Some(&job.seq), Some(detail))?;
    Ok(job)
}

/// Stops a job.
///
/// # Errors
/// 404 when there is none of that number, 409 when it has ended.
pub(crate) fn cancel_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    seq: i64,
) -> ProblemResult<ResyncItem> {
    let cancelled = resync::cancel(conn, seq, now, &by.name)?;
    let job = ResyncItem::find(conn, seq)?;
    if !cancelled {
        let why = format!("job {seq} is already {}", job.state.name());
        return Err(Problem::conflict("job-ended", why));
    }
    let detail = serde_json::json!({ "done": job.done, "skipped": job.skipped });
    by.note(conn, now, "resync.cancel", Some(&job.seq), Some(detail))?;
    Ok(job)
}

pub(crate) fn resync_number(seq: &str) -> ProblemResult<i64> {
    number(seq, "seq", "a job's")
}

fn unknown(seq: i64) -> Problem {
    Problem::not_found(format!("there is no job {seq} that sends states again"))
}
