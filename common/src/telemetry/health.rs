//! `/health`: whether the process lives, and whether it can serve requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::consumers::{ConsumerReport, ConsumerStatus};
use super::{BrokerReport, BrokerState, LoopStates};
use crate::clock::Timestamp;
use crate::copy_state;
use crate::db::{Db, DbError, MigrationSet};

/// How long the database may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a step of a loop that reports its steps may take: it has been without its leases for a minute by then.
const STUCK: Duration = Duration::from_secs(120);

/// What readiness depends on; cheap to clone.
#[derive(Clone)]
pub struct Health {
    db: Db,
    migrations: Arc<[MigrationSet]>,
    broker: BrokerState,
    loops: LoopStates,
    is_migrated: Arc<AtomicBool>,
}

impl Health {
    /// Ready means: `db` answers and has all of `migrations`, and the `loops` live and get on. The broker and
    /// the consumers are reported only as details, since changes are taken without them.
    pub fn new(
        db: Db,
        migrations: &[MigrationSet],
        broker: BrokerState,
        loops: LoopStates,
    ) -> Self {
        Self { db, migrations: migrations.into(), broker, loops, is_migrated: Arc::default() }
    }

    async fn check(&self) -> Readiness {
        let (database, migrations) = match within(PATIENCE, self.db.ping()).await {
            Ok(()) => (OK.to_owned(), self.check_migrations().await),
            Err(reason) => (reason, "unknown".to_owned()),
        };
        // One that does not answer has made the probe wait already.
        let copy = if database == OK { self.look_at_copy().await } else { None };
        let troubles = self.loops.troubles(STUCK);
        let loops = if troubles.is_empty() { OK.to_owned() } else { troubles.join(", ") };
        let is_ready = database == OK && migrations == OK && loops == OK;
        Readiness {
            status: if is_ready { "ready" } else { "not ready" },
            database,
            migrations,
            loops,
            copy,
            broker: self.broker.describe(),
            consumers: self.broker.consumers().into_iter().map(Receiving::from).collect(),
        }
    }

    /// None in a service without a copy, and as long as the database does not answer.
    async fn look_at_copy(&self) -> Option<&'static str> {
        let read = self.db.read(|conn| Ok::<_, DbError>(copy_state::read(conn)?));
        let state = within(PATIENCE, read).await.ok().flatten()?;
        Some(if state.is_complete() { "complete" } else { "not complete" })
    }

    async fn check_migrations(&self) -> String {
        // Complete once, complete for good: a newer instance that migrates must not stop this one.
        if self.is_migrated.load(Ordering::Relaxed) {
            return OK.to_owned();
        }
        let (db, sets) = (self.db.clone(), Arc::clone(&self.migrations));
        let pending = tokio::task::spawn_blocking(move || db.pending_migrations(&sets));
        let pending = async { pending.await.unwrap_or(Err(DbError::Closed)) };
        match within(PATIENCE, pending).await {
            Ok(pending) if pending.is_empty() => {
                self.is_migrated.store(true, Ordering::Relaxed);
                OK.to_owned()
            }
            Ok(pending) => format!("pending: {}", pending.join(", ")),
            Err(reason) => reason,
        }
    }
}

/// Says of a part that nothing is wrong with it.
const OK: &str = "ok";

/// The answer to a probe. It contains no addresses or users, since it needs no token; the log has those.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `not ready`.
    status: &'static str,
    /// `ok`, or what is wrong.
    database: String,
    /// `ok`, or what is wrong.
    migrations: String,
    /// `ok`, or which of the background loops has ended, or that the relay got nowhere for two minutes.
    loops: String,
    /// `complete` or `not complete`, where the service has a copy of another one's states. One that is not is a detail:
    /// what it knows already is served, and its owner fills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<&'static str>,
    broker: BrokerReport,
    /// What receives from the broker. One that can't is a detail, too: changes are taken, and to restart or leave out
    /// an instance would not mend it.
    consumers: Vec<Receiving>,
}

/// A consumer, without what the broker said: that may have addresses in it.
#[derive(Debug, Serialize, ToSchema)]
struct Receiving {
    /// `inbox` receives the other service's events, `acks` the answers to this service's own, `observer` its own events
    /// where another program sends them, `view` a view's messages.
    consumer: &'static str,
    /// What it receives from.
    topic: String,
    /// The group that it is a member of.
    group: String,
    /// `unknown`, `up` or `down`.
    state: &'static str,
    /// Since when it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// What is wrong, if it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
}

impl From<ConsumerReport> for Receiving {
    fn from(report: ConsumerReport) -> Self {
        let (state, since, problem) = match report.status {
            ConsumerStatus::Unknown => ("unknown", None, None),
            ConsumerStatus::Up => ("up", None, None),
            ConsumerStatus::Down { since, problem, .. } => ("down", Some(since), Some(problem)),
        };
        let ConsumerReport { consumer, topic, group, .. } = report;
        Self { consumer, topic, group, state, since, problem }
    }
}

async fn within<T>(
    patience: Duration,
    check: impl Future<Output = Result<T, DbError>>,
) -> Result<T, String> {
    match tokio::time::timeout(patience, check).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            Err(match error {
                DbError::Unreachable { .. } => "it can't be reached; the log says why",
                DbError::Unusable { .. } | DbError::Pooler(_) | DbError::NotKnown { .. } => {
                    "it can't be used; the log says why"
                }
                DbError::Query(_) => "it refused a statement; the log says why",
                DbError::Busy => "all its connections are in use",
                DbError::Closed => "it is closed, since the service is stopping",
                DbError::Panicked => "the look at it broke off because of a flaw in this program",
            }
            .to_owned())
        }
        Err(_late) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}

/// The answer of a live process.
#[derive(Debug, Serialize, ToSchema)]
struct Liveness {
    /// `live`.
    status: &'static str,
}

/// Whether the process lives: 200 as long as it answers at all, whatever it depends on
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    responses((status = 200, description = "It lives", body = Liveness))
)]
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { status: "live" })
}

/// Whether requests can be served: the database answers and has its whole schema, and the background loops get on
///
/// The broker, and what receives from it, are reported only as details: changes are taken without them.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    responses(
        (status = 200, description = "Requests can be served", body = Readiness),
        (status = 503, description = "They can't be served now", body = Readiness),
    )
)]
pub(super) async fn ready(health: Data<Health>) -> HttpResponse {
    let readiness = health.check().await;
    match readiness.status {
        "ready" => HttpResponse::Ok().json(readiness),
        _ => HttpResponse::ServiceUnavailable().json(readiness),
    }
}
