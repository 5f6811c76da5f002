//! `/events`: every event, one event with its history, and what an operator can do to it.

mod history;
mod item;
mod operations;
mod search;

use actix_web::web::{self, Data, Json, Path, ServiceConfig};

use super::Admin;
use crate::access::{Area, Role, Rule};
use crate::http::{Page, Params, Problem, ProblemResult, wrong_method};
use crate::ids::EventId;

use item::{EventDetail, EventItem};
pub(super) use search::{Search, SearchBounds};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/events", Role::Viewer, Area::Events),
    Rule::new("GET", "/events/{id}", Role::Viewer, Area::Events),
    Rule::new("POST", "/events/{id}/retry", Role::Operator, Area::Events),
    Rule::new("POST", "/events/{id}/resolve", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/events").get(list).default_service(wrong_method("GET"));
    let one = web::resource("/events/{id}").get(show).default_service(wrong_method("GET"));
    let retry = web::resource("/events/{id}/retry")
        .post(operations::retry)
        .default_service(wrong_method("POST"));
    let resolve = web::resource("/events/{id}/resolve")
        .post(operations::resolve)
        .default_service(wrong_method("POST"));
    scope.service(all).service(one).service(retry).service(resolve);
}

/// Newest first. A page may have fewer items than `limit`, even none, and a `next` all the same: then the
/// walk was cut, since a request looks at 10,000 events at the most.
async fn list(admin: Data<Admin>, params: Params) -> ProblemResult<Json<Page<EventItem>>> {
    let search = Search::of(params, admin.engine.env.now())?;
    let page = admin
        .engine
        .db
        .read(move |conn| search.page(conn, SearchBounds::default()).map_err(Problem::from))
        .await?;
    Ok(Json(page))
}

async fn show(admin: Data<Admin>, id: Path<String>) -> ProblemResult<Json<EventDetail>> {
    let id = event_id(&id)?;
    admin
        .engine
        .db
        .read(move |conn| match EventDetail::find(conn, id)? {
            Some(event) => Ok(Json(event)),
            None => Err(unknown(id)),
        })
        .await
}

fn event_id(text: &str) -> ProblemResult<EventId> {
    text.parse()
        .map_err(|error| Problem::invalid("id", format!("{text:?} is no event id: {error}")))
}

fn unknown(id: EventId) -> Problem {
    Problem::not_found(format!("there is no event {id}"))
}
