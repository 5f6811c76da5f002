//! Events: finding them, one of them whole, and what a person does to one.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::event::{EventKind, Status};
use common::http::{Page, Problem, ProblemResult};
use engine::outbox::search::SearchBounds;

use super::context::{Fields, Frame, PageContext, Paging, or_refused, page, see};
use super::form::Form;
use super::json::pretty;
use super::show::{filters, status_class};
use crate::access::{Area, Role, Rule};
use crate::api::checked_reason;
use crate::api::events::classes::{ErrorClass, ErrorClasses};
use crate::api::events::history::HistoryEntry;
use crate::api::events::item::{EventDetail, EventItem};
use crate::api::events::operations::{checked_attempts, resolve_now, retry_now};
use crate::api::events::peer::{PeerView, ask_all};
use crate::api::events::{event_id, search, unknown};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/events", Role::Viewer, Area::Events),
    Rule::new("GET", "/events/{id}", Role::Viewer, Area::Events),
    Rule::new("POST", "/events/{id}/retry", Role::Operator, Area::Events),
    Rule::new("POST", "/events/{id}/resolve", Role::Operator, Area::Events),
];

/// Names of the filter's parameters, as the API has them.
const FILTER: [&str; 10] = [
    "q",
    "status",
    "resolved",
    "key",
    "type",
    "error_class",
    "min_attempts",
    "older_than_seconds",
    "created_after",
    "job",
];

/// Error classes that the list of what waits begins with.
const CLASSES: usize = 8;

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/events").get(list).default_service(other()))
        .service(web::resource("/events/{id}").get(show).default_service(other()))
        .service(web::resource("/events/{id}/retry").post(retry).default_service(other()))
        .service(web::resource("/events/{id}/resolve").post(resolve).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/events.html")]
struct EventsPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    filled: &'a Fields,
    /// What the filter says, without the place in the list.
    filter: Fields,
    events: Vec<EventItem>,
    classes: Vec<ErrorClass>,
    paging: Paging,
    may_act: bool,
}

impl EventsPage<'_> {
    /// Whether one of the filters that are seldom wanted is used.
    fn is_special(&self) -> bool {
        FILTER[3..9].iter().any(|name| !self.filled.get(name).is_empty())
    }

    /// The list of those whose error is of this class.
    fn of_class(&self, class: &str) -> String {
        let wanted = self.filter.with("status", Status::Exhausted.name()).with("resolved", "false");
        format!("/admin/events?{}", wanted.with("error_class", class).to_query())
    }
}

#[derive(Template)]
#[template(path = "admin/event.html")]
struct EventPage<'a> {
    frame: Frame,
    event: &'a EventDetail,
    peers: &'a [PeerView],
    payload: String,
    result: Option<String>,
    attempts: i32,
    may_act: bool,
}

impl EventPage<'_> {
    fn key_link(&self) -> String {
        format!("/admin/events?key={}", super::context::encoded(&self.event.item.key))
    }

    fn class_link(&self, class: &str) -> String {
        format!("/admin/events?status=EXHAUSTED&error_class={}", super::context::encoded(class))
    }
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    let (found, problem) = or_refused(found(&context).await)?;
    let shown = EventsPage {
        frame: context.frame().await?,
        problem: problem.as_ref(),
        filled: &context.query,
        filter: filter_of(&context.query),
        classes: classes(&context).await?,
        paging: context.next_page(found.next.as_deref()),
        events: found.items,
        may_act: context.may(Role::Operator, Area::Events),
    };
    page(problem.as_ref().map_or(StatusCode::OK, Problem::status), &shown)
}

/// The part of a query that says which events.
pub(super) fn filter_of(query: &Fields) -> Fields {
    let names: Vec<&str> = query.names().filter(|name| !FILTER.contains(name)).collect();
    query.without(&names)
}

async fn found(context: &PageContext) -> ProblemResult<Page<EventItem>> {
    let wanted = search::search_of(context.params()?, context.admin.env.now())?;
    let db = &context.admin.db;
    db.read(move |conn| search::page(conn, wanted, SearchBounds::default()).map_err(Problem::from))
        .await
}

/// What waits for a person by kind of error, where all of that is looked at.
async fn classes(context: &PageContext) -> ProblemResult<Vec<ErrorClass>> {
    let exhausted = context.query.get("status") == Status::Exhausted.name();
    if !exhausted || filter_of(&context.query).without(&["status", "resolved"]) != Fields::default()
    {
        return Ok(Vec::new());
    }
    let db = &context.admin.db;
    let found = db
        .read(|conn| ErrorClasses::take(conn, SearchBounds::default()).map_err(Problem::from))
        .await?;
    Ok(found.items.into_iter().take(CLASSES).collect())
}

async fn show(context: PageContext, id: Path<String>) -> ProblemResult<HttpResponse> {
    let id = event_id(&id)?;
    let admin = &context.admin;
    let own = admin.db.read(move |conn| EventDetail::find(conn, id)?.ok_or_else(|| unknown(id)));
    let (event, peers) = futures::join!(own, ask_all(admin, id, |_| true));
    let (event, peers) = (event?, peers?);
    let shown = EventPage {
        frame: context.frame().await?,
        payload: pretty(event.payload.get()),
        result: event.result.as_ref().map(|result| pretty(result.get())),
        event: &event,
        peers: &peers,
        attempts: admin.settings.outbox.max_attempts,
        may_act: context.may(Role::Operator, Area::Events),
    };
    page(StatusCode::OK, &shown)
}

async fn retry(context: PageContext, id: Path<String>, form: Form) -> ProblemResult<HttpResponse> {
    let id = event_id(&id)?;
    let admin = &context.admin;
    let reason = form.text("reason");
    reason.as_deref().map_or(Ok(()), checked_reason)?;
    let attempts = form.take("attempts", "a number")?;
    let more = checked_attempts(attempts.unwrap_or(admin.settings.outbox.max_attempts))?;
    let (outbox, by, now) = (admin.outbox.clone(), context.caller.clone(), admin.env.now());
    admin
        .db
        .write(move |conn| retry_now(conn, &outbox, (&by, now), id, more, reason.as_deref()))
        .await?;
    admin.outbox.wake();
    Ok(see(&format!("/admin/events/{id}"), "retried"))
}

async fn resolve(
    context: PageContext,
    id: Path<String>,
    form: Form,
) -> ProblemResult<HttpResponse> {
    let id = event_id(&id)?;
    let admin = &context.admin;
    let reason = form.needed("reason")?;
    checked_reason(&reason)?;
    let (outbox, by, now) = (admin.outbox.clone(), context.caller.clone(), admin.env.now());
    admin.db.write(move |conn| resolve_now(conn, &outbox, (&by, now), id, &reason)).await?;
    admin.outbox.wake();
    Ok(see(&format!("/admin/events/{id}"), "resolved"))
}

/// How a line of the history looks.
fn line_class(entry: &HistoryEntry) -> &'static str {
    match entry.outcome.as_str() {
        "SUCCESS" => "good",
        "FAILED" | "OVERDUE" | "UNPRODUCIBLE" => "bad",
        "REJECTED" | "PROBED" => "warn",
        _ => "",
    }
}
