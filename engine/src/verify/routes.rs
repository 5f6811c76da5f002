//! `/api/v1/replica`: what a service has of a collection, for the other service that compares.

use std::time::Duration;

use actix_web::web::{self, Data, Json, ServiceConfig};
use common::db::Db;
use common::env::Env;
use common::http::{Problem, ProblemResult, StrictJson, wrong_method};

use super::replica::{Collection, Range};
use super::side::{Local, Side, SideError};
use super::terms::surely_known;
use super::wire::{
    DigestAnswer, DigestRequest, KeySet, MAX_KEY, MAX_RANGES, MAX_ROWS, MAX_STATES, PROTOCOL,
    ReplicaInfo, StatesAnswer, StatesRequest, Terms,
};

/// What the routes work with; cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    /// The service that answers.
    pub service: String,
    /// Its database.
    pub db: Db,
    /// Time.
    pub env: Env,
    /// How long it knows removed keys.
    pub tombstones: Duration,
    /// What it holds.
    pub collection: Option<Collection>,
}

/// Mounts the routes; for the scope `/api/v1` of every service.
pub fn configure(replicas: Replicas) -> impl FnOnce(&mut ServiceConfig) {
    let replicas = Data::new(replicas);
    move |scope| {
        let about = web::resource("/replica").get(info).default_service(wrong_method("GET"));
        let ranges = web::resource("/replica/digests").post(digests);
        let keys = web::resource("/replica/states").post(states);
        scope
            .service(about.app_data(replicas.clone()))
            .service(ranges.default_service(wrong_method("POST")).app_data(replicas.clone()))
            .service(keys.default_service(wrong_method("POST")).app_data(replicas));
    }
}

impl Replicas {
    fn local(&self) -> ProblemResult<Local> {
        let collection = self.collection.as_ref().ok_or_else(|| {
            Problem::not_found(format!(
                "{} holds no collection that could be compared",
                self.service
            ))
        })?;
        let since = surely_known(self.env.now(), self.tombstones);
        Ok(Local::of(&self.service, &self.db, collection.replica(), since))
    }

    /// The own side, if it can answer on these terms.
    fn on(&self, terms: &Terms) -> ProblemResult<Local> {
        let local = self.local()?;
        if terms.protocol != PROTOCOL {
            let (theirs, service) = (terms.protocol, &self.service);
            let detail = format!("{service} compares by version {PROTOCOL}, not {theirs}");
            return Err(Problem::invalid("protocol", detail));
        }
        if terms.collection != local.replica.collection() {
            let detail = format!("{} holds {:?}", self.service, local.replica.collection());
            return Err(Problem::invalid("collection", detail));
        }
        let fields = &terms.fields;
        if fields
            .iter()
            .enumerate()
            .any(|(place, field)| fields.iter().take(place).any(|one| one == field))
        {
            return Err(Problem::invalid("fields", "each field is asked for once"));
        }
        let unknown = |field: &&String| !local.replica.fields().contains(&field.as_str());
        match terms.fields.iter().find(unknown) {
            Some(field) => {
                Err(Problem::invalid("fields", format!("there is no field {field:?} here")))
            }
            None => Ok(local),
        }
    }
}

/// What this service has of the collection that it owns or copies.
#[utoipa::path(
    get, path = "/api/v1/replica", tag = "replica",
    responses(
        (status = 200, body = ReplicaInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn info(replicas: Data<Replicas>) -> ProblemResult<Json<ReplicaInfo>> {
    replicas.local()?.info().await.map(Json).map_err(problem)
}

/// The digests of ranges of keys, which the other service compares with its own.
#[utoipa::path(
    post, path = "/api/v1/replica/digests", tag = "replica",
    request_body = DigestRequest,
    responses(
        (status = 200, body = DigestAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn digests(
    replicas: Data<Replicas>,
    request: StrictJson<DigestRequest>,
) -> ProblemResult<Json<DigestAnswer>> {
    let DigestRequest { terms, ranges, at_most } = request.value;
    let local = replicas.on(&terms)?;
    if ranges.is_empty() || ranges.len() > MAX_RANGES {
        return Err(Problem::invalid("ranges", format!("ask for 1 to {MAX_RANGES} ranges")));
    }
    let ranges_asked = i64::try_from(ranges.len()).unwrap_or(i64::MAX);
    if at_most.saturating_mul(ranges_asked) > MAX_ROWS {
        let detail = format!("at_most is {MAX_ROWS} for all ranges together at the most");
        return Err(Problem::invalid("at_most", detail));
    }
    ranges.iter().try_for_each(|range| checked_range(range, "ranges"))?;
    let digests = local.digests(&terms, &ranges, at_most).await.map_err(problem)?;
    Ok(Json(DigestAnswer { protocol: PROTOCOL, digests }))
}

/// The states of keys in short, where ranges differ.
#[utoipa::path(
    post, path = "/api/v1/replica/states", tag = "replica",
    request_body = StatesRequest,
    responses(
        (status = 200, body = StatesAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn states(
    replicas: Data<Replicas>,
    request: StrictJson<StatesRequest>,
) -> ProblemResult<Json<StatesAnswer>> {
    let StatesRequest { terms, of } = request.value;
    let local = replicas.on(&terms)?;
    match &of {
        KeySet::Range(range) => checked_range(range, "of.range")?,
        KeySet::Keys(keys) if keys.is_empty() || keys.len() > MAX_STATES => {
            return Err(Problem::invalid("of.keys", format!("ask for 1 to {MAX_STATES} keys")));
        }
        KeySet::Keys(keys) => keys.iter().try_for_each(|key| checked_key(key, "of.keys"))?,
    }
    let (states, more) = local.states(&terms, &of).await.map_err(problem)?;
    Ok(Json(StatesAnswer { protocol: PROTOCOL, states, more }))
}

fn checked_range(range: &Range, field: &str) -> ProblemResult<()> {
    let ends = [&range.after, &range.up_to];
    ends.into_iter().flatten().try_for_each(|key| checked_key(key, field))
}

/// No key is longer, and none holds what a database can't be asked for.
fn checked_key(key: &str, field: &str) -> ProblemResult<()> {
    match key {
        key if key.len() > MAX_KEY => {
            Err(Problem::invalid(field, format!("a key has {MAX_KEY} bytes at the most")))
        }
        key if key.contains('\0') => Err(Problem::invalid(field, "a key holds no U+0000")),
        _ => Ok(()),
    }
}

fn problem(error: SideError) -> Problem {
    match error {
        SideError::Database(error) => error.into(),
        other => Problem::internal(&other),
    }
}
