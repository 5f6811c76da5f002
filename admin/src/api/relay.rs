//! `/relay` and `/pauses`: who sends, and what is paused.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::config::RelayKind;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use common::telemetry::{BrokerState, ConsumerReport, TopicReport};
use diesel::QueryResult;
use engine::outbox::pause::{self, EVERYTHING, MAX_KEYS, PauseRow};
use engine::outbox::{Instance, SlotState, instances, slot_state};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::quarantine::checked_key;
use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/relay", Role::Viewer, Area::Relay),
    Rule::new("PUT", "/relay/pause", Role::Operator, Area::Relay),
    Rule::new("DELETE", "/relay/pause", Role::Operator, Area::Relay),
    Rule::new("GET", "/pauses", Role::Viewer, Area::Relay),
    Rule::new("PUT", "/pauses/{key}", Role::Operator, Area::Relay),
    Rule::new("DELETE", "/pauses/{key}", Role::Operator, Area::Relay),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let relay = web::resource("/relay").get(show).default_service(wrong_method("GET"));
    let whole = web::resource("/relay/pause")
        .put(pause_all)
        .delete(resume_all)
        .default_service(wrong_method("PUT, DELETE"));
    let all = web::resource("/pauses").get(list).default_service(wrong_method("GET"));
    let one = web::resource("/pauses/{key}")
        .put(pause_key)
        .delete(resume_key)
        .default_service(wrong_method("PUT, DELETE"));
    scope.service(relay).service(whole).service(all).service(one);
}

/// The relay of this service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RelayView {
    /// Why nothing is sent at all; none: it is not paused.
    pub(crate) paused: Option<Pause>,
    /// Keys that are paused individually.
    pub(crate) keys_paused: i64,
    /// Whether another program sends events for the first time (`outbox.relay = "external"`), which no pause holds back.
    pub(crate) external: bool,
    /// The live instances, with the shards that each may send.
    pub(crate) instances: Vec<Instance>,
    /// What keeps the database's log for the relay, where events come by it.
    pub(crate) log: Option<SlotState>,
    /// What receives from the broker in this instance.
    pub(crate) receiving: Vec<ConsumerReport>,
    /// The topics that this service writes to, as of the last look; none before the first.
    pub(crate) topics: Vec<TopicReport>,
}

/// Why something is not sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pause {
    pub(crate) reason: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    pub(crate) by: String,
}

/// A key whose events are not sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PausedKey {
    pub(crate) key: String,
    #[serde(flatten)]
    pub(crate) pause: Pause,
}

/// What is paused now, and what that does not hold back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Paused {
    /// The key; none: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(flatten)]
    pause: Pause,
    /// What goes on all the same, in words; none: nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

/// What no pause holds back where another program sends events for the first time.
const FIRST_ATTEMPTS_GO_ON: &str = "another program sends events for the first time (outbox.relay is \"external\"), \
    and no pause holds that back: only what is sent again waits; to stop first attempts, pause the other program's connector";

/// Why something is paused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Pausing)]
pub(crate) struct PutPause {
    /// For whoever finds it paused: 1 to 500 characters.
    reason: String,
}

impl From<PauseRow> for Pause {
    fn from(row: PauseRow) -> Self {
        Self { reason: row.reason, since: row.since_us, by: row.by_whom }
    }
}

impl PausedKey {
    /// The keys that come after `after`.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        after: Option<String>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let rows = pause::list(conn, &after.unwrap_or_default(), limit + 1)?;
        let items = rows.into_iter().map(Self::from).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.key.clone()))
    }
}

impl From<PauseRow> for PausedKey {
    fn from(row: PauseRow) -> Self {
        Self { key: row.key.clone(), pause: row.into() }
    }
}

impl RelayView {
    /// The relay as it is now.
    ///
    /// # Errors
    /// When a statement fails.
    pub(crate) fn take(
        conn: &mut Conn,
        broker: &BrokerState,
        relay: RelayKind,
    ) -> QueryResult<Self> {
        Ok(Self {
            paused: pause::find(conn, EVERYTHING)?.map(Pause::from),
            keys_paused: pause::count(conn)?,
            external: relay.is_external(),
            instances: instances(conn)?,
            log: slot_state(conn)?,
            receiving: broker.consumers(),
            topics: broker.topics(),
        })
    }
}

impl Paused {
    fn of(row: PauseRow, relay: RelayKind) -> Self {
        let key = Some(row.key.clone()).filter(|key| key != EVERYTHING);
        let warning = relay.is_external().then_some(FIRST_ATTEMPTS_GO_ON);
        Self { key, pause: row.into(), warning }
    }
}

/// Whether the relay is paused, which instances send, and what keeps messages from coming or going.
#[utoipa::path(
    get, path = "/api/admin/v1/relay", tag = "relay",
    responses(
        (status = 200, body = RelayView),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>, params: Params) -> ProblemResult<Json<RelayView>> {
    params.finish()?;
    let (broker, relay) = (admin.broker.clone(), admin.settings.outbox.relay);
    admin.db.read(move |conn| Ok(Json(RelayView::take(conn, &broker, relay)?))).await
}

/// The keys that are paused individually, by key.
#[utoipa::path(
    get, path = "/api/admin/v1/pauses", tag = "relay",
    params(
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<PausedKey>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<PausedKey>>> {
    let limit = params.limit()?;
    let after = params.text("after");
    params.finish()?;
    admin.db.read(move |conn| Ok(Json(PausedKey::page(conn, after, limit)?))).await
}

/// Pauses the relay; what was sent already is not recalled. 201 when it was not paused before.
#[utoipa::path(
    put, path = "/api/admin/v1/relay/pause", tag = "relay",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = PutPause,
    responses(
        (status = 200, body = Paused), (status = 201, body = Paused),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn pause_all(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<PutPause>,
) -> ProblemResult<HttpResponse> {
    put(&admin, EVERYTHING.to_owned(), by, key, body).await
}

/// Resumes the relay.
#[utoipa::path(
    delete, path = "/api/admin/v1/relay/pause", tag = "relay",
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204, description = "It sends again."),
        (status = 404, description = "The relay is not paused."),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resume_all(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    resume(&admin, EVERYTHING.to_owned(), by, key).await
}

/// Pauses one key's events. 201 when it was not paused before.
#[utoipa::path(
    put, path = "/api/admin/v1/pauses/{key}", tag = "relay",
    params(("key" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = PutPause,
    responses(
        (status = 200, body = Paused), (status = 201, body = Paused),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn pause_key(
    admin: Data<Admin>,
    key: Path<String>,
    by: Caller,
    idempotency: IdempotencyKey,
    body: StrictJson<PutPause>,
) -> ProblemResult<HttpResponse> {
    put(&admin, checked_key(key.into_inner())?, by, idempotency, body).await
}

/// Resumes one key's events.
#[utoipa::path(
    delete, path = "/api/admin/v1/pauses/{key}", tag = "relay",
    params(("key" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204, description = "They are sent again."),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resume_key(
    admin: Data<Admin>,
    key: Path<String>,
    by: Caller,
    idempotency: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    resume(&admin, checked_key(key.into_inner())?, by, idempotency).await
}

async fn put(
    admin: &Admin,
    key: String,
    by: Caller,
    idempotency: IdempotencyKey,
    body: StrictJson<PutPause>,
) -> ProblemResult<HttpResponse> {
    checked_reason(&body.value.reason)?;
    let (now, relay) = (admin.env.now(), admin.settings.outbox.relay);
    let row = PauseRow { key, reason: body.value.reason, since_us: now, by_whom: by.name.clone() };
    let work = move |conn: &mut Conn| {
        let status = match pause_now(conn, &by, &row)? {
            true => StatusCode::CREATED,
            false => StatusCode::OK,
        };
        let stored = pause::find(conn, &row.key)?.unwrap_or(row);
        Reply::json(status, &Paused::of(stored, relay))
    };
    admin.act(idempotency, &body.bytes, work).await
}

async fn resume(
    admin: &Admin,
    key: String,
    by: Caller,
    idempotency: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let now = admin.env.now();
    let work = move |conn: &mut Conn| {
        resume_now(conn, (&by, now), &key)?;
        Ok(Reply::no_content())
    };
    let response = admin.act(idempotency, &[], work).await?;
    admin.outbox.wake();
    Ok(response)
}

/// Pauses a key, or everything; returns whether it is new.
///
/// # Errors
/// 409 when too many keys are paused.
pub(crate) fn pause_now(conn: &mut Conn, by: &Caller, row: &PauseRow) -> ProblemResult<bool> {
    check_room(conn, &row.key)?;
    let is_new = pause::put(conn, row)?;
    let detail = serde_json::json!({ "reason": row.reason });
    by.note(conn, row.since_us, "relay.pause", subject(&row.key), Some(detail))?;
    Ok(is_new)
}

/// Ends the pause of a key, or of everything; the caller wakes the outbox once that is committed.
///
/// # Errors
/// 404 when it is not paused.
pub(crate) fn resume_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    key: &str,
) -> ProblemResult<()> {
    if !pause::end(conn, key)? {
        return Err(match key {
            EVERYTHING => Problem::not_found("the relay is not paused"),
            key => Problem::not_found(format!("{key:?} is not paused")),
        });
    }
    Ok(by.note(conn, now, "relay.resume", subject(key), None)?)
}

/// Each paused key costs the relay something with each step, so there is an end to them.
fn check_room(conn: &mut Conn, key: &str) -> ProblemResult<()> {
    if key == EVERYTHING || pause::find(conn, key)?.is_some() || pause::count(conn)? < MAX_KEYS {
        return Ok(());
    }
    Err(Problem::conflict(
        "too-many-pauses",
        format!("{MAX_KEYS} keys are paused; resume some of them, or pause the whole relay"),
    ))
}

/// What the audit log names: the key; nothing for the whole relay.
fn subject(key: &str) -> Option<&str> {
    Some(key).filter(|key| *key != EVERYTHING)
}
