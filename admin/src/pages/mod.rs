//! The operators' page under `/admin`; both services mount it.
//!
//! Plain HTML, made on the server: every page can be read and every action be done without JavaScript, which only
//! adds live numbers, local times and keys. The pages call the functions that the REST routes call, not HTTP.

mod account;
mod alerts;
mod assets;
mod audit;
mod bulk_jobs;
mod context;
mod dead_letters;
mod events;
mod failure;
mod flash;
mod form;
mod json;
mod login;
mod lost_commands;
mod overview;
mod proof;
mod purchases;
mod relay;
mod restored;
mod show;
#[cfg(test)]
mod tests;
mod tokens;
mod users;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use common::http::{Problem, page_headers, unknown_route};

use crate::access::{RouteModule, Rules};
use crate::api::Admin;

/// Every route of `/admin` and what it asks for.
pub const RULES: Rules = Rules {
    scope: "/admin",
    modules: &[
        RouteModule::new(assets::RULES, assets::configure),
        RouteModule::new(login::RULES, login::configure),
        RouteModule::new(account::RULES, account::configure),
        RouteModule::new(overview::RULES, overview::configure),
        RouteModule::new(events::RULES, events::configure),
        RouteModule::new(bulk_jobs::RULES, bulk_jobs::configure),
        RouteModule::new(proof::RULES, proof::configure),
        RouteModule::new(restored::RULES, restored::configure),
        RouteModule::new(lost_commands::RULES, lost_commands::configure),
        RouteModule::new(alerts::RULES, alerts::configure),
        RouteModule::new(dead_letters::RULES, dead_letters::configure),
        RouteModule::new(relay::RULES, relay::configure),
        RouteModule::new(purchases::RULES, purchases::configure),
        RouteModule::new(users::RULES, users::configure),
        RouteModule::new(tokens::RULES, tokens::configure),
        RouteModule::new(audit::RULES, audit::configure),
    ],
};

/// Mounts `/admin` behind its guard; for `App::configure`.
pub fn configure(admin: Admin) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        let guard = admin.guard.clone();
        let scope = web::scope(RULES.scope)
            .app_data(web::Data::new(admin))
            .configure(|scope| RULES.mount(scope))
            .default_service(web::to(unknown_route))
            .wrap(from_fn(failure::dress))
            .wrap(from_fn(move |request, next| {
                guard.clone().check(RULES, failure::refuse, request, next)
            }));
        app.service(scope.wrap(from_fn(page_headers)));
    }
}

/// 405, as a page: the default service of every resource.
async fn wrong_method() -> Result<&'static str, Problem> {
    Err(Problem::method_not_allowed())
}
