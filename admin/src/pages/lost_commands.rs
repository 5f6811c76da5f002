//! Commands whose effect was lost with their receiver's backup, and the buttons that decide about them.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::db::Conn;
use common::http::{Page, Problem, ProblemResult};
use common::ids::EventId;
use engine::lost::{Selection, State, Verdict};

use super::context::{Fields, Frame, PageContext, Paging, page, see};
use super::form::Form;
use super::show::filters;
use crate::access::{Area, Role, Rule};
use crate::api::lost_commands::{CheckItem, Decide, LostItem, decide_now};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/lost-commands", Role::Viewer, Area::Events),
    Rule::new("POST", "/lost-commands", Role::Operator, Area::Events),
    Rule::new("POST", "/lost-commands/{id}", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    let all = web::resource("/lost-commands").get(list).post(decide_all);
    let one = web::resource("/lost-commands/{id}").post(decide_one);
    scope.service(all.default_service(other())).service(one.default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/lost_commands.html")]
struct LostPage<'a> {
    frame: Frame,
    filled: &'a Fields,
    states: [State; 4],
    check: Option<CheckItem>,
    commands: Vec<LostItem>,
    paging: Paging,
    may_act: bool,
}

impl LostItem {
    /// How its state looks.
    pub(super) fn state_class(&self) -> &'static str {
        match self.state {
            State::Open => "bad",
            State::Again | State::Accepted => "good",
            State::Obsolete => "quiet",
        }
    }

    /// Whether a person has to decide.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let limit = params.limit()?;
    let after: Option<EventId> = params.take("after", "the `next` of a page")?;
    let state: Option<State> = params.take("state", "a state")?;
    params.finish()?;
    context.admin.lost()?;
    let read = move |conn: &mut Conn| {
        Ok((LostItem::page(conn, state, after, limit)?, CheckItem::newest(conn)?))
    };
    let (found, check): (Page<LostItem>, _) = context.admin.db.read::<_, Problem>(read).await?;
    let shown = LostPage {
        frame: context.frame().await?,
        filled: &context.query,
        states: State::ALL,
        check,
        paging: context.next_page(found.next.as_deref()),
        commands: found.items,
        may_act: context.may(Role::Operator, Area::Events),
    };
    page(StatusCode::OK, &shown)
}

async fn decide_one(
    context: PageContext,
    id: Path<String>,
    form: Form,
) -> ProblemResult<HttpResponse> {
    let id = id.parse().map_err(|_| Problem::not_found("there is no lost command of that id"))?;
    decide(&context, Selection::One(id), &form).await?;
    Ok(see("/admin/lost-commands", "lost-decided"))
}

async fn decide_all(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    decide(&context, Selection::OpenAfter(None), &form).await?;
    Ok(see("/admin/lost-commands?state=open", "lost-all-decided"))
}

async fn decide(context: &PageContext, selection: Selection, form: &Form) -> ProblemResult<()> {
    let verdict = match form.needed("verdict")?.as_str() {
        "again" => Verdict::Again,
        "accept" => Verdict::Accept,
        _ => return Err(Problem::invalid("verdict", "it is neither again nor accept")),
    };
    let decision = Decide { verdict, reason: form.text("reason") }.check()?;
    let (lost, by) = (context.admin.lost()?.clone(), context.caller.clone());
    let work = move |conn: &mut Conn| decide_now(conn, &lost, &by, selection, &decision);
    context.admin.db.write(work).await?;
    context.admin.wake_after_decision();
    Ok(())
}
