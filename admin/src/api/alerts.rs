//! `/alerts`: alerts, each with its messages, and acknowledging them.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, wrong_method,
};
use engine::alerts::{self, Alert, AlertDetail, AlertFilter};

use super::problems::alert_problem;
use super::{Admin, number};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/alerts", Role::Viewer, Area::Alerts),
    Rule::new("GET", "/alerts/{seq}", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/alerts/{seq}/acknowledge", Role::Operator, Area::Alerts),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/alerts").get(list).default_service(wrong_method("GET"));
    let one = web::resource("/alerts/{seq}").get(show).default_service(wrong_method("GET"));
    let acknowledged = web::resource("/alerts/{seq}/acknowledge")
        .post(acknowledge)
        .default_service(wrong_method("POST"));
    scope.service(all).service(one).service(acknowledged);
}

/// Lists alerts, newest first.
#[utoipa::path(
    get,
    path = "/api/admin/v1/alerts",
    tag = "alerts",
    params(
        ("open" = Option<bool>, Query, description = "true: those that are not closed; false: closed ones"),
        ("state" = Option<String>, Query, description = "open, acknowledged or closed"),
        ("kind" = Option<String>, Query, description = "exhausted, silent, version_above_source, not_sent, not_applied, not_received, topic_shape, drift, not_verified, database_behind, commands_lost, log_not_read, not_trusted or not_answered"),
        ("key" = Option<String>, Query, description = "only those of this SKU or order"),
        ("event" = Option<String>, Query, description = "only those of this event id"),
        ("mail" = Option<String>, Query, description = "only those that this mail tells of"),
        ("webhook" = Option<String>, Query, description = "only those that this webhook call tells of"),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<Alert>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<Alert>>> {
    let filter = filter(&mut params)?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let now = admin.env.now();
    let items = admin
        .db
        .read(move |conn| alerts::list(conn, now, &filter, after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Json(Page::cut(items, limit, |alert: &Alert| alert.seq.to_string())))
}

/// Which alerts a list or an export is of.
///
/// # Errors
/// 422 for a value that is none.
pub(crate) fn filter(params: &mut Params) -> ProblemResult<AlertFilter> {
    Ok(AlertFilter {
        open: params.take("open", "true or false")?,
        state: params.take("state", "a state of alerts")?,
        kind: params.take("kind", "a kind of alerts")?,
        key: params.text("key"),
        event_id: params.take("event", "an event's id")?,
        mail: params.take("mail", "a mail's number")?,
        webhook: params.take("webhook", "a call's number")?,
    })
}

/// Shows an alert with its event, its messages and the silences that cover it.
#[utoipa::path(
    get,
    path = "/api/admin/v1/alerts/{seq}",
    tag = "alerts",
    params(("seq" = String, Path, description = "the alert's number")),
    responses(
        (status = 200, body = AlertDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    admin: Data<Admin>,
    seq: Path<String>,
) -> ProblemResult<Json<AlertDetail>> {
    let (seq, now) = (number(&seq, "seq", "an alert's")?, admin.env.now());
    let found = admin.db.read(move |conn| alerts::find(conn, now, seq)).await;
    found.map(Json).map_err(alert_problem)
}

/// Acknowledges an alert; the first acknowledgement stays.
#[utoipa::path(
    post,
    path = "/api/admin/v1/alerts/{seq}/acknowledge",
    tag = "alerts",
    params(("seq" = String, Path, description = "the alert's number")),
    responses(
        (status = 200, body = AlertDetail),
        (status = 409, description = "The alert is closed, or a request with this key is still running"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn acknowledge(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let (seq, now) = (number(&seq, "seq", "an alert's")?, admin.env.now());
    let work = move |conn: &mut _| {
        Reply::json(
            StatusCode::OK,
            &alerts::acknowledge(conn, now, seq, &by.actor()).map_err(alert_problem)?,
        )
    };
    admin.act(key, &[], work).await
}
