//! `/events`: every event, one event with its history, and what an operator can do to it.

pub(crate) mod classes;
pub(crate) mod history;
pub(crate) mod item;
pub(crate) mod operations;
pub(crate) mod peer;
pub(crate) mod search;

use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::http::{Page, PageQuery, Params, Problem, ProblemResult, wrong_method};
use common::ids::EventId;
use engine::outbox::search::{EventFilter, SearchBounds};
use item::EventDetail;

use super::Admin;
use crate::access::{Area, Role, Rule};
pub(crate) use item::EventItem;
pub(super) use operations::checked_attempts;

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/events", Role::Viewer, Area::Events),
    Rule::new("GET", "/events/classes", Role::Viewer, Area::Events),
    Rule::new("GET", "/events/{id}", Role::Viewer, Area::Events),
    Rule::new("GET", "/events/{id}/peer", Role::Viewer, Area::Events),
    Rule::new("GET", "/events/{id}/peers", Role::Viewer, Area::Events),
    Rule::new("POST", "/events/{id}/retry", Role::Operator, Area::Events),
    Rule::new("POST", "/events/{id}/resolve", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/events").get(list).default_service(wrong_method("GET"));
    let classes =
        web::resource("/events/classes").get(classes::classes).default_service(wrong_method("GET"));
    let peer =
        web::resource("/events/{id}/peer").get(peer::peer).default_service(wrong_method("GET"));
    let peers =
        web::resource("/events/{id}/peers").get(peer::peers).default_service(wrong_method("GET"));
    let one = web::resource("/events/{id}").get(show).default_service(wrong_method("GET"));
    let retry = web::resource("/events/{id}/retry")
        .post(operations::retry)
        .default_service(wrong_method("POST"));
    let resolve = web::resource("/events/{id}/resolve")
        .post(operations::resolve)
        .default_service(wrong_method("POST"));
    scope
        .service(all)
        .service(classes)
        .service(one)
        .service(peer)
        .service(peers)
        .service(retry)
        .service(resolve);
}

/// Lists events, newest first. A page may have fewer items than `limit`, even none, and still have a `next`:
/// a request looks at no more than 10,000 events.
#[utoipa::path(
    get, path = "/api/admin/v1/events", tag = "events",
    params(
        EventFilter,
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<EventItem>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    admin: Data<Admin>,
    params: Params,
) -> ProblemResult<Json<Page<EventItem>>> {
    let search = search::search_of(params, admin.env.now())?;
    let page = admin
        .db
        .read(move |conn| {
            search::page(conn, search, SearchBounds::default()).map_err(Problem::from)
        })
        .await?;
    Ok(Json(page))
}

/// One event with its history.
#[utoipa::path(
    get, path = "/api/admin/v1/events/{id}", tag = "events",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = EventDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(admin: Data<Admin>, id: Path<String>) -> ProblemResult<Json<EventDetail>> {
    let id = event_id(&id)?;
    admin
        .db
        .read(move |conn| match EventDetail::find(conn, id)? {
            Some(event) => Ok(Json(event)),
            None => Err(unknown(id)),
        })
        .await
}

pub(crate) fn event_id(text: &str) -> ProblemResult<EventId> {
    text.parse()
        .map_err(|error| Problem::invalid("id", format!("{text:?} is not an event id: {error}")))
}

pub(crate) fn unknown(id: EventId) -> Problem {
    Problem::not_found(format!("there is no event {id}"))
}
