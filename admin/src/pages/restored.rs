//! Whether this service's database came back from a backup, and the button that mends what it misses.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use common::http::{Problem, ProblemResult};
use engine::restored::{Side, State};

use super::context::{Frame, PageContext, page, see};
use super::form::Form;
use super::show::filters;
use crate::access::{Area, Role, Rule};
use crate::api::restored::{Create, RestorationItem, RestoredStatus, start_now};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/restored", Role::Viewer, Area::Events),
    Rule::new("POST", "/restored", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope.service(web::resource("/restored").get(show).post(start).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/restored.html")]
struct RestoredPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    status: RestoredStatus,
    /// The other service: whose copy it is, or who owns what this one copies.
    other: String,
    /// What was filled in.
    reason: String,
    may_act: bool,
}

impl RestoredStatus {
    /// Whether this service owns what the other one copies.
    pub(super) fn is_owner(&self) -> bool {
        self.side == Side::Owner
    }
}

impl RestorationItem {
    /// How its state looks.
    pub(super) fn state_class(&self) -> &'static str {
        match self.state {
            State::Equal => "good",
            State::Running => "info",
            State::Found | State::Different | State::Cancelled => "warn",
        }
    }

    /// Whether it is being mended.
    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }
}

async fn show(context: PageContext) -> ProblemResult<HttpResponse> {
    context.params()?.finish()?;
    shown(&context, &Form::default(), None).await
}

async fn shown(
    context: &PageContext,
    form: &Form,
    problem: Option<&Problem>,
) -> ProblemResult<HttpResponse> {
    let restorer = context.admin.restorer()?.clone();
    let other = restorer.other.clone();
    let status = context.admin.db.read(move |conn| RestoredStatus::read(conn, &restorer)).await?;
    let shown = RestoredPage {
        frame: context.frame().await?,
        problem,
        status,
        other,
        reason: form.text("reason").unwrap_or_default(),
        may_act: context.may(Role::Operator, Area::Events),
    };
    page(problem.map_or(StatusCode::OK, Problem::status), &shown)
}

async fn start(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    match start_asked(&context, &form).await {
        Ok(()) => Ok(see("/admin/restored", "restoring")),
        Err(problem) if problem.status().is_client_error() => {
            shown(&context, &form, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn start_asked(context: &PageContext, form: &Form) -> ProblemResult<()> {
    let restorer = context.admin.restorer()?.clone();
    let by = context.caller.clone();
    let create = Create { reason: form.text("reason"), force: form.text("force").is_some() };
    let request = create.check()?;
    context.admin.db.write(move |conn| start_now(conn, &by, &restorer, request)).await?;
    context.admin.wake_restoring();
    Ok(())
}
