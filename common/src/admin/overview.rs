//! `GET /overview`: the state of the loop at a glance, from the newest sample.

use actix_web::web::{self, Data, Json, ServiceConfig};
use serde::Serialize;

use super::Admin;
use crate::access::{Area, Role, Rule};
use crate::clock::Timestamp;
use crate::http::{Params, ProblemResult, wrong_method};
use crate::ids::EventId;
use crate::stats::Sample;

/// The counts, and when they were true.
#[derive(Debug, Serialize)]
struct Overview {
    as_of: Timestamp,
    events: Events,
    oldest_unacknowledged: Option<OldestUnacknowledged>,
    alerts_open: i64,
    mails_unsent: i64,
    dead_letters: i64,
    quarantined_keys: i64,
}

/// Events by status; RESOLVED ones are EXHAUSTED, but wait for nobody.
#[derive(Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Events {
    pending: i64,
    sent: i64,
    exhausted: i64,
    resolved: i64,
    processed: i64,
}

#[derive(Debug, Serialize)]
struct OldestUnacknowledged {
    id: EventId,
    key: String,
    since: Timestamp,
    age_seconds: f64,
}

impl From<&Sample> for Overview {
    fn from(sample: &Sample) -> Self {
        let oldest = sample.oldest.as_ref().map(|oldest| OldestUnacknowledged {
            id: oldest.id,
            key: oldest.key.clone(),
            since: oldest.since,
            age_seconds: sample.oldest_age().as_secs_f64(),
        });
        Self {
            as_of: sample.as_of,
            events: Events {
                pending: sample.pending,
                sent: sample.sent,
                exhausted: sample.exhausted,
                resolved: sample.resolved,
                processed: sample.processed,
            },
            oldest_unacknowledged: oldest,
            alerts_open: sample.alerts_open,
            mails_unsent: sample.mails_unsent,
            dead_letters: sample.dead_letters,
            quarantined_keys: sample.quarantined,
        }
    }
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/overview", Role::Viewer, Area::Overview)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let overview = web::resource("/overview").get(show).default_service(wrong_method("GET"));
    scope.service(overview);
}

async fn show(admin: Data<Admin>, params: Params) -> ProblemResult<Json<Overview>> {
    params.finish()?;
    let sample = admin.engine.sampler.newest_or_first(&admin.engine.db, &admin.engine.env).await?;
    Ok(Json(Overview::from(&*sample)))
}
