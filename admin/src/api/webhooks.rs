//! `/webhooks`: the calls that tell of alerts, how far each has got, and one to try them with.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, ServiceConfig};
use common::http::{IdempotencyKey, Page, Params, Problem, ProblemResult, Reply, wrong_method};
use engine::alerts::webhook::{self, QueuedWebhook, WebhookState};

use super::Admin;
use super::problems::alert_problem;
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/webhooks", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/webhooks/test", Role::Operator, Area::Alerts),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/webhooks").get(list).default_service(wrong_method("GET"));
    let try_out = web::resource("/webhooks/test").post(test).default_service(wrong_method("POST"));
    scope.service(all).service(try_out);
}

/// Lists calls of the webhook, newest first.
#[utoipa::path(
    get,
    path = "/api/admin/v1/webhooks",
    tag = "alerts",
    params(
        ("waiting" = Option<bool>, Query, description = "true: those that have not left; false: those that have"),
        ("limit" = Option<i64>, Query, description = "items of the page, 1 to 1,000; 100 if left out"),
        ("after" = Option<String>, Query, description = "the `next` of the page before"),
    ),
    responses(
        (status = 200, body = Page<WebhookState>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<WebhookState>>> {
    let waiting: Option<bool> = params.take("waiting", "true or false")?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let items = admin
        .db
        .read(move |conn| webhook::list(conn, waiting, after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Json(Page::cut(items, limit, |item: &WebhookState| item.delivery.seq.clone())))
}

/// Sends a test call, on the way that alerts go: it is written down and tried until it has left.
#[utoipa::path(
    post,
    path = "/api/admin/v1/webhooks/test",
    tag = "alerts",
    responses(
        (status = 202, body = QueuedWebhook),
        (status = 409, description = "The webhook is off."),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn test(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let (alerts, env) = (admin.alerts.clone(), admin.env.clone());
    let work = move |conn: &mut _| {
        Reply::json(
            StatusCode::ACCEPTED,
            &alerts.test_webhook(conn, &env, &by.actor()).map_err(alert_problem)?,
        )
    };
    let response = admin.act(key, &[], work).await?;
    admin.alerts.wake();
    Ok(response)
}
