//! `GET /charts/{name}.svg`: the loop's course as pictures.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data, Path, ServiceConfig};
use common::http::{Params, Problem, ProblemResult, wrong_method};
use engine::stats::{self, Chart};

use super::Admin;
use super::overview::{points, window};
use crate::access::{Area, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] =
    &[Rule::new("GET", "/charts/{name}.svg", Role::Viewer, Area::Overview)];

/// A grey that can be read on white and on black: a picture by itself can't take the page's colour.
const BY_ITSELF: &str = "<svg color=\"#767676\" ";

pub(super) fn configure(scope: &mut ServiceConfig) {
    scope.service(
        web::resource("/charts/{name}.svg").get(show).default_service(wrong_method("GET")),
    );
}

/// A chart as SVG: throughput, latency, backlog or failures.
#[utoipa::path(
    get,
    path = "/api/admin/v1/charts/{name}.svg",
    tag = "overview",
    params(
        ("name" = String, Path, description = "throughput, latency, backlog or failures"),
        ("window" = Option<String>, Query, description = "15m, 1h (unless given), 6h or 24h"),
    ),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    admin: Data<Admin>,
    name: Path<String>,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let chart: Chart = name
        .parse()
        .map_err(|known| Problem::not_found(format!("there is no chart {:?}; {known}", *name)))?;
    let window = window(&mut params)?;
    params.finish()?;
    let points = points(&admin, window).await?;
    let svg = stats::chart(chart, &points, window).map_err(|error| Problem::internal(&error))?;
    Ok(HttpResponse::Ok()
        .content_type("image/svg+xml")
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(svg.replacen("<svg ", BY_ITSELF, 1)))
}
