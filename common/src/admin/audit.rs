//! `GET /audit`: who did what.

use actix_web::web::{self, Data, Json, ServiceConfig};

use super::Admin;
use crate::access::{Area, Role, Rule};
use crate::audit::{self, Entry, Filter};
use crate::http::{Page, Params, Problem, ProblemResult, wrong_method};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/audit", Role::Operator, Area::Audit)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    scope.service(web::resource("/audit").get(list).default_service(wrong_method("GET")));
}

/// Newest first; `?who=&action=&subject=&since=&until=&limit=&after=`.
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Entry>>> {
    let filter = filter(&mut params)?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let items = admin
        .engine
        .db
        .read(move |conn| audit::list(conn, &filter, after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Json(Page::cut(items, limit, |item: &Entry| item.seq.clone())))
}

fn filter(params: &mut Params) -> ProblemResult<Filter> {
    const MOMENT: &str = "a time such as 2026-01-31T12:00:00Z";
    Ok(Filter {
        who: params.text("who"),
        action: params.text("action"),
        subject: params.text("subject"),
        since: params.take("since", MOMENT)?,
        until: params.take("until", MOMENT)?,
    })
}
