//! `GET /overview`: the state of the loop at a glance, from the newest sample; `GET /overview/trend`: its course.

use actix_web::web::{self, Data, Json, ServiceConfig};
use common::clock::Timestamp;
use common::config::MailTransport;
use common::db::{Backend, DbError};
use common::http::{Params, Problem, ProblemResult, wrong_method};
use common::ids::EventId;
use common::telemetry::{BrokerReport, ConsumerReport, TopicReport};
use engine::stats::{
    self, ConsumerSample, Latencies, Partition, Rates, RelayState, Sample, TrendPoint, Window,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Admin;
use crate::access::{Area, Role, Rule};

/// The counts, and when they were taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Overview {
    /// Which service this is.
    pub(crate) service: String,
    /// When the counts were taken.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) as_of: Timestamp,
    /// Events by status.
    pub(crate) events: Events,
    /// How fast events come in and go out; `null` until there are two samples.
    pub(crate) rates: Option<Rates>,
    /// Of the newest 1,000 events that were answered, in seconds.
    pub(crate) latencies: Latencies,
    /// How far the loop is behind; `null` when nothing waits.
    pub(crate) oldest_unacknowledged: Option<OldestUnacknowledged>,
    /// The consumers of the events, and how far behind they are.
    pub(crate) consumers: Vec<Consumer>,
    /// The relay: its instances, and what is paused.
    pub(crate) relay: RelayState,
    /// The connection to the broker, as this instance knows it.
    pub(crate) broker: BrokerReport,
    /// What receives from the broker in this instance.
    pub(crate) receiving: Vec<ConsumerReport>,
    /// The topics that this service writes to, as of the last look; none before the first.
    pub(crate) topics: Vec<TopicReport>,
    /// The database.
    pub(crate) database: Database,
    /// The mails to operators.
    pub(crate) mail: Mail,
    /// Alerts that are not closed.
    pub(crate) alerts_open: i64,
    /// Those of them that are acknowledged.
    pub(crate) alerts_acknowledged: i64,
    /// Those of them that a silence covers now.
    pub(crate) alerts_silenced: i64,
    /// Mails that are not sent yet.
    pub(crate) mails_unsent: i64,
    /// Webhook calls that are not delivered yet.
    pub(crate) webhooks_unsent: i64,
    /// Messages that could not be read and wait for a person.
    pub(crate) dead_letters: i64,
    /// Keys in quarantine.
    pub(crate) quarantined_keys: i64,
    /// Bulk jobs that wait or run.
    pub(crate) jobs_open: i64,
    /// Whether the copy of the other service's states here is complete; left out where there is none. Until it is,
    /// orders for what it does not know are answered 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) copy_complete: Option<bool>,
}

/// Events by status; RESOLVED ones are EXHAUSTED, but need no action.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = OverviewEvents)]
pub(crate) struct Events {
    /// They wait to be sent.
    pub(crate) pending: i64,
    /// The broker has them; no answer yet.
    pub(crate) sent: i64,
    /// They wait for a person.
    pub(crate) exhausted: i64,
    /// They gave up, and somebody or a newer version resolved them.
    pub(crate) resolved: i64,
    /// They were answered for good, in total.
    pub(crate) processed: i64,
}

/// The oldest event that is PENDING or SENT.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OldestUnacknowledged {
    /// Which.
    #[schema(value_type = String, format = "uuid")]
    pub(crate) id: EventId,
    /// What it is about.
    pub(crate) key: String,
    /// When it was committed.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// How long ago that was.
    pub(crate) age_seconds: f64,
}

/// A consumer of a topic's events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OverviewConsumer)]
pub(crate) struct Consumer {
    /// Who.
    pub(crate) name: String,
    /// Whether events wait for its answers.
    pub(crate) required: bool,
    /// Its topic.
    pub(crate) topic: String,
    /// Events that were sent and not answered.
    pub(crate) waiting: i64,
    /// Events that it failed and has not taken since, up to 10,000; counted where there are several consumers.
    pub(crate) failed: i64,
    /// How long ago the oldest of those was sent.
    pub(crate) behind_seconds: f64,
    /// Partitions that give no answers.
    pub(crate) silent_partitions: usize,
    /// How far each partition is.
    pub(crate) partitions: Vec<Partition>,
}

/// The database.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OverviewDatabase)]
pub(crate) struct Database {
    /// `postgres` or `sqlite`.
    pub(crate) backend: &'static str,
    /// How long counting took; it takes at most a twentieth of the time.
    pub(crate) sample_seconds: f64,
}

/// The mails to operators.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OverviewMail)]
pub(crate) struct Mail {
    /// `smtp`, `file`, `memory` or `off`.
    #[schema(value_type = String)]
    pub(crate) transport: MailTransport,
    /// Mails that are not sent yet.
    pub(crate) unsent: i64,
    /// Why the one that is due first has not.
    pub(crate) last_error: Option<String>,
}

/// The loop's trend.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrendAnswer {
    /// How far back it goes: `15m`, `1h`, `6h` or `24h`.
    window: &'static str,
    /// Oldest first, at most 240.
    points: Vec<TrendPoint>,
}

impl Overview {
    /// What `sample` and the engine say now.
    pub(crate) fn of(admin: &Admin, sample: &Sample) -> Self {
        let oldest = sample.oldest.as_ref().map(|oldest| OldestUnacknowledged {
            id: oldest.id,
            key: oldest.key.clone(),
            since: oldest.since,
            age_seconds: sample.oldest_age().as_secs_f64(),
        });
        Self {
            service: admin.settings.service.name.clone(),
            as_of: sample.as_of,
            events: Events {
                pending: sample.pending,
                sent: sample.sent,
                exhausted: sample.exhausted,
                resolved: sample.resolved,
                processed: sample.totals.processed,
            },
            rates: sample.rates,
            latencies: sample.latencies,
            oldest_unacknowledged: oldest,
            consumers: sample
                .consumers
                .iter()
                .map(|one| Consumer::of(admin, sample, one))
                .collect(),
            relay: sample.relay.clone(),
            broker: admin.broker.describe(),
            receiving: admin.broker.consumers(),
            topics: admin.broker.topics(),
            database: Database::of(admin, sample),
            mail: Mail {
                transport: admin.settings.mail.transport,
                unsent: sample.mails_unsent,
                last_error: sample.mail_error.clone(),
            },
            alerts_open: sample.alerts.open,
            alerts_acknowledged: sample.alerts.acknowledged,
            alerts_silenced: sample.alerts.silenced,
            mails_unsent: sample.mails_unsent,
            webhooks_unsent: sample.webhooks_unsent,
            dead_letters: sample.dead_letters,
            quarantined_keys: sample.quarantined,
            jobs_open: sample.jobs_open,
            copy_complete: sample.copy_complete,
        }
    }

    /// The newest state; the first time somebody asks, it is counted now.
    ///
    /// # Errors
    /// When nothing was counted yet and the database can't be read.
    pub(crate) async fn newest(admin: &Admin) -> ProblemResult<Self> {
        let sample = admin.sampler.newest_or_first(&admin.db, &admin.env).await?;
        Ok(Self::of(admin, &sample))
    }
}

impl Consumer {
    fn of(admin: &Admin, sample: &Sample, one: &ConsumerSample) -> Self {
        let silent = one.partitions.iter().filter(|partition| partition.silent_since.is_some());
        Self {
            name: one.name.clone(),
            required: one.required,
            topic: admin.sampler.topic().to_owned(),
            waiting: one.waiting(),
            failed: one.failed,
            behind_seconds: sample.lag_of_consumer(one).as_secs_f64(),
            silent_partitions: silent.count(),
            partitions: one.partitions.clone(),
        }
    }
}

impl Database {
    fn of(admin: &Admin, sample: &Sample) -> Self {
        Self {
            backend: match admin.db.backend() {
                Backend::Postgres => "postgres",
                Backend::Sqlite => "sqlite",
            },
            sample_seconds: sample.took.as_secs_f64(),
        }
    }
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/overview", Role::Viewer, Area::Overview),
    Rule::new("GET", "/overview/trend", Role::Viewer, Area::Overview),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let overview = web::resource("/overview").get(show).default_service(wrong_method("GET"));
    let trend = web::resource("/overview/trend").get(trend).default_service(wrong_method("GET"));
    scope.service(overview).service(trend);
}

/// The state of the loop at a glance: counts, rates, latencies and the state of the parts.
///
/// The counts are taken in the background, about every second; `as_of` says when.
#[utoipa::path(
    get,
    path = "/api/admin/v1/overview",
    tag = "overview",
    responses(
        (status = 200, body = Overview),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>, params: Params) -> ProblemResult<Json<Overview>> {
    params.finish()?;
    Overview::newest(&admin).await.map(Json)
}

/// The loop's trend over the last 15 minutes to 24 hours, in up to 240 points.
#[utoipa::path(
    get,
    path = "/api/admin/v1/overview/trend",
    tag = "overview",
    params(("window" = Option<String>, Query, description = "15m, 1h (unless given), 6h or 24h")),
    responses(
        (status = 200, body = TrendAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn trend(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<TrendAnswer>> {
    let window = window(&mut params)?;
    params.finish()?;
    let points = points(&admin, window).await?;
    Ok(Json(TrendAnswer { window: window.name(), points }))
}

/// The parameter `window`.
///
/// # Errors
/// 422 when there is no such window.
pub(crate) fn window(params: &mut Params) -> ProblemResult<Window> {
    Ok(params.take("window", "a window")?.unwrap_or_default())
}

/// The points of `window` up to now.
///
/// # Errors
/// When the database can't be read.
pub(crate) async fn points(admin: &Admin, window: Window) -> ProblemResult<Vec<TrendPoint>> {
    let now = admin.env.now();
    let read = admin.db.read::<_, DbError>(move |conn| Ok(stats::points(conn, now, window)?));
    Ok(read.await?)
}
