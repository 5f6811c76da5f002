//! Who did what, by filter.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use common::clock::Timestamp;
use common::http::{Page, Params, Problem, ProblemResult};
use engine::audit::{self, Entry, Filter};

use super::context::{Fields, Frame, PageContext, Paging, or_refused, page};
use super::form::moment_at;
use super::show::filters;
use crate::access::{Area, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/audit", Role::Operator, Area::Audit)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let audit = web::resource("/audit").get(list);
    scope.service(audit.default_service(web::to(super::wrong_method)));
}

#[derive(Template)]
#[template(path = "admin/audit.html")]
struct AuditPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    filled: &'a Fields,
    entries: Vec<Entry>,
    paging: Paging,
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    let (found, problem) = or_refused(found(&context).await)?;
    let shown = AuditPage {
        frame: context.frame().await?,
        problem: problem.as_ref(),
        filled: &context.query,
        paging: context.next_page(found.next.as_deref()),
        entries: found.items,
    };
    page(problem.as_ref().map_or(StatusCode::OK, Problem::status), &shown)
}

async fn found(context: &PageContext) -> ProblemResult<Page<Entry>> {
    let mut params = context.params()?;
    let filter = Filter {
        who: params.text("who"),
        action: params.text("action"),
        subject: params.text("subject"),
        since: moment(&mut params, "since")?,
        until: moment(&mut params, "until")?,
    };
    let (limit, after) = (params.limit()?, params.take("after", "the `next` of a page")?);
    params.finish()?;
    let entries = context
        .admin
        .db
        .read(move |conn| audit::list(conn, &filter, after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Page::cut(entries, limit, |entry: &Entry| entry.seq.clone()))
}

fn moment(params: &mut Params, name: &str) -> ProblemResult<Option<Timestamp>> {
    params.text(name).map(|text| moment_at(name, &text)).transpose()
}
