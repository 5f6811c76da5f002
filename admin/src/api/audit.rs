//! `GET /audit`: who did what.

use actix_web::web::{self, Data, Json, ServiceConfig};
use common::db::Conn;
use common::http::{Page, PageQuery, Params, ProblemResult, wrong_method};
use engine::audit::{self, Entry, Filter};

use super::Admin;
use crate::access::{Area, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/audit", Role::Operator, Area::Audit)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/audit").get(list).default_service(wrong_method("GET"));
    scope.service(all);
}

/// What operators did, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/audit",
    tag = "audit",
    params(Filter, PageQuery),
    responses((status = 200, description = "A page", body = Page<Entry>))
)]
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Entry>>> {
    let filter = filter(&mut params)?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let page = admin.db.read(move |conn| page(conn, &filter, after, limit)).await?;
    Ok(Json(page))
}

fn page(
    conn: &mut Conn,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> ProblemResult<Page<Entry>> {
    let items = audit::list(conn, filter, after, limit + 1)?;
    Ok(Page::cut(items, limit, |item| item.seq.clone()))
}

pub(super) fn filter(params: &mut Params) -> ProblemResult<Filter> {
    const MOMENT: &str = "a time such as 2026-01-31T12:00:00Z";
    Ok(Filter {
        who: params.text("who"),
        action: params.text("action"),
        subject: params.text("subject"),
        since: params.take("since", MOMENT)?,
        until: params.take("until", MOMENT)?,
    })
}
