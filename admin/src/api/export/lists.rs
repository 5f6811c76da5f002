//! The files of the loop's lists and of the operators': `GET …/export`, with the role, the area and the filters of the list.
//!
//! These routes are mounted before the lists' own, so that no `{id}` takes `export` for one.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use common::db::Conn;
use common::http::{Page, Params, ProblemResult};
use engine::alerts::{self, mail, silences, webhook};
use engine::audit;
use engine::dead_letters::DeadLetterState;
use engine::outbox::search::{EventFilter, Search, SearchBounds};

use super::{Export, ExportQuery, File, resource};
use crate::access::{Area, Caller, Role, Rule, operators, tokens};
use crate::api::bulk_jobs;
use crate::api::bulk_jobs::{JobEvent, JobItem};
use crate::api::consumers::{ConsumerItem, Known};
use crate::api::dead_letters::DeadLetter;
use crate::api::events::search::{filter_of, page};
use crate::api::quarantine::Quarantined;
use crate::api::relay::PausedKey;
use crate::api::{Admin, alerts as alert_routes, audit as audit_routes};

/// What its routes ask for.
pub(in crate::api) const RULES: &[Rule] = &[
    Rule::new("GET", "/events/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/jobs/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/jobs/{seq}/items/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/alerts/export", Role::Viewer, Area::Alerts),
    Rule::new("GET", "/silences/export", Role::Viewer, Area::Alerts),
    Rule::new("GET", "/mails/export", Role::Viewer, Area::Alerts),
    Rule::new("GET", "/webhooks/export", Role::Viewer, Area::Alerts),
    Rule::new("GET", "/dead-letters/export", Role::Viewer, Area::DeadLetters),
    Rule::new("GET", "/quarantine/export", Role::Viewer, Area::Quarantine),
    Rule::new("GET", "/pauses/export", Role::Viewer, Area::Relay),
    Rule::new("GET", "/consumers/export", Role::Viewer, Area::Relay),
    Rule::new("GET", "/audit/export", Role::Operator, Area::Audit),
    Rule::new("GET", "/users/export", Role::Admin, Area::Access),
    Rule::new("GET", "/tokens/export", Role::Admin, Area::Access),
];

pub(in crate::api) fn configure(scope: &mut ServiceConfig) {
    scope
        .service(resource("/events/export").get(events))
        .service(resource("/jobs/export").get(jobs))
        .service(resource("/jobs/{seq}/items/export").get(job_items))
        .service(resource("/alerts/export").get(alerts))
        .service(resource("/silences/export").get(silences))
        .service(resource("/mails/export").get(mails))
        .service(resource("/webhooks/export").get(webhooks))
        .service(resource("/dead-letters/export").get(dead_letters))
        .service(resource("/quarantine/export").get(quarantine))
        .service(resource("/pauses/export").get(pauses))
        .service(resource("/consumers/export").get(consumers))
        .service(resource("/audit/export").get(audit))
        .service(resource("/users/export").get(users))
        .service(resource("/tokens/export").get(tokens));
}

/// Events as a file: all that match the filter, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/events/export",
    tag = "events",
    params(ExportQuery, EventFilter),
    responses((status = 200, response = File))
)]
async fn events(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("events", &mut params)?;
    let filter = filter_of(&mut params)?;
    params.finish()?;
    let now = admin.env.now();
    let page = move |conn: &mut Conn, after, limit| {
        let search = Search::new(filter.clone(), now, after, limit);
        Ok(page(conn, search, SearchBounds::default())?)
    };
    export.run(&admin, by, page).await
}

/// Bulk jobs as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/jobs/export",
    tag = "jobs",
    params(ExportQuery),
    responses((status = 200, response = File))
)]
async fn jobs(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("jobs", &mut params)?;
    params.finish()?;
    export.run(&admin, by, JobItem::page).await
}

/// What a job did to each event, as a file
#[utoipa::path(
    get,
    path = "/api/admin/v1/jobs/{seq}/items/export",
    tag = "jobs",
    params(ExportQuery, ("seq" = String, Path, description = "The job's number"), ("skipped" = Option<bool>, Query, description = "Only skipped events, or only the others")),
    responses((status = 200, response = File))
)]
async fn job_items(
    admin: Data<Admin>,
    by: Caller,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("job-items", &mut params)?;
    let job = bulk_jobs::number(&seq)?;
    let skipped = params.take("skipped", "true or false")?;
    params.finish()?;
    let page =
        move |conn: &mut Conn, after, limit| JobEvent::page(conn, job, skipped, after, limit);
    export.run(&admin, by, page).await
}

/// Alerts as a file: all that match the filter, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/alerts/export",
    tag = "alerts",
    params(ExportQuery, ("open" = Option<bool>, Query, description = "Only those that are not closed, or only closed ones"),
        ("state" = Option<String>, Query, description = "open, acknowledged or closed"),
        ("kind" = Option<String>, Query, description = "exhausted, silent, version_above_source, not_sent, not_applied, not_received, topic_shape, drift, not_verified, database_behind, commands_lost, log_not_read, not_trusted or not_answered"),
        ("key" = Option<String>, Query, description = "Only those of this SKU or order"),
        ("event" = Option<String>, Query, description = "Only those of this event id"),
        ("mail" = Option<String>, Query, description = "Only those that this mail tells of"),
        ("webhook" = Option<String>, Query, description = "Only those that this webhook call tells of"),),
    responses((status = 200, response = File))
)]
async fn alerts(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("alerts", &mut params)?;
    let filter = alert_routes::filter(&mut params)?;
    params.finish()?;
    let now = admin.env.now();
    let page = move |conn: &mut Conn, after, limit| {
        let items = alerts::list(conn, now, &filter, after, limit + 1)?;
        Ok(Page::cut(items, limit, |alert| alert.seq.to_string()))
    };
    export.run(&admin, by, page).await
}

/// Silences as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/silences/export",
    tag = "alerts",
    params(ExportQuery, ("active" = Option<bool>, Query, description = "Only active ones, or only the others")),
    responses((status = 200, response = File))
)]
async fn silences(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("silences", &mut params)?;
    let active = params.take("active", "true or false")?;
    params.finish()?;
    let now = admin.env.now();
    let page = move |conn: &mut Conn, after, limit| {
        let items = silences::list(conn, now, active, after, limit + 1)?;
        Ok(Page::cut(items, limit, |silence| silence.seq.clone()))
    };
    export.run(&admin, by, page).await
}

/// Mails as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/mails/export",
    tag = "alerts",
    params(ExportQuery, ("waiting" = Option<bool>, Query, description = "Only those not sent yet, or only the others")),
    responses((status = 200, response = File))
)]
async fn mails(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("mails", &mut params)?;
    let waiting = params.take("waiting", "true or false")?;
    params.finish()?;
    let page = move |conn: &mut Conn, after, limit| {
        let items = mail::list(conn, waiting, after, limit + 1)?;
        Ok(Page::cut(items, limit, |item| item.delivery.seq.clone()))
    };
    export.run(&admin, by, page).await
}

/// Webhook calls as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/webhooks/export",
    tag = "alerts",
    params(ExportQuery, ("waiting" = Option<bool>, Query, description = "Only those not sent yet, or only the others")),
    responses((status = 200, response = File))
)]
async fn webhooks(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("webhooks", &mut params)?;
    let waiting = params.take("waiting", "true or false")?;
    params.finish()?;
    let page = move |conn: &mut Conn, after, limit| {
        let items = webhook::list(conn, waiting, after, limit + 1)?;
        Ok(Page::cut(items, limit, |item| item.delivery.seq.clone()))
    };
    export.run(&admin, by, page).await
}

/// Messages that could not be read, as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/dead-letters/export",
    tag = "dead-letters",
    params(ExportQuery, ("state" = Option<String>, Query, description = "waiting, replayed or discarded")),
    responses((status = 200, response = File))
)]
async fn dead_letters(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("dead-letters", &mut params)?;
    let state: Option<DeadLetterState> = params.take("state", "a state")?;
    params.finish()?;
    let page =
        move |conn: &mut Conn, after, limit| Ok(DeadLetter::page(conn, state, after, limit)?);
    export.run(&admin, by, page).await
}

/// Keys in quarantine as a file
#[utoipa::path(
    get,
    path = "/api/admin/v1/quarantine/export",
    tag = "quarantine",
    params(ExportQuery),
    responses((status = 200, response = File))
)]
async fn quarantine(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("quarantine", &mut params)?;
    params.finish()?;
    export.run(&admin, by, Quarantined::page).await
}

/// Paused keys as a file
#[utoipa::path(
    get,
    path = "/api/admin/v1/pauses/export",
    tag = "relay",
    params(ExportQuery),
    responses((status = 200, response = File))
)]
async fn pauses(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("pauses", &mut params)?;
    params.finish()?;
    export.run(&admin, by, PausedKey::page).await
}

/// Consumers as a file, in the order in which they were registered
#[utoipa::path(
    get,
    path = "/api/admin/v1/consumers/export",
    tag = "relay",
    params(ExportQuery),
    responses((status = 200, response = File))
)]
async fn consumers(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("consumers", &mut params)?;
    params.finish()?;
    let known = Known::of(&admin);
    let page = move |conn: &mut Conn, after: Option<String>, limit| {
        ConsumerItem::page(conn, &known, after.as_deref(), limit)
    };
    export.run(&admin, by, page).await
}

/// What operators did, as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/audit/export",
    tag = "audit",
    params(ExportQuery, audit::Filter),
    responses((status = 200, response = File))
)]
async fn audit(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("audit", &mut params)?;
    let filter = audit_routes::filter(&mut params)?;
    params.finish()?;
    let page = move |conn: &mut Conn, after, limit| {
        let items = audit::list(conn, &filter, after, limit + 1)?;
        Ok(Page::cut(items, limit, |entry| entry.seq.clone()))
    };
    export.run(&admin, by, page).await
}

/// Operators as a file, by name
#[utoipa::path(
    get,
    path = "/api/admin/v1/users/export",
    tag = "access",
    params(ExportQuery),
    responses((status = 200, response = File))
)]
async fn users(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("users", &mut params)?;
    params.finish()?;
    let page = |conn: &mut Conn, after: Option<String>, limit| {
        let items = operators::list(conn, &after.unwrap_or_default(), limit + 1)?;
        Ok(Page::cut(items, limit, |operator| operator.name.clone()))
    };
    export.run(&admin, by, page).await
}

/// Tokens, without their secrets, as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/tokens/export",
    tag = "access",
    params(ExportQuery),
    responses((status = 200, response = File))
)]
async fn tokens(admin: Data<Admin>, by: Caller, mut params: Params) -> ProblemResult<HttpResponse> {
    let export = Export::of("tokens", &mut params)?;
    params.finish()?;
    let page = |conn: &mut Conn, after, limit| {
        let items = tokens::list(conn, after, limit + 1)?;
        Ok(Page::cut(items, limit, |token| token.seq.clone()))
    };
    export.run(&admin, by, page).await
}
