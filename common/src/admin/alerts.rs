//! `GET /alerts`: what people were told, or will be, each with its mail.

use actix_web::web::{self, Data, Json, ServiceConfig};

use super::Admin;
use crate::access::{Area, Role, Rule};
use crate::alerts::{Alert, AlertFilter, list as alerts_after};
use crate::http::{Page, Params, Problem, ProblemResult, wrong_method};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/alerts", Role::Viewer, Area::Alerts)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let alerts = web::resource("/alerts").get(list).default_service(wrong_method("GET"));
    scope.service(alerts);
}

/// Newest first; `open=true` leaves the closed ones out, `open=false` the open ones.
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Alert>>> {
    let open: Option<bool> = params.take("open", "true or false")?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let filter = AlertFilter { open, ..AlertFilter::default() };
    let items = admin
        .engine
        .db
        .read(move |conn| alerts_after(conn, &filter, after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Json(Page::cut(items, limit, |alert: &Alert| alert.seq.to_string())))
}
