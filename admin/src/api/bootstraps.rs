//! `/bootstraps`: copies that were new or emptied, and how far they are filled.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use engine::bootstrap::{self, Filling, NewFilling, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::verifications::checked_consumer;
use super::{Admin, number};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/bootstraps", Role::Viewer, Area::Events),
    Rule::new("POST", "/bootstraps", Role::Operator, Area::Events),
    Rule::new("GET", "/bootstraps/{seq}", Role::Viewer, Area::Events),
    Rule::new("POST", "/bootstraps/{seq}/cancel", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let resource = |path: &str| web::resource(format!("/bootstraps{path}"));
    let other = wrong_method;
    scope
        .service(resource("").get(list).post(create).default_service(other("GET, POST")))
        .service(resource("/{seq}").get(show).default_service(other("GET")))
        .service(resource("/{seq}/cancel").post(cancel).default_service(other("POST")));
}

/// The filling of a copy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bootstrap)]
pub(crate) struct FillingItem {
    pub(crate) seq: String,
    /// Whose copy.
    pub(crate) consumer: String,
    /// Which copy; none until it has answered.
    pub(crate) copy_id: Option<String>,
    pub(crate) state: State,
    /// Keys of the owner, as counted at its start.
    pub(crate) expected: i64,
    /// Of those, sent so far.
    pub(crate) done: i64,
    /// Keys sent per second so far.
    pub(crate) keys_per_second: Option<f64>,
    /// How many more seconds sending takes at that pace.
    pub(crate) seconds_left: Option<f64>,
    /// The job that sends the states.
    pub(crate) job: Option<String>,
    /// The verification that judges.
    pub(crate) verification: Option<String>,
    /// How often it was verified and not found equal.
    pub(crate) rounds: i32,
    /// What it waits for, or why it ended.
    pub(crate) reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    /// When the first state was sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    /// When the last one was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) filled_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
    /// Who cancelled it.
    pub(crate) ended_by: Option<String>,
}

/// A filling that is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewBootstrap)]
pub(crate) struct Create {
    /// Of which consumer's copy; unless given, of the one that receives this service's events.
    pub(crate) consumer: Option<String>,
}

impl FillingItem {
    /// As it is at `now`.
    fn seen(row: Filling, now: Timestamp) -> Self {
        let keys_per_second = pace(&row, now);
        let left = (row.expected - row.done).max(0);
        let is_sending = row.state == State::Filling;
        let seconds_left = keys_per_second.filter(|_| is_sending).map(|pace| left as f64 / pace);
        let text = |number: i64| number.to_string();
        Self {
            seq: row.seq.to_string(),
            consumer: row.consumer,
            copy_id: row.copy_id,
            state: row.state,
            expected: row.expected,
            done: row.done,
            keys_per_second,
            seconds_left,
            job: row.job.map(text),
            verification: row.verification.map(text),
            rounds: row.rounds,
            reason: row.reason,
            created_at: row.created_us,
            created_by: row.created_by,
            started_at: row.started_us,
            filled_at: row.filled_us,
            ended_at: row.ended_us,
            ended_by: row.ended_by,
        }
    }

    /// One filling.
    ///
    /// # Errors
    /// 404 if there is none of that number.
    pub(crate) fn find(conn: &mut Conn, seq: i64, now: Timestamp) -> ProblemResult<Self> {
        let found = bootstrap::find(conn, seq)?;
        let unknown = || Problem::not_found(format!("there is no filling {seq} of a copy"));
        found.map(|row| Self::seen(row, now)).ok_or_else(unknown)
    }

    /// A page of fillings, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        after: Option<i64>,
        limit: i64,
        now: Timestamp,
    ) -> ProblemResult<Page<Self>> {
        let rows = bootstrap::list(conn, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = rows.into_iter().map(|row| Self::seen(row, now)).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.seq.clone()))
    }
}

/// Keys per second; none before the first ones are sent.
fn pace(row: &Filling, now: Timestamp) -> Option<f64> {
    let since = row.started_us?;
    let seconds = row.filled_us.or(row.ended_us).unwrap_or(now).since(since).as_secs_f64();
    (row.done > 0 && seconds > 0.0).then(|| row.done as f64 / seconds)
}

/// All fillings of copies, newest first.
#[utoipa::path(
    get, path = "/api/admin/v1/bootstraps", tag = "verification",
    params(PageQuery),
    responses(
        (status = 200, body = Page<FillingItem>),
        (status = 404, description = "This service owns nothing that a copy could be filled with"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<FillingItem>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    admin.verifier()?;
    let now = admin.env.now();
    admin.db.read(move |conn| FillingItem::page(conn, after, limit, now).map(Json)).await
}

/// One filling of a copy, with its progress.
#[utoipa::path(
    get, path = "/api/admin/v1/bootstraps/{seq}", tag = "verification",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = FillingItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    admin: Data<Admin>,
    seq: Path<String>,
) -> ProblemResult<Json<FillingItem>> {
    let seq = filling_number(&seq)?;
    admin.verifier()?;
    let now = admin.env.now();
    admin.db.read(move |conn| FillingItem::find(conn, seq, now).map(Json)).await
}

/// Fills a copy that is not complete, also one whose filling a person cancelled; answers with it, and it runs in the
/// background.
///
/// A copy that is complete stays as it is: such a filling ends as soon as the consumer has said so.
#[utoipa::path(
    post, path = "/api/admin/v1/bootstraps", tag = "verification",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Create,
    responses(
        (status = 201, body = FillingItem),
        (status = 404, description = "This service owns nothing that a copy could be filled with"),
        (status = 409, description = "That consumer's copy is being filled already"),
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
    let consumer = checked_consumer(body.value.consumer, &admin)?;
    let work = move |conn: &mut Conn| {
        let item = create_now(conn, (&by, now), &consumer)?;
        let location = format!("/api/admin/v1/bootstraps/{}", item.seq);
        Ok(Reply::json(StatusCode::CREATED, &item)?.with_location(location))
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.wake_bootstrap();
    Ok(response)
}

/// Cancels a filling; what it has sent stays sent, and the copy stays as incomplete as it is.
#[utoipa::path(
    post, path = "/api/admin/v1/bootstraps/{seq}/cancel", tag = "verification",
    params(("seq" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = FillingItem),
        (status = 409, description = "It has ended already"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let seq = filling_number(&seq)?;
    admin.verifier()?;
    let now = admin.env.now();
    let work =
        move |conn: &mut Conn| Reply::json(StatusCode::OK, &cancel_now(conn, (&by, now), seq)?);
    admin.act(key, &[], work).await
}

/// Puts a filling down; the caller wakes the background once that is committed.
///
/// # Errors
/// 409 when that consumer's copy is being filled already.
pub(crate) fn create_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    consumer: &str,
) -> ProblemResult<FillingItem> {
    let new = NewFilling {
        consumer: consumer.to_owned(),
        copy_id: None,
        state: State::Counting,
        due_us: now,
        created_us: now,
        created_by: by.name.clone(),
        created_via: by.via.name().to_owned(),
    };
    let seq = bootstrap::insert(conn, &new)?.ok_or_else(|| {
        let detail = format!("the copy of {consumer} is being filled already; wait for its end");
        Problem::conflict("bootstrap-under-way", detail)
    })?;
    let item = FillingItem::find(conn, seq, now)?;
    let detail = serde_json::json!({ "consumer": consumer });
    by.note(conn, now, "bootstrap.create", Some(&item.seq), Some(detail))?;
    Ok(item)
}

/// Stops a filling.
///
/// # Errors
/// 404 when there is none of that number, 409 when it has ended.
pub(crate) fn cancel_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    seq: i64,
) -> ProblemResult<FillingItem> {
    let cancelled = bootstrap::cancel(conn, seq, now, &by.name)?;
    let item = FillingItem::find(conn, seq, now)?;
    if !cancelled {
        let why = format!("filling {seq} has ended already, as {}", item.state.name());
        return Err(Problem::conflict("bootstrap-ended", why));
    }
    let detail = serde_json::json!({ "done": item.done, "expected": item.expected });
    by.note(conn, now, "bootstrap.cancel", Some(&item.seq), Some(detail))?;
    Ok(item)
}

pub(crate) fn filling_number(seq: &str) -> ProblemResult<i64> {
    number(seq, "seq", "a filling's")
}

impl Admin {
    /// Tells the background that a filling was committed.
    pub(crate) fn wake_bootstrap(&self) {
        if let Some(bootstrap) = &self.bootstrap {
            bootstrap.wake();
        }
    }
}
