//! The relay: who sends, what is paused, who is asked for answers, and which keys are refused.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use common::db::Conn;
use common::http::{Page, Problem, ProblemResult};
use common::telemetry::ConsumerStatus;
use engine::inbox::quarantine::{self, QuarantineRow};
use engine::outbox::pause::{self, EVERYTHING, PauseRow};

use super::context::{Frame, PageContext, Paging, page, see};
use super::form::Form;
use super::show::filters;
use crate::access::{Area, Role, Rule};
use crate::api::checked_reason;
use crate::api::consumers::{Change, ConsumerItem};
use crate::api::quarantine::{checked_key, put_now, release_now};
use crate::api::relay::{RelayView, pause_now, resume_now};
use crate::api::view::ViewReport;

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/relay", Role::Viewer, Area::Relay),
    Rule::new("POST", "/relay/pause", Role::Operator, Area::Relay),
    Rule::new("POST", "/relay/resume", Role::Operator, Area::Relay),
    Rule::new("POST", "/relay/pause-key", Role::Operator, Area::Relay),
    Rule::new("POST", "/relay/resume-key", Role::Operator, Area::Relay),
    Rule::new("POST", "/consumers", Role::Admin, Area::Relay),
    Rule::new("POST", "/consumers/role", Role::Admin, Area::Relay),
    Rule::new("POST", "/consumers/retire", Role::Admin, Area::Relay),
    Rule::new("GET", "/quarantine", Role::Viewer, Area::Quarantine),
    Rule::new("POST", "/quarantine", Role::Operator, Area::Quarantine),
    Rule::new("POST", "/quarantine/release", Role::Operator, Area::Quarantine),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/relay").get(show).default_service(other()))
        .service(web::resource("/relay/pause").post(pause_all).default_service(other()))
        .service(web::resource("/relay/resume").post(resume_all).default_service(other()))
        .service(web::resource("/relay/pause-key").post(pause_key).default_service(other()))
        .service(web::resource("/relay/resume-key").post(resume_key).default_service(other()))
        .service(web::resource("/consumers").post(register).default_service(other()))
        .service(web::resource("/consumers/role").post(set_role).default_service(other()))
        .service(web::resource("/consumers/retire").post(retire).default_service(other()))
        .service(web::resource("/quarantine").get(held).post(hold).default_service(other()))
        .service(web::resource("/quarantine/release").post(release).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/relay.html")]
struct RelayPage<'a> {
    frame: Frame,
    relay: RelayView,
    view: ViewReport,
    consumers: Vec<ConsumerItem>,
    pauses: Vec<PauseRow>,
    paging: Paging,
    may_act: bool,
    /// Whether consumers may be changed.
    may_manage: bool,
    /// A key that somebody comes with from its event.
    key: &'a str,
}

#[derive(Template)]
#[template(path = "admin/quarantine.html")]
struct QuarantinePage<'a> {
    frame: Frame,
    keys: Vec<QuarantineRow>,
    paging: Paging,
    may_act: bool,
    key: &'a str,
}

async fn show(context: PageContext) -> ProblemResult<HttpResponse> {
    let (limit, after) = place(&context)?;
    let (broker, relay) = (context.admin.broker.clone(), context.admin.settings.outbox.relay);
    let topic = context.admin.view_topic().map(str::to_owned);
    let now = context.admin.env.now();
    let read = context.admin.db.read(move |conn| {
        let pauses = pause::list(conn, &after, limit + 1)?;
        let view = ViewReport::take(conn, &broker, topic, now)?;
        Ok::<_, Problem>((RelayView::take(conn, &broker, relay)?, view, pauses))
    });
    let (relay, view, pauses) = read.await?;
    let pauses = Page::cut(pauses, limit, |row: &PauseRow| row.key.clone());
    let shown = RelayPage {
        frame: context.frame().await?,
        relay,
        view,
        consumers: ConsumerItem::all(&context.admin).await?,
        may_manage: context.may(Role::Admin, Area::Relay),
        paging: context.next_page(pauses.next.as_deref()),
        pauses: pauses.items,
        may_act: context.may(Role::Operator, Area::Relay),
        key: context.query.get("key"),
    };
    page(StatusCode::OK, &shown)
}

async fn held(context: PageContext) -> ProblemResult<HttpResponse> {
    let (limit, after) = place(&context)?;
    let db = &context.admin.db;
    let keys = db
        .read(move |conn| quarantine::list(conn, &after, limit + 1).map_err(Problem::from))
        .await?;
    let keys = Page::cut(keys, limit, |row: &QuarantineRow| row.key.clone());
    let shown = QuarantinePage {
        frame: context.frame().await?,
        paging: context.next_page(keys.next.as_deref()),
        keys: keys.items,
        may_act: context.may(Role::Operator, Area::Quarantine),
        key: context.query.get("key"),
    };
    page(StatusCode::OK, &shown)
}

/// Where in a list of keys the page begins.
fn place(context: &PageContext) -> ProblemResult<(i64, String)> {
    let mut params = context.params()?;
    let place = (params.limit()?, params.text("after").unwrap_or_default());
    // A key that a form is to be filled with.
    params.text("key");
    params.finish()?;
    Ok(place)
}

async fn pause_all(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    pause(&context, EVERYTHING.to_owned(), &form).await?;
    Ok(see("/admin/relay", done(&context, "paused", "paused-but-external")))
}

async fn pause_key(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    pause(&context, checked_key(form.needed("key")?)?, &form).await?;
    Ok(see("/admin/relay", done(&context, "key-paused", "key-paused-but-external")))
}

/// What is told once something is paused: whether another program goes on with first attempts.
fn done(context: &PageContext, whole: &'static str, but_external: &'static str) -> &'static str {
    if context.admin.settings.outbox.relay.is_external() { but_external } else { whole }
}

async fn pause(context: &PageContext, key: String, form: &Form) -> ProblemResult<bool> {
    let reason = form.needed("reason")?;
    checked_reason(&reason)?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    let row = PauseRow { key, reason, since_us: now, by_whom: by.name.clone() };
    context.admin.db.write(move |conn| pause_now(conn, &by, &row)).await
}

async fn resume_all(context: PageContext) -> ProblemResult<HttpResponse> {
    resume(&context, EVERYTHING.to_owned()).await?;
    Ok(see("/admin/relay", "resumed"))
}

async fn resume_key(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    resume(&context, form.needed("key")?).await?;
    Ok(see("/admin/relay", "key-resumed"))
}

async fn resume(context: &PageContext, key: String) -> ProblemResult<()> {
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    context.admin.db.write(move |conn| resume_now(conn, (&by, now), &key)).await?;
    context.admin.outbox.wake();
    Ok(())
}

async fn register(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let (name, required) = (form.needed("name")?, form.needed("role")? == "required");
    change(&context, &form, move |change, conn| change.register(conn, &name, required)).await?;
    Ok(see("/admin/relay", "consumer-registered"))
}

async fn set_role(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let (name, required) = (form.needed("name")?, form.needed("role")? == "required");
    change(&context, &form, move |change, conn| change.set_role(conn, &name, required)).await?;
    Ok(see("/admin/relay", "consumer-changed"))
}

async fn retire(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let name = form.needed("name")?;
    change(&context, &form, move |change, conn| change.retire(conn, &name)).await?;
    Ok(see("/admin/relay", "consumer-retired"))
}

async fn change(
    context: &PageContext,
    form: &Form,
    work: impl FnOnce(&Change, &mut Conn) -> ProblemResult<ConsumerItem> + Send + 'static,
) -> ProblemResult<()> {
    let reason = form.needed("reason")?;
    checked_reason(&reason)?;
    let change = Change::of(&context.admin, context.caller.clone(), reason, None);
    context.admin.db.write(move |conn| work(&change, conn)).await.map(drop)
}

async fn hold(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let (key, reason) = (checked_key(form.needed("key")?)?, form.needed("reason")?);
    checked_reason(&reason)?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    let row = QuarantineRow { key, reason, since_us: now, by_whom: by.name.clone() };
    context.admin.db.write(move |conn| put_now(conn, &by, &row)).await?;
    Ok(see("/admin/quarantine", "held"))
}

async fn release(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let key = form.needed("key")?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    context.admin.db.write(move |conn| release_now(conn, (&by, now), &key)).await?;
    Ok(see("/admin/quarantine", "released"))
}
