//! `/api/v1/replica`: what a service has of a collection, for the other service that compares.

use std::time::Duration;

use actix_web::web::{self, Data, Json, ServiceConfig};
use common::copy_state;
use common::db::{Conn, Db};
use common::env::Env;
use common::http::{Problem, ProblemResult, StrictJson, wrong_method};

use super::replica::{Collection, Range};
use super::side::{Local, Side, SideError};
use super::terms::surely_known;
use super::wire::{
    CompleteCopy, DigestAnswer, DigestRequest, KeySet, MAX_KEY, MAX_RANGES, MAX_ROWS, MAX_STATES,
    PROTOCOL, ReplicaInfo, StatesAnswer, StatesRequest, Terms,
};

/// The longest id of a copy, in bytes.
const MAX_COPY_ID: usize = 64;

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
        let complete = web::resource("/replica/complete").put(complete);
        scope
            .service(complete.default_service(wrong_method("PUT")).app_data(replicas.clone()))
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

    async fn info(&self) -> ProblemResult<ReplicaInfo> {
        let local = self.local()?;
        let info = match self.collection {
            Some(Collection::Copied(_)) => local.copy_info().await,
            _ => local.info().await,
        };
        info.map_err(problem)
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
    replicas.info().await.map(Json)
}

/// Says that the copy has all that its owner has, by whom it was compared.
///
/// Until then, an order for what the copy does not know is answered 503. To say it again changes nothing.
#[utoipa::path(
    put, path = "/api/v1/replica/complete", tag = "replica",
    request_body = CompleteCopy,
    responses(
        (status = 200, description = "It is complete", body = ReplicaInfo),
        (status = 404, description = "There is no copy here"),
        (status = 409, description = "Another copy is here than the one that was compared"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn complete(
    replicas: Data<Replicas>,
    request: StrictJson<CompleteCopy>,
) -> ProblemResult<Json<ReplicaInfo>> {
    let CompleteCopy { copy_id } = request.value;
    if copy_id.is_empty() || copy_id.len() > MAX_COPY_ID || copy_id.contains('\0') {
        let detail = format!("it has 1 to {MAX_COPY_ID} bytes; GET /api/v1/replica tells it");
        return Err(Problem::invalid("copy_id", detail));
    }
    let (now, service) = (replicas.env.now(), replicas.service.clone());
    let work = move |conn: &mut Conn| {
        let Some(copy) = copy_state::read(conn)? else {
            return Err(Problem::not_found(format!("{service} has no copy of anything")));
        };
        match copy_state::complete(conn, &copy_id, now, "its owner")? {
            true => Ok(copy.is_complete()),
            false => Err(Problem::conflict(
                "other-copy",
                format!("the copy here is {}, not {copy_id}: compare this one", copy.copy_id),
            )),
        }
    };
    if !replicas.db.write(work).await? {
        tracing::info!("the copy is complete");
    }
    replicas.info().await.map(Json)
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
    if at_most < 0 {
        return Err(Problem::invalid("at_most", "a number of rows is not below 0"));
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
