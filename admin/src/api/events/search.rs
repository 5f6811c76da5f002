//! Searches as requests write them, and their pages.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::Status;
use common::http::{Page, Params, Problem, ProblemResult};
use diesel::QueryResult;
use engine::outbox::search::{EventFilter, Search, SearchBounds};

use super::item::EventItem;

/// The filter that a query string holds; takes its part of it.
///
/// # Errors
/// 422 that names the parameter.
pub(crate) fn filter_of(params: &mut Params) -> ProblemResult<EventFilter> {
    Ok(EventFilter {
        status: params.text("status").map(|text| status(&text)).transpose()?,
        resolved: params.take("resolved", "true or false")?,
        key: params.text("key"),
        event_type: params.text("type"),
        error_class: params.text("error_class"),
        min_attempts: params.take("min_attempts", "a number")?,
        older_than_seconds: params.take("older_than_seconds", "a number of seconds")?,
        created_after: params.take("created_after", "a time such as 2026-01-31T12:00:00Z")?,
        q: params.text("q").map(|text| text.trim().to_owned()),
        job: params.take("job", "a job's number")?,
    })
}

/// The search that a query string asks for: its filter and `?limit=&after=`.
///
/// # Errors
/// 422 that names the parameter.
pub(crate) fn search_of(mut params: Params, now: Timestamp) -> ProblemResult<Search> {
    let filter = filter_of(&mut params)?;
    let limit = params.limit()?;
    let after = params.take("after", "the `next` of a page")?;
    params.finish()?;
    Ok(Search::new(filter, now, after, limit))
}

/// The page: newest first. `next` is there if the walk can go on, also when the page isn't full.
pub(crate) fn page(
    conn: &mut Conn,
    search: Search,
    bounds: SearchBounds,
) -> QueryResult<Page<EventItem>> {
    let walk = search.walk(conn, bounds)?;
    let items = EventItem::list(conn, walk.found)?;
    Ok(Page { items, next: walk.next.map(|id| id.to_string()) })
}

fn status(name: &str) -> ProblemResult<Status> {
    let all = Status::ALL;
    all.into_iter().find(|status| status.name() == name).ok_or_else(|| {
        let names = all.map(Status::name).join(", ");
        Problem::invalid("status", format!("{name:?} is not a status; use one of {names}"))
    })
}
