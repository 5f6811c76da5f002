//! Actions on many events: a preview, then the progress, then the result.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::http::{Page, Params, Problem, ProblemResult};
use engine::bulk::{self, Action, Selection};

use super::context::{Fields, Frame, PageContext, Paging, page, see};
use super::form::Form;
use super::show::{filters, grouped, status_class};
use super::tokens::number;
use crate::access::{Area, Role, Rule};
use crate::api::bulk_jobs::{
    Create, JobEvent, JobItem, Previewed, cancel_now, check_selection, create_now,
};
use crate::api::events::item::EventItem;
use crate::api::events::search::filter_of;

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/jobs", Role::Viewer, Area::Events),
    Rule::new("POST", "/jobs", Role::Operator, Area::Events),
    Rule::new("POST", "/jobs/preview", Role::Operator, Area::Events),
    Rule::new("GET", "/jobs/{seq}", Role::Viewer, Area::Events),
    Rule::new("POST", "/jobs/{seq}/cancel", Role::Operator, Area::Events),
];

/// How many skipped events a job's page lists.
const SKIPPED: i64 = 100;

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/jobs").get(list).post(create).default_service(other()))
        .service(web::resource("/jobs/preview").post(preview).default_service(other()))
        .service(web::resource("/jobs/{seq}").get(show).default_service(other()))
        .service(web::resource("/jobs/{seq}/cancel").post(cancel).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/jobs.html")]
struct JobsPage {
    frame: Frame,
    jobs: Vec<JobItem>,
    paging: Paging,
}

#[derive(Template)]
#[template(path = "admin/job.html")]
struct JobPage {
    frame: Frame,
    job: JobItem,
    skipped: Vec<JobEvent>,
    may_act: bool,
}

impl JobPage {
    /// What the bar ends at: the events covered, where those are more than expected.
    fn whole(&self) -> i64 {
        self.job.expected.max(self.met()).max(1)
    }

    fn met(&self) -> i64 {
        self.job.done + self.job.skipped
    }
}

#[derive(Template)]
#[template(path = "admin/confirm.html")]
struct ConfirmPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    retry: bool,
    selection: String,
    described: String,
    matches: i64,
    at_least: bool,
    preview: Option<String>,
    examples: Vec<EventItem>,
    attempts: i32,
    /// What was filled in.
    reason: String,
    back: String,
}

impl ConfirmPage<'_> {
    fn verb(&self) -> &'static str {
        if self.retry { "Retry" } else { "Resolve" }
    }

    fn count(&self) -> String {
        let events = if self.matches == 1 { "event" } else { "events" };
        format!("{} {events}", grouped(self.matches))
    }
}

impl JobItem {
    /// What it does, in words.
    pub(super) fn verb(&self) -> &'static str {
        match self.action {
            Action::Retry => "Retry",
            Action::Resolve => "Resolve",
        }
    }

    /// Which events, in words.
    pub(super) fn described(&self) -> String {
        serde_json::from_str(self.selection.get()).map_or_else(|_| String::new(), |s| described(&s))
    }

    /// How its state looks.
    pub(super) fn state_class(&self) -> &'static str {
        match self.state {
            bulk::JobState::Done => "good",
            bulk::JobState::Cancelled => "warn",
            bulk::JobState::Waiting | bulk::JobState::Running => "info",
        }
    }
}

fn described(selection: &Selection) -> String {
    let filter = match selection {
        Selection::Ids(ids) => return format!("{} selected individually", grouped_len(ids.len())),
        Selection::Filter(filter) => serde_json::to_value(filter).unwrap_or_default(),
    };
    let parts = filter.as_object().into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{} {value}", name.replace('_', " "))
    });
    match parts.collect::<Vec<_>>() {
        parts if parts.is_empty() => "all events".to_owned(),
        parts => format!("all with {}", parts.join(", ")),
    }
}

fn grouped_len(count: usize) -> String {
    grouped(i64::try_from(count).unwrap_or(i64::MAX))
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let (limit, after) = (params.limit()?, params.take("after", "the `next` of a page")?);
    params.finish()?;
    let jobs: Page<JobItem> =
        context.admin.db.read(move |conn| JobItem::page(conn, after, limit)).await?;
    let paging = context.next_page(jobs.next.as_deref());
    page(StatusCode::OK, &JobsPage { frame: context.frame().await?, jobs: jobs.items, paging })
}

async fn show(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let read = context.admin.db.read(move |conn| {
        let job = JobItem::find(conn, seq)?;
        let skipped = bulk::items(conn, seq, Some(true), None, SKIPPED)?;
        Ok::<_, Problem>((job, skipped.into_iter().map(JobEvent::from).collect()))
    });
    let (job, skipped) = read.await?;
    let may_act = context.may(Role::Operator, Area::Events);
    page(StatusCode::OK, &JobPage { frame: context.frame().await?, job, skipped, may_act })
}

/// Shows what an action would touch, and asks for confirmation.
async fn preview(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let choice = form.needed("do")?;
    let (action, scope) = choice.split_once('-').unwrap_or((&choice, ""));
    let (selection, back) = match scope {
        "all" => all_of(&form)?,
        _ => (chosen(&form)?, "/admin/events".to_owned()),
    };
    confirm(&context, action_of(action)?, selection, back, &Form::default(), None).await
}

async fn confirm(
    context: &PageContext,
    action: Action,
    selection: Selection,
    back: String,
    form: &Form,
    problem: Option<&Problem>,
) -> ProblemResult<HttpResponse> {
    check_selection(&selection)?;
    let json = serde_json::to_string(&selection).map_err(|error| Problem::internal(&error))?;
    let described = described(&selection);
    let admin = &context.admin;
    let counted = Previewed::take(admin, selection).await?;
    let shown = ConfirmPage {
        frame: context.frame().await?,
        problem,
        retry: action == Action::Retry,
        selection: json,
        described,
        matches: i64::try_from(counted.matches).unwrap_or(i64::MAX),
        at_least: counted.at_least,
        preview: counted.preview,
        examples: counted.examples,
        attempts: admin.settings.outbox.max_attempts,
        reason: form.text("reason").unwrap_or_default(),
        back,
    };
    page(problem.map_or(StatusCode::OK, Problem::status), &shown)
}

/// The events whose boxes are ticked.
fn chosen(form: &Form) -> ProblemResult<Selection> {
    let ids = form.all("id").iter().map(|id| id.parse()).collect::<Result<Vec<_>, _>>();
    match ids
        .map_err(|error| Problem::invalid("id", format!("that is not an event id: {error}")))?
    {
        ids if ids.is_empty() => Err(Problem::invalid(
            "id",
            "no event is selected; select some, or act on all that match",
        )),
        ids => Ok(Selection::Ids(ids)),
    }
}

/// All events that match the filter of the list that the form was on, and the address of that list.
fn all_of(form: &Form) -> ProblemResult<(Selection, String)> {
    let query = form.text("filter").unwrap_or_default();
    let mut params = Params::parse(&query)?;
    let filter = filter_of(&mut params)?;
    params.finish()?;
    let back = Fields::parse(&query)?.to_query();
    Ok((Selection::Filter(filter), format!("/admin/events?{back}")))
}

async fn create(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let action = action_of(&form.needed("action")?)?;
    let selection: Selection = serde_json::from_str(&form.needed("selection")?)
        .map_err(|error| Problem::invalid("selection", error.to_string()))?;
    match create_asked(&context, &form, action, selection.clone()).await {
        Ok(job) => Ok(see(&format!("/admin/jobs/{}", job.seq), "")),
        // What was filled in was wrong, or it is not what matches any more: asked again, with what matches now.
        Err(problem) if problem.status().is_client_error() => {
            let back = "/admin/events".to_owned();
            confirm(&context, action, selection, back, &form, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn create_asked(
    context: &PageContext,
    form: &Form,
    action: Action,
    selection: Selection,
) -> ProblemResult<JobItem> {
    let admin = &context.admin;
    let (by, now) = (context.caller.clone(), admin.env.now());
    let job =
        asked(form, action, selection)?.check(&by, now, admin.settings.outbox.max_attempts)?;
    let job = admin.db.write(move |conn| create_now(conn, (&by, now), &job)).await?;
    admin.bulk.wake();
    Ok(job)
}

fn asked(form: &Form, action: Action, selection: Selection) -> ProblemResult<Create> {
    let attempts = form.take("attempts", "a number")?;
    Ok(Create {
        action,
        selection,
        reason: form.text("reason"),
        attempts: attempts.filter(|_| action == Action::Retry),
        expected: form.take("expected", "a number")?.unwrap_or(0),
        preview: form.text("preview"),
    })
}

fn action_of(name: &str) -> ProblemResult<Action> {
    match name {
        "retry" => Ok(Action::Retry),
        "resolve" => Ok(Action::Resolve),
        _ => Err(Problem::invalid("action", format!("{name:?} is neither retry nor resolve"))),
    }
}

async fn cancel(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    context.admin.db.write(move |conn| cancel_now(conn, (&by, now), seq)).await?;
    Ok(see(&format!("/admin/jobs/{seq}"), "job-cancelled"))
}
