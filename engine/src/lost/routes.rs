//! `/api/v1/replica/losses` and `/api/v1/replica/received`: what two services tell each other after a restore.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::web::{self, Data, Json, ServiceConfig};
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::env::Env;
use common::http::{Problem, ProblemResult, StrictJson, wrong_method};
use common::ids::EventId;
use common::on;
use common::schema::inbox;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Lost, PAGE};
use crate::retention::{INBOX, forgotten_up_to};

/// A restoration's name has so many characters at the most.
const NAME: usize = 100;

/// A service that came back from a backup tells the one that sends it commands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLoss {
    /// Whose database came back.
    pub service: String,
    /// Which restoration: told again, nothing is begun anew. 1 to 100 characters.
    pub restoration: String,
    /// When that database took something last: all that came before is in it. Left out: not known.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}

/// What is done about it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LossView {
    /// The number of the search for lost commands.
    pub check: String,
}

/// Commands that their sender has as answered.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceivedIds {
    /// 1 to 500 ids of events.
    pub ids: Vec<EventId>,
}

/// Which of them have no effect here.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Received {
    /// The service that answers.
    pub service: String,
    /// Those that this service does not know.
    pub unknown: Vec<EventId>,
    /// It knows all that were made from here on; earlier ones may be forgotten.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub known_from: Option<Timestamp>,
}

/// What the routes work with; cheap to clone.
#[derive(Clone)]
pub struct Losses {
    /// The service that answers.
    pub service: String,
    /// Its database.
    pub db: Db,
    /// Time.
    pub env: Env,
    /// How long it knows what it received; none: it receives nothing.
    pub inbox: Option<Duration>,
    /// What finds its lost commands; none: it sends none.
    pub lost: Option<Lost>,
}

/// Mounts the routes; for the scope `/api/v1` of every service.
pub fn configure(state: Losses) -> impl FnOnce(&mut ServiceConfig) {
    let state = Data::new(state);
    move |scope| {
        let told = web::resource("/replica/losses").post(losses);
        let asked = web::resource("/replica/received").post(received);
        scope
            .service(told.default_service(wrong_method("POST")).app_data(state.clone()))
            .service(asked.default_service(wrong_method("POST")).app_data(state));
    }
}

/// The service that carries out this one's commands came back from a backup: what was lost with it is looked for.
#[utoipa::path(
    post, path = "/api/v1/replica/losses", tag = "replica",
    request_body = NewLoss,
    responses(
        (status = 200, body = LossView),
        (status = 404, description = "This service sends no commands"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn losses(
    state: Data<Losses>,
    body: StrictJson<NewLoss>,
) -> ProblemResult<Json<LossView>> {
    let service = &state.service;
    let lost = state.lost.clone();
    let lost = lost.ok_or_else(|| Problem::not_found(format!("{service} sends no commands")))?;
    let loss = body.value;
    if loss.service != lost.receiver {
        let detail = format!("the commands of {service} are carried out by {}", lost.receiver);
        return Err(Problem::invalid("service", detail));
    }
    let name = &loss.restoration;
    if !(1..=NAME).contains(&name.chars().count()) || name.contains('\0') {
        let detail = format!("a restoration's name has 1 to {NAME} characters, and no U+0000");
        return Err(Problem::invalid("restoration", detail));
    }
    let begin = lost.clone();
    let seq = lost.db.write(move |conn| Ok::<_, Problem>(begin.begin(conn, loss)?)).await?;
    lost.wake();
    Ok(Json(LossView { check: seq.to_string() }))
}

/// Which of some commands this service does not know to have carried out.
#[utoipa::path(
    post, path = "/api/v1/replica/received", tag = "replica",
    request_body = ReceivedIds,
    responses(
        (status = 200, body = Received),
        (status = 404, description = "This service receives nothing"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn received(
    state: Data<Losses>,
    body: StrictJson<ReceivedIds>,
) -> ProblemResult<Json<Received>> {
    let service = state.service.clone();
    let Some(kept) = state.inbox else {
        return Err(Problem::not_found(format!("{service} receives nothing")));
    };
    let ids: BTreeSet<EventId> = body.value.ids.into_iter().collect();
    if !(1..=PAGE).contains(&ids.len()) {
        return Err(Problem::invalid("ids", format!("name 1 to {PAGE} ids of events")));
    }
    let moment = state.env.now().before(kept);
    let answer = move |conn: &mut Conn| {
        let known = known(conn, &ids)?;
        let forgotten = forgotten_up_to(conn, INBOX)?.map(Timestamp::from_micros);
        let known_from = Some(moment).max(forgotten);
        let unknown = ids.into_iter().filter(|id| !known.contains(id)).collect();
        Ok(Json(Received { service, unknown, known_from }))
    };
    state.db.read::<_, Problem>(answer).await
}

fn known(conn: &mut Conn, ids: &BTreeSet<EventId>) -> QueryResult<BTreeSet<EventId>> {
    let found: Vec<EventId> = on!(conn, c => inbox::table
        .filter(inbox::event_id.eq_any(ids))
        .select(inbox::event_id)
        .load(c))?;
    Ok(found.into_iter().collect())
}

#[cfg(test)]
#[path = "tests/routes.rs"]
mod tests;
