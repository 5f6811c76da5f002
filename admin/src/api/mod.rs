//! What operators see and do, under `/api/admin/v1`; both services mount it.
//!
//! Lists are read from the tables with keyset paging; counts come from the newest [`engine::stats::Sample`], so that no
//! request counts millions of rows.

pub(crate) mod alerts;
mod audit;
pub(crate) mod bootstraps;
pub(crate) mod bulk_jobs;
pub(crate) mod charts;
pub(crate) mod consumers;
pub(crate) mod dead_letters;
pub(crate) mod events;
mod export;
pub(crate) mod lost_commands;
mod messages;
mod openapi;
mod operators;
pub(crate) mod overview;
pub(crate) mod problems;
pub(crate) mod quarantine;
pub(crate) mod relay;
pub(crate) mod restored;
pub(crate) mod resyncs;
mod session;
mod silences;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
pub(crate) mod verifications;
pub(crate) mod view;

pub use openapi::openapi;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, ResponseError};
use common::config::Settings;
use common::db::{Conn, Db};
use common::env::Env;
use common::http::KeysInProgress;
use common::http::{
    IdempotencyKey, Problem, ProblemResult, Reply, answered, api_headers, idempotent, unknown_route,
};
use common::telemetry::BrokerState;
use engine::Engine;
use engine::alerts::Alerts;
use engine::bootstrap::Bootstrap;
use engine::bulk::Bulk;
use engine::kafka::Producer;
use engine::lost::Lost;
use engine::outbox::Outbox;
use engine::peer::Peer;
use engine::restored::Restorer;
use engine::resync::Resync;
use engine::stats::Sampler;
use engine::verify::{Remote, Verifier};
use engine::views::ViewCopy;
use tokio_util::sync::CancellationToken;

use crate::access::{Guard, RouteModule, Rules};

/// What the operators' routes and pages work on; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    pub(crate) settings: Arc<Settings>,
    pub(crate) env: Env,
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) alerts: Alerts,
    pub(crate) bulk: Bulk,
    /// What compares consumers with what this service owns; none where it owns nothing.
    pub(crate) verifier: Option<Verifier>,
    /// The consumers that can be asked what they have.
    pub(crate) remotes: Arc<BTreeMap<String, Remote>>,
    pub(crate) resync: Resync,
    /// What mends a database that came back from a backup, where there is a copy.
    pub(crate) restorer: Option<Restorer>,
    /// What finds and settles lost commands; none where it sends none.
    pub(crate) lost: Option<Lost>,
    /// What fills copies that are not complete; none where it owns nothing.
    pub(crate) bootstrap: Option<Bootstrap>,
    /// The copy of a view, if it keeps one.
    pub(crate) view: Option<ViewCopy>,
    pub(crate) sampler: Sampler,
    pub(crate) broker: BrokerState,
    pub(crate) producer: Producer,
    pub(crate) peer: Peer,
    pub(crate) keys: KeysInProgress,
    pub(crate) stopping: CancellationToken,
    pub(crate) guard: Guard,
}

impl Admin {
    /// The operators' side of `engine`, behind `guard`.
    pub fn new(engine: &Engine, guard: Guard) -> Self {
        Self {
            settings: Arc::clone(&engine.settings),
            env: engine.env.clone(),
            db: engine.db.clone(),
            outbox: engine.outbox.clone(),
            alerts: engine.alerts.clone(),
            bulk: engine.bulk.clone(),
            verifier: engine.verifier.clone(),
            remotes: Arc::clone(&engine.remotes),
            resync: engine.resync.clone(),
            restorer: engine.restorer.clone(),
            lost: engine.lost.clone(),
            bootstrap: engine.bootstrap.clone(),
            view: engine.view.clone(),
            sampler: engine.sampler.clone(),
            broker: engine.broker.clone(),
            producer: engine.producer.clone(),
            peer: engine.peer.clone(),
            keys: engine.keys.clone(),
            stopping: engine.stopping.clone(),
            guard,
        }
    }

    /// The topic of the view that it keeps a copy of, if any.
    pub(crate) fn view_topic(&self) -> Option<&str> {
        self.view.as_ref().map(|view| view.topic.as_str())
    }

    /// Runs an action once per `Idempotency-Key`; `work` notes it in the audit log, in the same transaction.
    ///
    /// # Errors
    /// As [`idempotent`].
    pub(crate) async fn act(
        &self,
        key: IdempotencyKey,
        body: &[u8],
        work: impl FnOnce(&mut Conn) -> ProblemResult<Reply> + Send + 'static,
    ) -> ProblemResult<HttpResponse> {
        let Self { db, keys, env, .. } = self;
        Ok(idempotent(db, keys, key, body, env.now(), work).await?.into_response())
    }

    /// What [`Admin::act`] answered to the same request before, for those who ask others before they act.
    ///
    /// # Errors
    /// As [`answered`].
    pub(crate) async fn acted(
        &self,
        key: &IdempotencyKey,
        body: &[u8],
    ) -> ProblemResult<Option<HttpResponse>> {
        Ok(answered(&self.db, key, body).await?.map(Reply::into_response))
    }
}

/// Every route of `/api/admin/v1` and what it asks for.
pub const RULES: Rules = Rules {
    scope: "/api/admin/v1",
    modules: &[
        RouteModule::new(export::lists::RULES, export::lists::configure),
        RouteModule::new(export::proof::RULES, export::proof::configure),
        RouteModule::new(overview::RULES, overview::configure),
        RouteModule::new(charts::RULES, charts::configure),
        RouteModule::new(stream::RULES, stream::configure),
        RouteModule::new(events::RULES, events::configure),
        RouteModule::new(bulk_jobs::RULES, bulk_jobs::configure),
        RouteModule::new(verifications::RULES, verifications::configure),
        RouteModule::new(resyncs::RULES, resyncs::configure),
        RouteModule::new(restored::RULES, restored::configure),
        RouteModule::new(lost_commands::RULES, lost_commands::configure),
        RouteModule::new(bootstraps::RULES, bootstraps::configure),
        RouteModule::new(relay::RULES, relay::configure),
        RouteModule::new(view::RULES, view::configure),
        RouteModule::new(consumers::RULES, consumers::configure),
        RouteModule::new(alerts::RULES, alerts::configure),
        RouteModule::new(silences::RULES, silences::configure),
        RouteModule::new(messages::RULES, messages::configure),
        RouteModule::new(dead_letters::RULES, dead_letters::configure),
        RouteModule::new(quarantine::RULES, quarantine::configure),
        RouteModule::new(session::RULES, session::configure),
        RouteModule::new(operators::RULES, operators::configure),
        RouteModule::new(tokens::RULES, tokens::configure),
        RouteModule::new(audit::RULES, audit::configure),
    ],
};

/// Mounts `/api/admin/v1` behind its guard; for `App::configure`.
pub fn configure(admin: Admin) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        let guard = admin.guard.clone();
        let scope = web::scope(RULES.scope)
            .app_data(web::Data::new(admin))
            .configure(|scope| RULES.mount(scope))
            .default_service(web::to(unknown_route));
        let scope = scope.wrap(from_fn(move |request, next| {
            guard.clone().check(RULES, |_, problem| problem.error_response(), request, next)
        }));
        app.service(scope.wrap(from_fn(api_headers)));
    }
}

/// Checks a text that an operator wrote: 1 to 500 characters that are more than white space.
pub(crate) fn checked_reason(reason: &str) -> Result<(), Problem> {
    match reason.chars().count() {
        1..=500 if !reason.trim().is_empty() => Ok(()),
        _ => Err(Problem::invalid("reason", "a reason has 1 to 500 characters")),
    }
}

/// The number that identifies something, as it is written in addresses and bodies; `whose` as in "an alert's".
fn number(text: &str, field: &str, whose: &str) -> ProblemResult<i64> {
    text.parse().map_err(|_| Problem::invalid(field, format!("{whose} number is a whole number")))
}
