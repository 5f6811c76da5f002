//! `/mails` and `/webhooks`: the messages about alerts, how far each has got, and one of each to try.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, ServiceConfig};
use common::db::Conn;
use common::http::{
    IdempotencyKey, OptionalJson, Page, PageQuery, Params, Problem, ProblemResult, Reply,
    wrong_method,
};
use diesel::QueryResult;
use engine::alerts::mail::{self, MailState, QueuedMail};
use engine::alerts::webhook::{self, QueuedWebhook, WebhookState};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Admin;
use super::problems::alert_problem;
use crate::access::{Area, Caller, Role, Rule};

/// The recipients of a test mail.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestMail {
    /// Addresses; left out: the recipients of alerts.
    #[serde(default)]
    to: Vec<String>,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/mails", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/mails/test", Role::Operator, Area::Alerts),
    Rule::new("GET", "/webhooks", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/webhooks/test", Role::Operator, Area::Alerts),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let mails = web::resource("/mails").get(list_mails).default_service(wrong_method("GET"));
    let webhooks =
        web::resource("/webhooks").get(list_webhooks).default_service(wrong_method("GET"));
    let mail = web::resource("/mails/test").post(test_mail).default_service(wrong_method("POST"));
    let webhook =
        web::resource("/webhooks/test").post(test_webhook).default_service(wrong_method("POST"));
    scope.service(mails).service(mail).service(webhooks).service(webhook);
}

/// Lists mails, newest first.
#[utoipa::path(
    get,
    path = "/api/admin/v1/mails",
    tag = "alerts",
    params(
        ("waiting" = Option<bool>, Query, description = "true: those that somebody is still to get; false: the others"),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<MailState>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list_mails(
    admin: Data<Admin>,
    params: Params,
) -> ProblemResult<Json<Page<MailState>>> {
    list(&admin, params, mail::list, |mail| mail.delivery.seq.clone()).await
}

/// Lists webhook calls, newest first.
#[utoipa::path(
    get,
    path = "/api/admin/v1/webhooks",
    tag = "alerts",
    params(
        ("waiting" = Option<bool>, Query, description = "true: those not sent yet; false: those sent"),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<WebhookState>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list_webhooks(
    admin: Data<Admin>,
    params: Params,
) -> ProblemResult<Json<Page<WebhookState>>> {
    list(&admin, params, webhook::list, |call| call.delivery.seq.clone()).await
}

/// What lists a channel's messages: those waiting or not, after a number, so many.
type List<T> = fn(&mut Conn, Option<bool>, Option<i64>, i64) -> QueryResult<Vec<T>>;

async fn list<T: Send + 'static>(
    admin: &Admin,
    mut params: Params,
    list: List<T>,
    seq: fn(&T) -> String,
) -> ProblemResult<Json<Page<T>>> {
    let waiting: Option<bool> = params.take("waiting", "true or false")?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let read = move |conn: &mut _| list(conn, waiting, after, limit + 1).map_err(Problem::from);
    Ok(Json(Page::cut(admin.db.read(read).await?, limit, seq)))
}

/// Sends a test mail as alerts are sent: it is stored, and tried until it is sent.
#[utoipa::path(
    post,
    path = "/api/admin/v1/mails/test",
    tag = "alerts",
    request_body = Option<TestMail>,
    responses(
        (status = 202, body = QueuedMail),
        (status = 409, description = "Mail is off, or there are no recipients."),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn test_mail(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    OptionalJson(body): OptionalJson<TestMail>,
) -> ProblemResult<HttpResponse> {
    let (alerts, env) = (admin.alerts.clone(), admin.env.clone());
    let to = body.value.to;
    let work = move |conn: &mut _| {
        let queued = alerts.test_mail(conn, &env, &to, &by.actor()).map_err(alert_problem)?;
        Reply::json(StatusCode::ACCEPTED, &queued)
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.alerts.wake();
    Ok(response)
}

/// Sends a test call as alerts are sent: it is stored, and tried until it is delivered.
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
pub(super) async fn test_webhook(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let (alerts, env) = (admin.alerts.clone(), admin.env.clone());
    let work = move |conn: &mut _| {
        let queued = alerts.test_webhook(conn, &env, &by.actor()).map_err(alert_problem)?;
        Reply::json(StatusCode::ACCEPTED, &queued)
    };
    let response = admin.act(key, &[], work).await?;
    admin.alerts.wake();
    Ok(response)
}
