//! The files of what proves and mends copies: verifications, the jobs and fillings that send states, lost commands.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use common::db::Conn;
use common::http::{Params, Problem, ProblemResult};
use common::ids::EventId;
use engine::lost;

use super::{Export, ExportQuery, File, resource};
use crate::access::{Area, Caller, Role, Rule};
use crate::api::Admin;
use crate::api::bootstraps::FillingItem;
use crate::api::lost_commands::LostItem;
use crate::api::resyncs::{ResyncItem, SkippedKey, resync_number};
use crate::api::verifications::{Asked, DifferenceItem, VerificationItem};

/// What its routes ask for.
pub(in crate::api) const RULES: &[Rule] = &[
    Rule::new("GET", "/verifications/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/verifications/{seq}/differences/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/resyncs/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/resyncs/{seq}/skipped/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/bootstraps/export", Role::Viewer, Area::Events),
    Rule::new("GET", "/lost-commands/export", Role::Viewer, Area::Events),
];

pub(in crate::api) fn configure(scope: &mut ServiceConfig) {
    scope
        .service(resource("/verifications/export").get(verifications))
        .service(resource("/verifications/{seq}/differences/export").get(verification_differences))
        .service(resource("/resyncs/export").get(resyncs))
        .service(resource("/resyncs/{seq}/skipped/export").get(resync_skipped))
        .service(resource("/bootstraps/export").get(bootstraps))
        .service(resource("/lost-commands/export").get(lost_commands));
}

/// Verifications as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/verifications/export",
    tag = "verification",
    params(ExportQuery, ("consumer" = Option<String>, Query, description = "Only those of this consumer")),
    responses(
        (status = 200, response = File),
        (status = 404, description = "This service owns nothing; the answer says which one does", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn verifications(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("verifications", &mut params)?;
    let consumer = params.text("consumer");
    params.finish()?;
    admin.verifier()?;
    let page = move |conn: &mut Conn, after, limit| {
        VerificationItem::page(conn, consumer.as_deref(), after, limit)
    };
    export.run(&admin, by, page).await
}

/// The keys that a verification found to differ, as a file
#[utoipa::path(
    get,
    path = "/api/admin/v1/verifications/{seq}/differences/export",
    tag = "verification",
    params(ExportQuery, ("seq" = String, Path, description = "The verification's number, or `latest`"), ("waiting" = Option<bool>, Query, description = "true: instead of them, the keys whose events were open at its end")),
    responses((status = 200, response = File))
)]
async fn verification_differences(
    admin: Data<Admin>,
    by: Caller,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("differences", &mut params)?;
    let asked = Asked::parse(&seq)?;
    let waiting = params.take("waiting", "true or false")?.unwrap_or(false);
    params.finish()?;
    admin.verifier()?;
    // Which one is the latest may change while the file is written.
    let asked = admin.db.read(move |conn| asked.find(conn)).await?.seq;
    let page = move |conn: &mut Conn, after: Option<String>, limit| {
        let after = after.unwrap_or_default();
        DifferenceItem::page(conn, Asked::Number(asked), waiting, &after, limit)
    };
    export.run(&admin, by, page).await
}

/// Jobs that send states again, as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/resyncs/export",
    tag = "verification",
    params(ExportQuery),
    responses(
        (status = 200, response = File),
        (status = 404, description = "This service owns nothing; the answer says which one does", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn resyncs(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("resyncs", &mut params)?;
    params.finish()?;
    admin.verifier()?;
    export.run(&admin, by, ResyncItem::page).await
}

/// The keys that a job left as they are, as a file
#[utoipa::path(
    get,
    path = "/api/admin/v1/resyncs/{seq}/skipped/export",
    tag = "verification",
    params(ExportQuery, ("seq" = String, Path, description = "The job's number")),
    responses((status = 200, response = File))
)]
async fn resync_skipped(
    admin: Data<Admin>,
    by: Caller,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("resync-skipped", &mut params)?;
    let job = resync_number(&seq)?;
    params.finish()?;
    admin.verifier()?;
    let page = move |conn: &mut Conn, after: Option<String>, limit| {
        SkippedKey::page(conn, job, &after.unwrap_or_default(), limit)
    };
    export.run(&admin, by, page).await
}

/// Fillings of copies as a file, newest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/bootstraps/export",
    tag = "verification",
    params(ExportQuery),
    responses(
        (status = 200, response = File),
        (status = 404, description = "This service owns nothing that a copy could be filled with", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn bootstraps(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("bootstraps", &mut params)?;
    params.finish()?;
    admin.verifier()?;
    let now = admin.env.now();
    let page = move |conn: &mut Conn, after, limit| FillingItem::page(conn, after, limit, now);
    export.run(&admin, by, page).await
}

/// Commands whose effect was lost with their receiver's backup, as a file, the oldest first
#[utoipa::path(
    get,
    path = "/api/admin/v1/lost-commands/export",
    tag = "verification",
    params(ExportQuery, ("state" = Option<String>, Query, description = "open, again, accepted or obsolete")),
    responses(
        (status = 200, response = File),
        (status = 404, description = "This service sends no commands"),
    )
)]
async fn lost_commands(
    admin: Data<Admin>,
    by: Caller,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let export = Export::of("lost-commands", &mut params)?;
    let state: Option<lost::State> = params.take("state", "a state")?;
    params.finish()?;
    admin.lost()?;
    let page = move |conn: &mut Conn, after: Option<EventId>, limit| {
        LostItem::page(conn, state, after, limit)
    };
    export.run(&admin, by, page).await
}
