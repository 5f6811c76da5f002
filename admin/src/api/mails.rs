//! `/mails`: the mails that tell of alerts, how far each has got, and one to try them with.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, ServiceConfig};
use common::http::{
    IdempotencyKey, OptionalJson, Page, Params, Problem, ProblemResult, Reply, wrong_method,
};
use engine::alerts::mail::{self, MailState, QueuedMail};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Admin;
use super::problems::alert_problem;
use crate::access::{Area, Caller, Role, Rule};

/// Whom a test mail goes to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TestMail)]
pub(super) struct Test {
    /// Addresses; left out: the recipients of alerts.
    #[serde(default)]
    to: Vec<String>,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/mails", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/mails/test", Role::Operator, Area::Alerts),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/mails").get(list).default_service(wrong_method("GET"));
    let try_out = web::resource("/mails/test").post(test).default_service(wrong_method("POST"));
    scope.service(all).service(try_out);
}

/// Lists mails, newest first.
#[utoipa::path(
    get,
    path = "/api/admin/v1/mails",
    tag = "alerts",
    params(
        ("waiting" = Option<bool>, Query, description = "true: those that have not left; false: those that have"),
        ("limit" = Option<i64>, Query, description = "items of the page, 1 to 1,000; 100 if left out"),
        ("after" = Option<String>, Query, description = "the `next` of the page before"),
    ),
    responses(
        (status = 200, body = Page<MailState>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<MailState>>> {
    let waiting: Option<bool> = params.take("waiting", "true or false")?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let items = admin
        .db
        .read(move |conn| mail::list(conn, waiting, after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Json(Page::cut(items, limit, |item: &MailState| item.delivery.seq.clone())))
}

/// Sends a test mail, on the way that alerts go: it is written down and tried until it has left.
#[utoipa::path(
    post,
    path = "/api/admin/v1/mails/test",
    tag = "alerts",
    request_body = Option<Test>,
    responses(
        (status = 202, body = QueuedMail),
        (status = 409, description = "Mail is off, or there is nobody to mail to."),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn test(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    OptionalJson(body): OptionalJson<Test>,
) -> ProblemResult<HttpResponse> {
    let (alerts, env) = (admin.alerts.clone(), admin.env.clone());
    let to = body.value.to;
    let work = move |conn: &mut _| {
        Reply::json(
            StatusCode::ACCEPTED,
            &alerts.test_mail(conn, &env, &to, &by.actor()).map_err(alert_problem)?,
        )
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.alerts.wake();
    Ok(response)
}
