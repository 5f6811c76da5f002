//! What operators see and do, under `/api/admin/v1`; both services mount it.
//!
//! Lists are read from the tables with keyset paging; counts come from the newest [`Sample`], so that no
//! request counts millions of rows.

mod alerts;
mod dead_letters;
mod events;
mod overview;
mod quarantine;
mod sampler;
#[cfg(test)]
pub(crate) mod tests;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};

pub use sampler::{Oldest, PROCESSED_COUNTER, Sample, Sampler};

use crate::db::Db;
use crate::env::Env;
use crate::http::{Access, Problem, Running, unknown_route};
use crate::outbox::Outbox;

/// What the operators' routes work on; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    db: Db,
    env: Env,
    outbox: Outbox,
    sampler: Sampler,
    access: Access,
    /// What a retry adds to an event's budget unless the operator says otherwise.
    more_attempts: i32,
    running: Running,
}

impl Admin {
    /// The routes' state. `more_attempts` is what a retry adds unless told otherwise: the configured
    /// `max_attempts`.
    pub fn new(
        db: Db,
        env: Env,
        outbox: Outbox,
        sampler: Sampler,
        access: Access,
        more_attempts: i32,
    ) -> Self {
        Self { db, env, outbox, sampler, access, more_attempts, running: Running::default() }
    }
}

/// Mounts `/api/admin/v1` behind the admin token; for `App::configure`.
pub fn configure(admin: Admin) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        let access = admin.access.clone();
        let scope = web::scope("/api/admin/v1")
            .app_data(web::Data::new(admin))
            .configure(overview::configure)
            .configure(events::configure)
            .configure(alerts::configure)
            .configure(dead_letters::configure)
            .configure(quarantine::configure)
            .default_service(web::to(unknown_route));
        app.service(scope.wrap(from_fn(move |request, next| access.clone().guard(request, next))));
    }
}

/// Checks a text that an operator wrote: 1 to 500 characters that are more than white space.
fn checked_reason(reason: &str) -> Result<(), Problem> {
    match reason.chars().count() {
        1..=500 if !reason.trim().is_empty() => Ok(()),
        _ => Err(Problem::invalid("reason", "a reason has 1 to 500 characters")),
    }
}
