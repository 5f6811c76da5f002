//! `GET /api/v1/inbox/{event_id}`: what a service knows of an event that came, or should have come, to it.

use std::sync::Arc;

use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::http::{Params, Problem, ProblemResult, wrong_method};
use common::ids::EventId;
use common::on;
use common::schema::inbox;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dead_letters;
use crate::inbox::{CopyVersion, Handler, quarantine};

/// What a service knows of an event that came to it, or did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InboxView {
    /// Which service says so.
    pub service: String,
    /// The answer that was given for good; none while there is none.
    pub inbox: Option<InboxRecord>,
    /// Whether the key's events are refused, if the key is known.
    pub quarantine: Option<KeyInQuarantine>,
    /// The numbers of dead letters with that event id, among the newest 1,000.
    pub dead_letters: Vec<String>,
    /// The version of the key's copy, if the key is known and there is a copy.
    pub copy: Option<CopyVersion>,
}

/// An answer that was given for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InboxRecord {
    /// SUCCESS or REJECTED.
    pub outcome: String,
    /// `applied`, `duplicate` or `superseded`.
    pub detail: Option<String>,
    /// The version that the copy held then.
    pub version: Option<i64>,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it was about.
    pub key: String,
    /// When it was handled, by that service's clock.
    #[schema(value_type = String, format = DateTime)]
    pub processed_at: Timestamp,
}

/// A key whose events are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInQuarantine {
    /// Why.
    pub reason: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// What the route works with; cheap to clone.
#[derive(Clone)]
pub struct InboxViews {
    /// The service that answers.
    pub service: String,
    /// Its database.
    pub db: Db,
    /// What receives its events, if anything does.
    pub handler: Option<Arc<dyn Handler>>,
}

/// Mounts the route; for the scope `/api/v1` of both services.
pub fn configure(views: InboxViews) -> impl FnOnce(&mut ServiceConfig) {
    let views = Data::new(views);
    move |scope| {
        let one = web::resource("/inbox/{event_id}").get(show).default_service(wrong_method("GET"));
        scope.service(one.app_data(views));
    }
}

/// What this service knows of an event that came to it; for the other service, which sent it.
#[utoipa::path(
    get, path = "/api/v1/inbox/{event_id}", tag = "inbox",
    params(
        ("event_id" = String, Path, format = "uuid"),
        ("key" = Option<String>, Query, description = "The event's key, for what is known of that."),
    ),
    responses(
        (status = 200, body = InboxView),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    views: Data<InboxViews>,
    id: Path<String>,
    mut params: Params,
) -> ProblemResult<Json<InboxView>> {
    let id: EventId = id.parse().map_err(|error| {
        Problem::invalid("event_id", format!("{:?} is no event id: {error}", id.as_str()))
    })?;
    let key = params.text("key");
    params.finish()?;
    let InboxViews { service, handler, .. } = views.get_ref().clone();
    views.db.read(move |conn| Ok(Json(view(conn, service, handler.as_deref(), id, key)?))).await
}

fn view(
    conn: &mut Conn,
    service: String,
    handler: Option<&dyn Handler>,
    id: EventId,
    key: Option<String>,
) -> QueryResult<InboxView> {
    let inbox = record(conn, id)?;
    let mut view =
        InboxView { service, inbox, quarantine: None, dead_letters: Vec::new(), copy: None };
    view.dead_letters = dead_letters::of_event(conn, id)?.iter().map(i64::to_string).collect();
    let known = view.inbox.as_ref().map(|record| record.key.clone());
    let Some(key) = key.or(known) else {
        return Ok(view);
    };
    view.quarantine = quarantine::find(conn, &key)?
        .map(|row| KeyInQuarantine { reason: row.reason, since: row.since_us });
    if let Some(handler) = handler {
        view.copy = handler.copy_version(conn, &key)?;
    }
    Ok(view)
}

fn record(conn: &mut Conn, id: EventId) -> QueryResult<Option<InboxRecord>> {
    use inbox as i;
    type InboxColumns = (i16, Option<String>, Option<i64>, String, String, Timestamp);
    let row: Option<InboxColumns> = on!(conn, c => inbox::table
        .find(id)
        .select((i::outcome, i::detail, i::version, i::event_type, i::key, i::processed_us))
        .first(c)
        .optional())?;
    Ok(row.map(|(outcome, detail, version, event_type, key, processed_at)| InboxRecord {
        outcome: if outcome == 0 { "SUCCESS" } else { "REJECTED" }.to_owned(),
        detail,
        version,
        event_type,
        key,
        processed_at,
    }))
}
