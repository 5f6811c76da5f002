//! `/jobs`: actions on many events, previewed first, then done in the background.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use common::ids::EventId;
use engine::bulk::{self, Action, Item, Job, JobState, MAX_IDS, NewJob, Selection};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::events::{EventItem, checked_attempts};
use super::problems::job_problem;
use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};

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
pub(crate) struct JobItem {
    pub(crate) seq: String,
    #[schema(value_type = String)]
    pub(crate) action: Action,
    /// Which events.
    #[schema(value_type = Selection)]
    pub(crate) selection: Box<RawValue>,
    pub(crate) reason: Option<String>,
    /// Further attempts; retries only.
    pub(crate) attempts: Option<i32>,
    pub(crate) state: JobState,
    /// How many events the preview announced.
    pub(crate) expected: i64,
    /// Events acted on so far.
    pub(crate) done: i64,
    /// Events skipped so far.
    pub(crate) skipped: i64,
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

/// What a job did to an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobEvent {
    #[schema(value_type = String, format = "uuid")]
    pub(crate) event_id: EventId,
    /// Why it was skipped; none: it was acted on.
    pub(crate) skipped: Option<String>,
}

/// A selection whose events are to be counted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preview {
    selection: Selection,
}

/// What a selection matches.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Previewed {
    /// How many events match.
    pub(crate) matches: usize,
    /// Whether there may be more, which a job of this preview leaves alone: at most 100,000 events are looked at.
    pub(crate) at_least: bool,
    /// What a job of exactly these events has to name, within an hour; none for events that are named by id.
    pub(crate) preview: Option<String>,
    /// The newest of them, up to 5.
    pub(crate) examples: Vec<EventItem>,
}

/// An action on many events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJob)]
pub(crate) struct Create {
    pub(crate) action: Action,
    pub(crate) selection: Selection,
    /// Why, for the events' histories; a resolution needs one.
    pub(crate) reason: Option<String>,
    /// Further attempts, 1 to 100; retries only.
    pub(crate) attempts: Option<i32>,
    /// How many events the preview counted; the job is refused with 409 if it would cover another number.
    #[schema(minimum = 0)]
    pub(crate) expected: i64,
    /// The `preview` of the preview: the job covers the events that it found, and no others. Without it, the job
    /// covers what matches now.
    pub(crate) preview: Option<String>,
}

impl TryFrom<Job> for JobItem {
    type Error = Problem;

    fn try_from(job: Job) -> ProblemResult<Self> {
        Ok(Self {
            seq: job.seq.to_string(),
            action: job.action,
            state: job.state,
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
    pub(crate) fn find(conn: &mut Conn, seq: i64) -> ProblemResult<Self> {
        bulk::find(conn, seq)?.ok_or_else(|| unknown(seq)).and_then(Self::try_from)
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
        let jobs = bulk::list(conn, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = jobs.into_iter().map(Self::try_from).collect::<ProblemResult<_>>()?;
        Ok(Page::cut(items, limit, |job: &Self| job.seq.clone()))
    }
}

impl Previewed {
    /// Finds what `selection` comes to now, and keeps it for a job.
    ///
    /// # Errors
    /// When a statement fails.
    pub(crate) async fn take(admin: &Admin, selection: Selection) -> ProblemResult<Self> {
        let now = admin.env.now();
        let read = move |conn: &mut Conn| {
            let found = bulk::matches(conn, &selection, now)?;
            let examples = EventItem::of_ids(conn, found.examples())?;
            Ok::<_, Problem>((selection, found, examples))
        };
        let (selection, found, examples) = admin.db.read(read).await?;
        let (matches, at_least) = (found.ids.len(), found.at_least);
        // Found before, so that the walk holds up no writer: the list counts, not the moment.
        let keep = move |conn: &mut Conn| {
            Ok::<_, Problem>(bulk::keep_preview(conn, &selection, &found, now)?)
        };
        let preview = admin.db.write(keep).await?.map(|seq| seq.to_string());
        Ok(Self { matches, at_least, preview, examples })
    }
}

/// All jobs, newest first.
#[utoipa::path(
    get, path = "/api/admin/v1/jobs", tag = "jobs",
    params(
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<JobItem>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<JobItem>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    admin.db.read(move |conn| Ok(Json(JobItem::page(conn, after, limit)?))).await
}

/// One job with its progress.
#[utoipa::path(
    get, path = "/api/admin/v1/jobs/{seq}", tag = "jobs",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = JobItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>, seq: Path<String>) -> ProblemResult<Json<JobItem>> {
    let seq = number(&seq)?;
    admin.db.read(move |conn| Ok(Json(JobItem::find(conn, seq)?))).await
}

/// What a job did to each event, newest event first.
#[utoipa::path(
    get, path = "/api/admin/v1/jobs/{seq}/items", tag = "jobs",
    params(
        ("seq" = String, Path),
        ("skipped" = Option<bool>, Query, description = "Only skipped events, or only the others."),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<JobEvent>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn items(
    admin: Data<Admin>,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<Json<Page<JobEvent>>> {
    let seq = number(&seq)?;
    let limit = params.limit()?;
    let skipped = params.take("skipped", "true or false")?;
    let after = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let page = move |conn: &mut _| JobEvent::page(conn, seq, skipped, after, limit);
    admin.db.read(page).await.map(Json)
}

impl JobEvent {
    /// What a job did to the events below `after`.
    ///
    /// # Errors
    /// 404 when there is no such job, or when the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        job: i64,
        skipped: Option<bool>,
        after: Option<EventId>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        bulk::find(conn, job)?.ok_or_else(|| unknown(job))?;
        let items = bulk::items(conn, job, skipped, after, limit + 1)?;
        let items = items.into_iter().map(Self::from).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.event_id.to_string()))
    }
}

impl From<Item> for JobEvent {
    fn from(item: Item) -> Self {
        Self { event_id: item.event_id, skipped: item.skipped }
    }
}

/// How many events a selection matches, before anything is done; the list of them is kept for a job.
#[utoipa::path(
    post, path = "/api/admin/v1/jobs/preview", tag = "jobs",
    request_body = Preview,
    responses(
        (status = 200, body = Previewed),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn preview(
    admin: Data<Admin>,
    body: StrictJson<Preview>,
) -> ProblemResult<Json<Previewed>> {
    let selection = body.value.selection;
    check_selection(&selection)?;
    Previewed::take(&admin, selection).await.map(Json)
}

/// Starts an action on many events; answers with the job, which runs in the background.
///
/// It covers the events that its preview found: one that is not EXHAUSTED any more is skipped, and one that came to match
/// later is left alone.
#[utoipa::path(
    post, path = "/api/admin/v1/jobs", tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Create,
    responses(
        (status = 201, body = JobItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Create>,
) -> ProblemResult<HttpResponse> {
    let now = admin.env.now();
    let job = body.value.check(&by, now, admin.settings.outbox.max_attempts)?;
    let work = move |conn: &mut Conn| {
        let job = create_now(conn, (&by, now), &job)?;
        let location = format!("/api/admin/v1/jobs/{}", job.seq);
        Ok(Reply::json(StatusCode::CREATED, &job)?.with_location(location))
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.bulk.wake();
    Ok(response)
}

impl Create {
    pub(crate) fn check(
        self,
        by: &Caller,
        now: Timestamp,
        max_attempts: i32,
    ) -> ProblemResult<NewJob> {
        check_selection(&self.selection)?;
        self.reason.as_deref().map_or(Ok(()), checked_reason)?;
        if self.expected < 0 {
            return Err(Problem::invalid("expected", "use the number from the preview"));
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
        let preview = self.preview.as_deref().map(preview_number).transpose()?;
        let selection =
            serde_json::to_string(&self.selection).map_err(|error| Problem::internal(&error))?;
        Ok(NewJob {
            action: self.action,
            selection,
            reason: self.reason,
            attempts,
            state: JobState::Waiting,
            expected: self.expected,
            created_us: now,
            created_by: by.name.clone(),
            created_via: by.via.name().to_owned(),
            preview,
        })
    }
}

/// Cancels a job; actions already done are not undone.
#[utoipa::path(
    post, path = "/api/admin/v1/jobs/{seq}/cancel", tag = "jobs",
    params(("seq" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = JobItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let now = admin.env.now();
    let work =
        move |conn: &mut Conn| Reply::json(StatusCode::OK, &cancel_now(conn, (&by, now), seq)?);
    admin.act(key, &[], work).await
}

/// Puts a job down; the caller wakes the jobs once that is committed.
///
/// # Errors
/// 409 when it would cover other events than those that were previewed.
pub(crate) fn create_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    job: &NewJob,
) -> ProblemResult<JobItem> {
    let seq = bulk::create(conn, job).map_err(job_problem)?;
    let job = JobItem::find(conn, seq)?;
    let detail = serde_json::json!({
        "action": job.action, "selection": job.selection, "reason": job.reason,
        "attempts": job.attempts, "expected": job.expected,
    });
    by.note(conn, now, "job.create", Some(&job.seq), Some(detail))?;
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
) -> ProblemResult<JobItem> {
    let cancelled = bulk::cancel(conn, seq, now, &by.name)?;
    let job = JobItem::find(conn, seq)?;
    if !cancelled {
        let why = format!("job {seq} is already {}", job.state.name());
        return Err(Problem::conflict("job-ended", why));
    }
    let detail = serde_json::json!({ "done": job.done, "skipped": job.skipped });
    by.note(conn, now, "job.cancel", Some(&job.seq), Some(detail))?;
    Ok(job)
}

pub(crate) fn check_selection(selection: &Selection) -> ProblemResult<()> {
    match selection {
        Selection::Ids(ids) if ids.is_empty() || ids.len() > MAX_IDS => Err(Problem::invalid(
            "selection.ids",
            format!("a selection names 1 to {MAX_IDS} events; a filter can match more"),
        )),
        Selection::Ids(_) | Selection::Filter(_) => Ok(()),
    }
}

pub(crate) fn number(seq: &str) -> ProblemResult<i64> {
    seq.parse().map_err(|_| Problem::invalid("seq", "a job's number is a whole number"))
}

fn preview_number(seq: &str) -> ProblemResult<i64> {
    seq.parse().map_err(|_| Problem::invalid("preview", "use the `preview` of a preview"))
}

fn unknown(seq: i64) -> Problem {
    Problem::not_found(format!("there is no job {seq}"))
}
