//! `/events/classes`: what waits for a person, grouped by what went wrong.

use std::collections::HashMap;

use actix_web::web::{Data, Json};
use common::clock::Timestamp;
use common::db::Conn;
use common::event::Status;
use common::http::{Params, Problem, ProblemResult};
use common::ids::EventId;
use diesel::QueryResult;
use engine::outbox::search::{IdRange, SearchBounds, class_of};
use engine::outbox::{Found, last_errors};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Admin;

/// Classes that one answer lists.
const CLASSES: usize = 100;

/// What waits for a person, grouped by error class.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorClasses {
    /// The classes, the largest first; at most 100.
    pub(crate) items: Vec<ErrorClass>,
    /// The EXHAUSTED events that were looked at, the newest ones: at most 10,000.
    pub(crate) looked_at: usize,
    /// Whether those are all, and all their classes are listed.
    pub(crate) complete: bool,
}

/// EXHAUSTED events of one error class that nobody resolved.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorClass {
    pub(crate) class: String,
    /// How many of those that were looked at.
    pub(crate) count: usize,
    /// When the newest of them went wrong.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) newest_at: Timestamp,
    /// The newest of them.
    #[schema(value_type = String, format = "uuid")]
    pub(crate) example_event: EventId,
}

/// What waits for a person, grouped by what went wrong last; the newest 10,000 events are looked at.
#[utoipa::path(
    get, path = "/api/admin/v1/events/classes", tag = "events",
    responses(
        (status = 200, body = ErrorClasses),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn classes(
    admin: Data<Admin>,
    params: Params,
) -> ProblemResult<Json<ErrorClasses>> {
    params.finish()?;
    let bounds = SearchBounds::default();
    admin.db.read(move |conn| Ok(Json(ErrorClasses::take(conn, bounds)?))).await
}

impl ErrorClasses {
    /// Walks the newest EXHAUSTED events.
    pub(crate) fn take(conn: &mut Conn, bounds: SearchBounds) -> QueryResult<Self> {
        let mut range = IdRange { from: Uuid::nil(), below: Uuid::max() };
        let (mut classes, mut looked_at) = (HashMap::new(), 0);
        let at_end = loop {
            let ids = range.open(conn, Status::Exhausted, None, bounds.chunk)?;
            looked_at += ids.len();
            sort_in(conn, &ids, &mut classes)?;
            match ids.last() {
                Some(last) => range.below = last.uuid(),
                None => break true,
            }
            if looked_at >= bounds.rows {
                break range.open(conn, Status::Exhausted, None, 1)?.is_empty();
            }
        };
        let mut items: Vec<ErrorClass> = classes.into_values().collect();
        items.sort_unstable_by(|a, b| (b.count, &a.class).cmp(&(a.count, &b.class)));
        let complete = at_end && items.len() <= CLASSES;
        items.truncate(CLASSES);
        Ok(Self { items, looked_at, complete })
    }
}

fn sort_in(
    conn: &mut Conn,
    ids: &[EventId],
    classes: &mut HashMap<String, ErrorClass>,
) -> QueryResult<()> {
    let mut waiting = Found::load(conn, ids)?;
    waiting.retain(|row| row.open.is_some() && row.resolved_at().is_none());
    let waiting_ids: Vec<EventId> = waiting.iter().map(|row| row.head.id).collect();
    let errors = last_errors(conn, &waiting_ids)?;
    for row in waiting {
        let id = row.head.id;
        let at = errors.get(&id).map_or(row.head.created_us, |error| error.at);
        let class = class_of(&errors, id);
        let first =
            || ErrorClass { class: class.to_owned(), count: 0, newest_at: at, example_event: id };
        let entry = classes.entry(class.to_owned()).or_insert_with(first);
        entry.count += 1;
        if at > entry.newest_at {
            (entry.newest_at, entry.example_event) = (at, id);
        }
    }
    Ok(())
}
