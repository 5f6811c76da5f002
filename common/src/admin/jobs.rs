//! `/jobs`: actions on many events, said first, then done in the background.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::events::{EventItem, checked_attempts};
use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};
use crate::bulk::{self, Action, Item, Job, MAX_IDS, NewJob, Selection, State};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::http::{
    IdempotencyKey, Page, Params, Problem, ProblemResult, Reply, StrictJson, wrong_method,
};
use crate::ids::EventId;

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/jobs", Role::Viewer, Area::Events),
    Rule::new("POST", "/jobs", Role::Operator, Area::Events),
    Rule::new("POST", "/jobs/preview", Role::Operator, Area::Events),
    Rule::new("GET", "/jobs/{seq}", Role::Viewer, Area::Events),
    Rule::new("GET", "/jobs/{seq}/items", Role::Viewer, Area::Events),
    Rule::new("POST", "/jobs/{seq}/cancel", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all =
        web::resource("/jobs").get(list).post(create).default_service(wrong_method("GET, POST"));
    let preview =
        web::resource("/jobs/preview").post(preview).default_service(wrong_method("POST"));
    let one = web::resource("/jobs/{seq}").get(show).default_service(wrong_method("GET"));
    let items = web::resource("/jobs/{seq}/items").get(items).default_service(wrong_method("GET"));
    let cancel =
        web::resource("/jobs/{seq}/cancel").post(cancel).default_service(wrong_method("POST"));
    scope.service(all).service(preview).service(one).service(items).service(cancel);
}

/// A job, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct JobItem {
    pub(in crate::admin) seq: String,
    #[schema(value_type = String)]
    pub(in crate::admin) action: Action,
    /// Which events.
    #[schema(value_type = Selection)]
    selection: Box<RawValue>,
    pub(in crate::admin) reason: Option<String>,
    /// Attempts more; retries only.
    attempts: Option<i32>,
    pub(in crate::admin) state: State,
    /// How many events the person was told that it would touch.
    pub(in crate::admin) expected: i64,
    /// Events acted on so far.
    pub(in crate::admin) done: i64,
    /// Events left as they are so far.
    pub(in crate::admin) skipped: i64,
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::admin) created_at: Timestamp,
    pub(in crate::admin) created_by: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::admin) ended_at: Option<Timestamp>,
    /// Who cancelled it.
    ended_by: Option<String>,
}

/// What a job did to an event.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct JobEvent {
    #[schema(value_type = String, format = "uuid")]
    pub(in crate::admin) event_id: EventId,
    /// Why it was left as it is; none: it was acted on.
    pub(in crate::admin) skipped: Option<String>,
}

/// A selection whose events are to be counted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Preview {
    selection: Selection,
}

/// What a selection comes to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Previewed {
    /// How many events fit.
    pub(in crate::admin) matches: usize,
    /// Whether there may be more: 100,000 events are looked at.
    pub(in crate::admin) at_least: bool,
    /// The newest of them, up to 5.
    pub(in crate::admin) examples: Vec<EventItem>,
}

/// An action on many events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Create {
    action: Action,
    selection: Selection,
    /// Why, for the events' histories; a resolution needs one.
    reason: Option<String>,
    /// Attempts more, 1 to 100; retries only.
    attempts: Option<i32>,
    /// How many events the preview said.
    #[schema(minimum = 0)]
    expected: i64,
}

impl TryFrom<Job> for JobItem {
    type Error = Problem;

    fn try_from(job: Job) -> ProblemResult<Self> {
        Ok(Self {
            seq: job.seq.to_string(),
            action: job.action,
            state: job.state(),
            selection: RawValue::from_string(job.selection)
                .map_err(|error| Problem::internal(&error))?,
            reason: job.reason,
            attempts: job.attempts,
            expected: job.expected,
            done: job.done,
            skipped: job.skipped,
            created_at: job.created_us,
            created_by: job.created_by,
            started_at: job.started_us,
            ended_at: job.ended_us,
            ended_by: job.ended_by,
        })
    }
}

impl JobItem {
    /// One job.
    ///
    /// # Errors
    /// 404 if there is none of that number.
    pub(in crate::admin) fn find(conn: &mut Conn, seq: i64) -> ProblemResult<Self> {
        bulk::find(conn, seq)?.ok_or_else(|| unknown(seq)).and_then(Self::try_from)
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(in crate::admin) fn page(
        conn: &mut Conn,
        after: Option<i64>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let jobs = bulk::list(conn, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = jobs.into_iter().map(Self::try_from).collect::<ProblemResult<_>>()?;
        Ok(Page::cut(items, limit, |job: &Self| job.seq.clone()))
    }
}

impl Previewed {
    /// Counts what `selection` comes to now.
    ///
    /// # Errors
    /// When a statement fails.
    pub(in crate::admin) fn take(
        conn: &mut Conn,
        selection: &Selection,
        now: Timestamp,
    ) -> ProblemResult<Self> {
        let counted = bulk::count(conn, selection, now)?;
        let examples = EventItem::of_ids(conn, &counted.examples)?;
        Ok(Self { matches: counted.matches, at_least: counted.at_least, examples })
    }
}

/// All jobs, newest first.
#[utoipa::path(
    get, path = "/api/admin/v1/jobs", tag = "jobs",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "The `next` of a page."),
    ),
    responses(
        (status = 200, body = Page<JobItem>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::admin) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<JobItem>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    admin.engine.db.read(move |conn| Ok(Json(JobItem::page(conn, after, limit)?))).await
}

/// One job, with how far it is.
#[utoipa::path(
    get, path = "/api/admin/v1/jobs/{seq}", tag = "jobs",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = JobItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::admin) async fn show(
    admin: Data<Admin>,
    seq: Path<String>,
) -> ProblemResult<Json<JobItem>> {
    let seq = number(&seq)?;
    admin.engine.db.read(move |conn| Ok(Json(JobItem::find(conn, seq)?))).await
}

/// What a job did to each event, newest event first.
#[utoipa::path(
    get, path = "/api/admin/v1/jobs/{seq}/items", tag = "jobs",
    params(
        ("seq" = String, Path),
        ("skipped" = Option<bool>, Query, description = "Only those left as they are, or only the others."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "The `next` of a page."),
    ),
    responses(
        (status = 200, body = Page<JobEvent>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::admin) async fn items(
    admin: Data<Admin>,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<Json<Page<JobEvent>>> {
    let seq = number(&seq)?;
    let limit = params.limit()?;
    let skipped = params.take("skipped", "true or false")?;
    let after = params.take("after", "the `next` of a page")?;
    params.finish()?;
    admin
        .engine
        .db
        .read(move |conn| {
            bulk::find(conn, seq)?.ok_or_else(|| unknown(seq))?;
            let items = bulk::items(conn, seq, skipped, after, limit + 1)?;
            let items = items.into_iter().map(JobEvent::from).collect();
            Ok(Json(Page::cut(items, limit, |item: &JobEvent| item.event_id.to_string())))
        })
        .await
}

impl From<Item> for JobEvent {
    fn from(item: Item) -> Self {
        Self { event_id: item.event_id, skipped: item.skipped }
    }
}

/// How many events a selection comes to, before anything is done.
#[utoipa::path(
    post, path = "/api/admin/v1/jobs/preview", tag = "jobs",
    request_body = Preview,
    responses(
        (status = 200, body = Previewed),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::admin) async fn preview(
    admin: Data<Admin>,
    body: StrictJson<Preview>,
) -> ProblemResult<Json<Previewed>> {
    let selection = body.value.selection;
    check_selection(&selection)?;
    let now = admin.engine.env.now();
    admin.engine.db.read(move |conn| Ok(Json(Previewed::take(conn, &selection, now)?))).await
}

/// Starts an action on many events; answers with the job, which is worked off in the background.
#[utoipa::path(
    post, path = "/api/admin/v1/jobs", tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Create,
    responses(
        (status = 201, body = JobItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::admin) async fn create(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Create>,
) -> ProblemResult<HttpResponse> {
    let now = admin.engine.env.now();
    let job = body.value.check(&by, now, admin.engine.settings.outbox.max_attempts)?;
    let work = move |conn: &mut Conn| {
        let seq = bulk::create(conn, &job)?;
        let job = JobItem::find(conn, seq)?;
        let detail = serde_json::json!({
            "action": job.action, "selection": job.selection, "reason": job.reason,
            "attempts": job.attempts, "expected": job.expected,
        });
        by.note(conn, now, "job.create", Some(&job.seq), Some(detail))?;
        let location = format!("/api/admin/v1/jobs/{seq}");
        Ok(Reply::json(StatusCode::CREATED, &job)?.with_location(location))
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.engine.bulk.wake();
    Ok(response)
}

impl Create {
    fn check(self, by: &Caller, now: Timestamp, max_attempts: i32) -> ProblemResult<NewJob> {
        check_selection(&self.selection)?;
        self.reason.as_deref().map_or(Ok(()), checked_reason)?;
        if self.expected < 0 {
            return Err(Problem::invalid("expected", "it is the number that the preview said"));
        }
        let attempts = match (self.action, self.attempts) {
            (Action::Retry, attempts) => Some(checked_attempts(attempts.unwrap_or(max_attempts))?),
            (Action::Resolve, None) if self.reason.is_some() => None,
            (Action::Resolve, None) => {
                return Err(Problem::invalid("reason", "a resolution needs a reason"));
            }
            (Action::Resolve, Some(_)) => {
                return Err(Problem::invalid("attempts", "a resolution makes no attempts"));
            }
        };
        let selection =
            serde_json::to_string(&self.selection).map_err(|error| Problem::internal(&error))?;
        Ok(NewJob {
            action: self.action,
            selection,
            reason: self.reason,
            attempts,
            state: State::Waiting.code(),
            expected: self.expected,
            created_us: now,
            created_by: by.name.clone(),
            created_via: by.via.name().to_owned(),
        })
    }
}

/// Stops a job; what it has done stays done.
#[utoipa::path(
    post, path = "/api/admin/v1/jobs/{seq}/cancel", tag = "jobs",
    params(("seq" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = JobItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::admin) async fn cancel(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let now = admin.engine.env.now();
    let work = move |conn: &mut Conn| {
        let cancelled = bulk::cancel(conn, seq, now, &by.name)?;
        let job = JobItem::find(conn, seq)?;
        if !cancelled {
            let why = format!("job {seq} is {} already", job.state.name());
            return Err(Problem::conflict("job-ended", why));
        }
        let detail = serde_json::json!({ "done": job.done, "skipped": job.skipped });
        by.note(conn, now, "job.cancel", Some(&job.seq), Some(detail))?;
        Reply::json(StatusCode::OK, &job)
    };
    admin.act(key, &[], work).await
}

fn check_selection(selection: &Selection) -> ProblemResult<()> {
    match selection {
        Selection::Ids(ids) if ids.is_empty() || ids.len() > MAX_IDS => Err(Problem::invalid(
            "selection.ids",
            format!("a selection names 1 to {MAX_IDS} events; a filter may fit more"),
        )),
        Selection::Ids(_) | Selection::Filter(_) => Ok(()),
    }
}

fn number(seq: &str) -> ProblemResult<i64> {
    seq.parse().map_err(|_| Problem::invalid("seq", "a job's number is a whole number"))
}

fn unknown(seq: i64) -> Problem {
    Problem::not_found(format!("there is no job {seq}"))
}
