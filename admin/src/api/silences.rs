//! `/silences`: alerts that are not sent for a while.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use engine::alerts::AlertKind;
use engine::alerts::silences::{self, NewSilence, Scope, Silence};
use serde::Deserialize;
use utoipa::ToSchema;

use super::problems::alert_problem;
use super::{Admin, checked_reason, number};
use crate::access::{Area, Caller, Role, Rule};

/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// A silence to start: for a kind, a key or both, or for one alert; with one of the two ends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSilence)]
pub(super) struct Begin {
    /// Only alerts of this kind: exhausted, silent, version_above_source, not_sent, not_applied, not_received, topic_shape, drift, not_verified, database_behind, commands_lost, log_not_read, not_trusted or not_answered.
    kind: Option<String>,
    /// Only alerts of this key.
    key: Option<String>,
    /// Only this alert, by its number.
    alert: Option<String>,
    /// Why, in 1 to 500 characters.
    reason: String,
    /// When it ends, at most 30 days from now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// How long it lasts; instead of `until`.
    for_seconds: Option<u64>,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/silences", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/silences", Role::Operator, Area::Alerts),
    Rule::new("DELETE", "/silences/{seq}", Role::Operator, Area::Alerts),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all =
        web::resource("/silences").get(list).post(begin).default_service(wrong_method("GET, POST"));
    let one = web::resource("/silences/{seq}").delete(end).default_service(wrong_method("DELETE"));
    scope.service(all).service(one);
}

/// Lists silences, newest first, ended ones included.
#[utoipa::path(
    get,
    path = "/api/admin/v1/silences",
    tag = "alerts",
    params(
        ("active" = Option<bool>, Query, description = "true: active ones; false: the others"),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<Silence>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<Silence>>> {
    let active: Option<bool> = params.take("active", "true or false")?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let now = admin.env.now();
    let items = admin
        .db
        .read(move |conn| {
            silences::list(conn, now, active, after, limit + 1).map_err(Problem::from)
        })
        .await?;
    Ok(Json(Page::cut(items, limit, |item: &Silence| item.seq.clone())))
}

/// Starts a silence.
#[utoipa::path(
    post,
    path = "/api/admin/v1/silences",
    tag = "alerts",
    request_body = Begin,
    responses(
        (status = 201, body = Silence),
        (status = 404, description = "There is no such alert"),
        (status = 409, description = "The alert is closed, too many silences are active, or a request with this key is still running"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn begin(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Begin>,
) -> ProblemResult<HttpResponse> {
    let now = admin.env.now();
    let new = checked(body.value, now)?;
    let work = move |conn: &mut _| {
        Reply::json(
            StatusCode::CREATED,
            &silences::begin(conn, now, &new, &by.actor()).map_err(alert_problem)?,
        )
    };
    admin.act(key, &body.bytes, work).await
}

/// Ends a silence early; alerts that are still open are sent then. One that has ended stays as it is.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/silences/{seq}",
    tag = "alerts",
    params(("seq" = String, Path, description = "the silence's number")),
    responses(
        (status = 200, body = Silence),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn end(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let (seq, now) = (number(&seq, "seq", "a silence's")?, admin.env.now());
    let work = move |conn: &mut _| {
        Reply::json(
            StatusCode::OK,
            &silences::end(conn, now, seq, &by.actor()).map_err(alert_problem)?,
        )
    };
    let response = admin.act(key, &[], work).await?;
    admin.alerts.wake();
    Ok(response)
}

fn checked(begin: Begin, now: Timestamp) -> ProblemResult<NewSilence> {
    checked_reason(&begin.reason)?;
    let until = match (begin.until, begin.for_seconds) {
        (Some(until), None) => until,
        (None, Some(seconds)) => now.after(Duration::from_secs(seconds)),
        _ => {
            return Err(Problem::invalid(
                "until",
                "a silence needs one end: give either until or for_seconds",
            ));
        }
    };
    Ok(NewSilence {
        scope: scope(begin.kind, begin.key, begin.alert)?,
        reason: begin.reason,
        until,
    })
}

fn scope(kind: Option<String>, key: Option<String>, alert: Option<String>) -> ProblemResult<Scope> {
    let kind: Option<AlertKind> = kind
        .map(|kind| {
            kind.parse().map_err(|known| {
                Problem::invalid("kind", format!("{kind:?} is not a kind; {known}"))
            })
        })
        .transpose()?;
    if key.as_deref().is_some_and(|key| key.is_empty() || key.chars().count() > MAX_KEY) {
        return Err(Problem::invalid("key", format!("a key has 1 to {MAX_KEY} characters")));
    }
    match (kind, key, alert) {
        (None, None, Some(alert)) => Ok(Scope::Alert(number(&alert, "alert", "an alert's")?)),
        (None, None, None) => Err(Problem::invalid(
            "kind",
            "give what to silence: a kind, a key or both, or one alert",
        )),
        (kind, key, None) => Ok(Scope::Matching { kind, key }),
        (_, _, Some(_)) => {
            Err(Problem::invalid("alert", "leave out kind and key to silence one alert"))
        }
    }
}
