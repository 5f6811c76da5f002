//! `/consumers`: who reads this service's events, who is waited for, and how far each is.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use common::ids::EventId;
use engine::consumers::{self, Consumer, NewConsumer, RegistryError};
use engine::stats::{ConsumerSample, Sample};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};

/// A service that reads this one's events.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Consumer)]
pub(crate) struct ConsumerItem {
    /// What it calls itself in its answers.
    pub(crate) name: String,
    /// Whether events wait for its answers.
    pub(crate) required: bool,
    /// `active` or `retired`.
    pub(crate) state: String,
    /// Whether the settings name it; then they say whether it is required.
    pub(crate) in_settings: bool,
    /// Whether the settings say where it can be asked, so that it can be verified.
    pub(crate) can_be_verified: bool,
    /// The first event that it owes an answer; `null`: all.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub(crate) since_event: Option<EventId>,
    /// When it was registered; `null`: before there was a registry.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) registered_at: Option<Timestamp>,
    /// By whom.
    pub(crate) registered_by: String,
    /// When somebody last made it required or watched, or retired it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) changed_at: Option<Timestamp>,
    /// Who did.
    pub(crate) changed_by: Option<String>,
    /// Why.
    pub(crate) reason: Option<String>,
    /// Whether events that wait for it alone are being settled, since it is asked no more.
    pub(crate) letting_off: bool,
    /// How many were settled without its answer.
    pub(crate) let_off: i64,
    /// Events that were sent, and that it has not answered; as of the last count.
    pub(crate) waiting: i64,
    /// How long ago the oldest of those was sent, in seconds.
    pub(crate) behind_seconds: f64,
    /// Events that it failed and has not taken since, up to 10,000; only counted where there are several consumers.
    pub(crate) failed: i64,
    /// Partitions in which it gives no answers.
    pub(crate) silent_partitions: usize,
}

/// A consumer to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewConsumer)]
pub(crate) struct Register {
    /// What it calls itself in its answers: a letter or digit, and up to 99 letters, digits, dots, dashes and underscores.
    name: String,
    /// Whether events wait for its answers; else it is watched, and never waited for.
    required: bool,
    /// The first event that it owes an answer; left out: the next one. What is PROCESSED already stays so.
    #[schema(value_type = Option<String>, format = "uuid")]
    since_event: Option<EventId>,
    /// Why, in 1 to 500 characters.
    reason: String,
}

/// What is expected of a consumer from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerRole)]
pub(crate) struct SetRole {
    /// Whether events wait for its answers.
    required: bool,
    /// Why, in 1 to 500 characters.
    reason: String,
}

/// Why a consumer is asked no more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RetireConsumer)]
pub(crate) struct Retire {
    /// Why, in 1 to 500 characters.
    reason: String,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/consumers", Role::Viewer, Area::Relay),
    Rule::new("POST", "/consumers", Role::Admin, Area::Relay),
    Rule::new("GET", "/consumers/{name}", Role::Viewer, Area::Relay),
    Rule::new("POST", "/consumers/{name}/role", Role::Admin, Area::Relay),
    Rule::new("POST", "/consumers/{name}/retire", Role::Admin, Area::Relay),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/consumers").get(list).post(register);
    let one = web::resource("/consumers/{name}").get(show);
    let role = web::resource("/consumers/{name}/role").post(set_role);
    let retire = web::resource("/consumers/{name}/retire").post(retire);
    scope
        .service(all.default_service(wrong_method("GET, POST")))
        .service(one.default_service(wrong_method("GET")))
        .service(role.default_service(wrong_method("POST")))
        .service(retire.default_service(wrong_method("POST")));
}

/// Lists the consumers in the order in which they were registered; 100 are asked at the most.
#[utoipa::path(
    get, path = "/api/admin/v1/consumers", tag = "relay",
    params(PageQuery),
    responses(
        (status = 200, body = Page<ConsumerItem>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<ConsumerItem>>> {
    let (limit, after) = (params.limit()?, params.text("after"));
    params.finish()?;
    let known = Known::of(&admin);
    let page = move |conn: &mut Conn| ConsumerItem::page(conn, &known, after.as_deref(), limit);
    admin.db.read(page).await.map(Json)
}

/// One consumer.
#[utoipa::path(
    get, path = "/api/admin/v1/consumers/{name}", tag = "relay",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = ConsumerItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    admin: Data<Admin>,
    name: Path<String>,
    params: Params,
) -> ProblemResult<Json<ConsumerItem>> {
    params.finish()?;
    let all = ConsumerItem::all(&admin).await?;
    let found = all.into_iter().find(|one| one.name == *name);
    found.map(Json).ok_or_else(|| problem(RegistryError::Unknown(name.into_inner())))
}

/// Registers a consumer, or one anew that was retired. A required one owes an answer to each event from now on.
#[utoipa::path(
    post, path = "/api/admin/v1/consumers", tag = "relay",
    request_body = Register,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, body = ConsumerItem),
        (status = 409, description = "There is such a consumer already, or there are too many"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn register(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Register>,
) -> ProblemResult<HttpResponse> {
    checked_reason(&body.value.reason)?;
    let Register { name, required, since_event, reason } = body.value;
    let change = Change::of(&admin, by, reason, since_event);
    let work = move |conn: &mut Conn| {
        let item = change.register(conn, &name, required)?;
        let location = format!("/api/admin/v1/consumers/{name}");
        Ok(Reply::json(StatusCode::CREATED, &item)?.with_location(location))
    };
    admin.act(key, &body.bytes, work).await
}

/// Makes a consumer required, from the next event on, or watched; then what waits for it alone is settled.
#[utoipa::path(
    post, path = "/api/admin/v1/consumers/{name}/role", tag = "relay",
    request_body = SetRole,
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = ConsumerItem),
        (status = 404, description = "There is no such consumer"),
        (status = 409, description = "The settings say it, it is retired, or it is the only required one"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set_role(
    admin: Data<Admin>,
    name: Path<String>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<SetRole>,
) -> ProblemResult<HttpResponse> {
    checked_reason(&body.value.reason)?;
    let SetRole { required, reason } = body.value;
    let change = Change::of(&admin, by, reason, None);
    let work = move |conn: &mut Conn| {
        Reply::json(StatusCode::OK, &change.set_role(conn, &name, required)?)
    };
    admin.act(key, &body.bytes, work).await
}

/// Retires a consumer: it is asked no more, and what waits for it alone is settled, with a line in each event's history.
#[utoipa::path(
    post, path = "/api/admin/v1/consumers/{name}/retire", tag = "relay",
    request_body = Retire,
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = ConsumerItem),
        (status = 404, description = "There is no such consumer"),
        (status = 409, description = "It is retired already, or the only required one"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retire(
    admin: Data<Admin>,
    name: Path<String>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Retire>,
) -> ProblemResult<HttpResponse> {
    checked_reason(&body.value.reason)?;
    let change = Change::of(&admin, by, body.value.reason, None);
    let work = move |conn: &mut Conn| Reply::json(StatusCode::OK, &change.retire(conn, &name)?);
    admin.act(key, &body.bytes, work).await
}

/// A change of the registry that somebody asks for.
pub(crate) struct Change {
    by: Caller,
    now: Timestamp,
    since: EventId,
    reason: String,
    known: Known,
}

/// What is known of consumers beside their rows.
#[derive(Clone)]
pub(crate) struct Known {
    settings: Arc<common::config::Settings>,
    sample: Option<Arc<Sample>>,
}

impl Change {
    /// One by `by`; `since` is the event from which on an answer is owed, the next one unless given.
    pub(crate) fn of(admin: &Admin, by: Caller, reason: String, since: Option<EventId>) -> Self {
        let since = since.unwrap_or_else(|| admin.env.event_id());
        Self { by, now: admin.env.now(), since, reason, known: Known::of(admin) }
    }

    /// Registers `name`.
    ///
    /// # Errors
    /// 409 when there is such a consumer, 422 when that is no name.
    pub(crate) fn register(
        &self,
        conn: &mut Conn,
        name: &str,
        required: bool,
    ) -> ProblemResult<ConsumerItem> {
        let reason = Some(self.reason.as_str());
        let new = NewConsumer { name, role: role(required), since: self.since, reason };
        let row = consumers::register(conn, &new, self.now, &self.by.name).map_err(problem)?;
        self.note(conn, "consumer.register", row)
    }

    /// Makes `name` required or watched.
    ///
    /// # Errors
    /// 404 when there is none, 409 when the settings say it or it is the only required one.
    pub(crate) fn set_role(
        &self,
        conn: &mut Conn,
        name: &str,
        required: bool,
    ) -> ProblemResult<ConsumerItem> {
        if self.known.settings.consumers.contains_key(name) {
            let detail = format!(
                "the settings say whether {name} is required; change consumers.{name}.required there and restart"
            );
            return Err(Problem::conflict("in-settings", detail));
        }
        let why = (self.now, self.by.name.as_str(), Some(self.reason.as_str()));
        let first = self.known.settings.kafka.outbound_consumer.as_str();
        let row = consumers::set_role(conn, (name, first), role(required), self.since, why)
            .map_err(problem)?;
        self.note(conn, "consumer.role", row)
    }

    /// Retires `name`.
    ///
    /// # Errors
    /// 404 when there is none, 409 when it is the only required one.
    pub(crate) fn retire(&self, conn: &mut Conn, name: &str) -> ProblemResult<ConsumerItem> {
        let why = (self.now, self.by.name.as_str(), Some(self.reason.as_str()));
        let first = &self.known.settings.kafka.outbound_consumer;
        let row = consumers::retire(conn, name, first, why).map_err(problem)?;
        self.note(conn, "consumer.retire", row)
    }

    fn note(&self, conn: &mut Conn, action: &str, row: Consumer) -> ProblemResult<ConsumerItem> {
        let detail = serde_json::json!({ "required": row.required, "reason": self.reason });
        self.by.note(conn, self.now, action, Some(&row.name), Some(detail))?;
        Ok(self.known.item(row))
    }
}

impl Known {
    /// What this instance knows now.
    pub(crate) fn of(admin: &Admin) -> Self {
        Self { settings: Arc::clone(&admin.settings), sample: admin.sampler.newest() }
    }

    fn item(&self, row: Consumer) -> ConsumerItem {
        let first = self.settings.kafka.outbound_consumer == row.name;
        let named = self.settings.consumers.get(&row.name);
        let counted = self.sample.as_ref().and_then(|sample| {
            let one = sample.consumers.iter().find(|one| one.name == row.name)?;
            Some((one, sample.lag_of_consumer(one)))
        });
        let count = |count: fn(&ConsumerSample) -> i64| counted.map_or(0, |(one, _)| count(one));
        let silent = |one: &ConsumerSample| {
            one.partitions.iter().filter(|partition| partition.silent_since.is_some()).count()
        };
        ConsumerItem {
            required: row.required,
            state: row.state.name().to_owned(),
            in_settings: first || named.is_some(),
            can_be_verified: first || named.is_some_and(|one| !one.url.is_empty()),
            since_event: Some(row.since_id).filter(|id| *id != EventId::NIL),
            registered_at: Some(row.registered_us).filter(|at| at.micros() > 0),
            registered_by: row.registered_by,
            changed_at: row.changed_us,
            changed_by: row.changed_by,
            reason: row.reason,
            letting_off: row.letting_off,
            let_off: row.let_off,
            waiting: count(ConsumerSample::waiting),
            behind_seconds: counted.map_or(0.0, |(_, behind)| behind.as_secs_f64()),
            failed: count(|one| one.failed),
            silent_partitions: counted.map_or(0, |(one, _)| silent(one)),
            name: row.name,
        }
    }
}

impl ConsumerItem {
    /// All of them.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) async fn all(admin: &Admin) -> ProblemResult<Vec<Self>> {
        let known = Known::of(admin);
        let read = admin.db.read(move |conn| Self::take(conn, &known).map_err(Problem::from));
        read.await
    }

    /// Up to `limit` of those behind `after`.
    ///
    /// # Errors
    /// 422 when there is none with that name; when the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        known: &Known,
        after: Option<&str>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let mut items = Self::take(conn, known)?;
        if let Some(after) = after {
            let place = items.iter().position(|one| one.name == after);
            let place =
                place.ok_or_else(|| Problem::invalid("after", "it is no `next` of a page"))?;
            items.drain(..=place);
        }
        Ok(Page::cut(items, limit, |one: &Self| one.name.clone()))
    }

    fn take(conn: &mut Conn, known: &Known) -> diesel::QueryResult<Vec<Self>> {
        let rows = consumers::list(conn, &known.settings.kafka.outbound_consumer)?;
        Ok(rows.into_iter().map(|row| known.item(row)).collect())
    }
}

fn role(required: bool) -> consumers::Role {
    match required {
        true => consumers::Role::Required,
        false => consumers::Role::Watched,
    }
}

fn problem(error: RegistryError) -> Problem {
    let detail = error.to_string();
    match error {
        RegistryError::BadName(_) => Problem::invalid("name", detail),
        RegistryError::Unknown(_) => Problem::not_found(detail),
        RegistryError::Query(error) => Problem::from(error),
        RegistryError::Known(_) => Problem::conflict("known", detail),
        RegistryError::Retired(_) => Problem::conflict("retired", detail),
        RegistryError::LastRequired(_) => Problem::conflict("last-required", detail),
        RegistryError::Full | RegistryError::Settling => Problem::conflict("too-many", detail),
    }
}
