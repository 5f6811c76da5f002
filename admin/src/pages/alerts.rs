//! Alerts, silences, and the messages about them.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::clock::Timestamp;
use common::http::{Page, Problem, ProblemResult};
use engine::alerts::mail::{self, MailState};
use engine::alerts::silences::{self, NewSilence, Scope, Silence};
use engine::alerts::webhook::{self, WebhookState};
use engine::alerts::{self, Alert, AlertDetail, AlertKind, AlertState};

use super::context::{Fields, Frame, PageContext, Paging, or_refused, page, see};
use super::form::Form;
use super::show::filters;
use super::tokens::number;
use crate::access::{Area, Role, Rule};
use crate::api::alerts::filter;
use crate::api::checked_reason;
use crate::api::problems::alert_problem;
use crate::api::quarantine::checked_key;

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/alerts", Role::Viewer, Area::Alerts),
    Rule::new("GET", "/alerts/{seq}", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/alerts/{seq}/acknowledge", Role::Operator, Area::Alerts),
    Rule::new("GET", "/silences", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/silences", Role::Operator, Area::Alerts),
    Rule::new("POST", "/silences/{seq}/end", Role::Operator, Area::Alerts),
    Rule::new("GET", "/mails", Role::Viewer, Area::Alerts),
    Rule::new("POST", "/mails/test", Role::Operator, Area::Alerts),
    Rule::new("POST", "/mails/test-webhook", Role::Operator, Area::Alerts),
];

/// Webhook calls that the page of mails shows.
const CALLS: i64 = 50;

/// How long a silence may be chosen to last, in seconds and in words.
const LENGTHS: [(&str, &str); 6] = [
    ("1800", "30 minutes"),
    ("3600", "1 hour"),
    ("14400", "4 hours"),
    ("28800", "8 hours"),
    ("86400", "1 day"),
    ("604800", "7 days"),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/alerts").get(list).default_service(other()))
        .service(web::resource("/alerts/{seq}").get(show).default_service(other()))
        .service(
            web::resource("/alerts/{seq}/acknowledge").post(acknowledge).default_service(other()),
        )
        .service(web::resource("/silences").get(silenced).post(silence).default_service(other()))
        .service(web::resource("/silences/{seq}/end").post(end_silence).default_service(other()))
        .service(web::resource("/mails").get(mails).default_service(other()))
        .service(web::resource("/mails/test").post(test_mail).default_service(other()))
        .service(web::resource("/mails/test-webhook").post(test_call).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/alerts.html")]
struct AlertsPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    filled: &'a Fields,
    alerts: Vec<Alert>,
    paging: Paging,
    may_act: bool,
}

#[derive(Template)]
#[template(path = "admin/alert.html")]
struct AlertPage {
    frame: Frame,
    detail: AlertDetail,
    lengths: [(&'static str, &'static str); 6],
    may_act: bool,
}

#[derive(Template)]
#[template(path = "admin/silences.html")]
struct SilencesPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    /// What was filled in.
    form: &'a Form,
    silences: Vec<Silence>,
    paging: Paging,
    lengths: [(&'static str, &'static str); 6],
    may_act: bool,
}

impl SilencesPage<'_> {
    fn filled(&self, name: &str) -> String {
        self.form.text(name).unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "admin/mails.html")]
struct MailsPage {
    frame: Frame,
    mails: Vec<MailState>,
    calls: Vec<WebhookState>,
    paging: Paging,
    may_act: bool,
}

/// How a state looks.
fn state_class(state: AlertState) -> &'static str {
    match state {
        AlertState::Open => "bad",
        AlertState::Acknowledged => "warn",
        AlertState::Closed => "good",
    }
}

/// A state in words.
fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Open => "open",
        AlertState::Acknowledged => "acknowledged",
        AlertState::Closed => "closed",
    }
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    let (found, problem) = or_refused(found(&context).await)?;
    let shown = AlertsPage {
        frame: context.frame().await?,
        problem: problem.as_ref(),
        filled: &context.query,
        paging: context.next_page(found.next.as_deref()),
        alerts: found.items,
        may_act: context.may(Role::Operator, Area::Alerts),
    };
    page(problem.as_ref().map_or(StatusCode::OK, Problem::status), &shown)
}

async fn found(context: &PageContext) -> ProblemResult<Page<Alert>> {
    let mut params = context.params()?;
    let wanted = filter(&mut params)?;
    let (limit, after) = (params.limit()?, params.take("after", "the `next` of a page")?);
    params.finish()?;
    let now = context.admin.env.now();
    let read = move |conn: &mut _| {
        alerts::list(conn, now, &wanted, after, limit + 1).map_err(Problem::from)
    };
    let items = context.admin.db.read(read).await?;
    Ok(Page::cut(items, limit, |alert: &Alert| alert.seq.to_string()))
}

async fn show(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let (seq, now) = (number(&seq)?, context.admin.env.now());
    let detail = context
        .admin
        .db
        .read(move |conn| alerts::find(conn, now, seq))
        .await
        .map_err(alert_problem)?;
    let may_act = context.may(Role::Operator, Area::Alerts);
    let frame = context.frame().await?;
    page(StatusCode::OK, &AlertPage { frame, detail, lengths: LENGTHS, may_act })
}

async fn acknowledge(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let (seq, now, by) = (number(&seq)?, context.admin.env.now(), context.caller.clone());
    let work = move |conn: &mut _| alerts::acknowledge(conn, now, seq, &by.actor());
    context.admin.db.write(work).await.map_err(alert_problem)?;
    Ok(see(&format!("/admin/alerts/{seq}"), "acknowledged"))
}

async fn silenced(context: PageContext) -> ProblemResult<HttpResponse> {
    show_silences(&context, &Form::default(), None).await
}

async fn silence(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    match begin(&context, &form).await {
        Ok(()) => Ok(see("/admin/silences", "silenced")),
        Err(problem) if problem.status().is_client_error() => {
            show_silences(&context, &form, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn show_silences(
    context: &PageContext,
    form: &Form,
    problem: Option<&Problem>,
) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let active = params.take("active", "true or false")?;
    let (limit, after) = (params.limit()?, params.take("after", "the `next` of a page")?);
    params.finish()?;
    let now = context.admin.env.now();
    let read = move |conn: &mut _| {
        silences::list(conn, now, active, after, limit + 1).map_err(Problem::from)
    };
    let found = context.admin.db.read(read).await?;
    let found = Page::cut(found, limit, |silence: &Silence| silence.seq.clone());
    let shown = SilencesPage {
        frame: context.frame().await?,
        problem,
        form,
        paging: context.next_page(found.next.as_deref()),
        silences: found.items,
        lengths: LENGTHS,
        may_act: context.may(Role::Operator, Area::Alerts),
    };
    page(problem.map_or(StatusCode::OK, Problem::status), &shown)
}

async fn begin(context: &PageContext, form: &Form) -> ProblemResult<()> {
    let now = context.admin.env.now();
    let new =
        NewSilence { scope: scope(form)?, reason: form.needed("reason")?, until: end(form, now)? };
    checked_reason(&new.reason)?;
    let by = context.caller.clone();
    let work = move |conn: &mut _| silences::begin(conn, now, &new, &by.actor());
    context.admin.db.write(work).await.map(drop).map_err(alert_problem)
}

/// What a silence is of: one alert, or a kind, a key or both.
fn scope(form: &Form) -> ProblemResult<Scope> {
    if let Some(alert) = form.take("alert", "an alert's number")? {
        return Ok(Scope::Alert(alert));
    }
    let kind: Option<AlertKind> = form.take("kind", "a kind of alerts")?;
    let key = form.text("key").map(checked_key).transpose()?;
    match (kind, &key) {
        (None, None) => Err(Problem::invalid("key", "give a kind, a key or both")),
        _ => Ok(Scope::Matching { kind, key }),
    }
}

/// When a silence ends: at the moment that was filled in, else after the length that was chosen.
fn end(form: &Form, now: Timestamp) -> ProblemResult<Timestamp> {
    if let Some(until) = form.moment("until")? {
        return Ok(until);
    }
    let seconds = form.take("for_seconds", "a number of seconds")?;
    let seconds = seconds.ok_or_else(|| Problem::invalid("until", "a silence needs an end"))?;
    Ok(now.after(Duration::from_secs(seconds)))
}

async fn end_silence(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let (seq, now, by) = (number(&seq)?, context.admin.env.now(), context.caller.clone());
    let work = move |conn: &mut _| silences::end(conn, now, seq, &by.actor());
    context.admin.db.write(work).await.map_err(alert_problem)?;
    context.admin.alerts.wake();
    Ok(see("/admin/silences", "silence-ended"))
}

async fn mails(context: PageContext) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let (limit, after) = (params.limit()?, params.take("after", "the `next` of a page")?);
    params.finish()?;
    let read = context.admin.db.read(move |conn| {
        let mails = mail::list(conn, None, after, limit + 1)?;
        Ok::<_, Problem>((mails, webhook::list(conn, None, None, CALLS)?))
    });
    let (mails, calls) = read.await?;
    let mails = Page::cut(mails, limit, |mail: &MailState| mail.delivery.seq.clone());
    let shown = MailsPage {
        frame: context.frame().await?,
        paging: context.next_page(mails.next.as_deref()),
        mails: mails.items,
        calls,
        may_act: context.may(Role::Operator, Area::Alerts),
    };
    page(StatusCode::OK, &shown)
}

async fn test_mail(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let admin = &context.admin;
    let (alerts, env, by) = (admin.alerts.clone(), admin.env.clone(), context.caller.clone());
    let to: Vec<String> = form.text("to").into_iter().collect();
    let work = move |conn: &mut _| alerts.test_mail(conn, &env, &to, &by.actor());
    admin.db.write(work).await.map_err(alert_problem)?;
    admin.alerts.wake();
    Ok(see("/admin/mails", "test-mail"))
}

async fn test_call(context: PageContext) -> ProblemResult<HttpResponse> {
    let admin = &context.admin;
    let (alerts, env, by) = (admin.alerts.clone(), admin.env.clone(), context.caller.clone());
    let work = move |conn: &mut _| alerts.test_webhook(conn, &env, &by.actor());
    admin.db.write(work).await.map_err(alert_problem)?;
    admin.alerts.wake();
    Ok(see("/admin/mails", "test-call"))
}
