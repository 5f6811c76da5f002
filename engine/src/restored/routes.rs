//! `/api/v1/replica/restorations`: a copy that came back from a backup asks its owner for what it misses.

use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::db::Conn;
use common::http::{Problem, ProblemResult, StrictJson, wrong_method};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{self, Restoration, State};
use super::start::{Restorer, Side, StartError};

/// A reason has so many characters at the most.
const REASON: usize = 500;

/// What a copy asks its owner for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestorationRequest {
    /// Whose copy it is: the service that asks.
    pub consumer: String,
    /// Why, in a person's words; 500 characters at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far an owner is with that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestorationView {
    /// Its number at the owner.
    pub seq: String,
    /// Whose copy it is.
    pub consumer: String,
    /// How far it is; `equal`, `different` and `cancelled` are ends.
    pub state: State,
    /// Repairs so far.
    pub rounds: i32,
    /// Keys that differed at the newest verification.
    pub differences: i64,
    /// Why it does not get on.
    pub waits_for: Option<String>,
}

impl From<Restoration> for RestorationView {
    fn from(row: Restoration) -> Self {
        Self {
            seq: row.seq.to_string(),
            consumer: row.service,
            state: row.state,
            rounds: row.rounds,
            differences: row.differences,
            waits_for: row.waits_for,
        }
    }
}

/// What the routes work with; cheap to clone.
#[derive(Clone)]
pub struct Restorations {
    /// The service that answers.
    pub service: String,
    /// What mends its copies, if it owns or copies anything.
    pub restorer: Option<Restorer>,
}

impl Restorations {
    fn owner(&self) -> ProblemResult<&Restorer> {
        let owner = self.restorer.as_ref().filter(|restorer| restorer.side == Side::Owner);
        owner.ok_or_else(|| {
            Problem::not_found(format!("{} owns nothing that a copy could miss", self.service))
        })
    }
}

/// Mounts the routes; for the scope `/api/v1` of every service.
pub fn configure(restorations: Restorations) -> impl FnOnce(&mut ServiceConfig) {
    let restorations = Data::new(restorations);
    move |scope| {
        let all = web::resource("/replica/restorations").post(request);
        let one = web::resource("/replica/restorations/{seq}").get(show);
        scope
            .service(all.default_service(wrong_method("POST")).app_data(restorations.clone()))
            .service(one.default_service(wrong_method("GET")).app_data(restorations));
    }
}

/// A copy that came back from a backup asks for what it misses: it is verified and repaired in the background.
///
/// One that is under way for it goes on.
#[utoipa::path(
    post, path = "/api/v1/replica/restorations", tag = "replica",
    request_body = RestorationRequest,
    responses(
        (status = 200, body = RestorationView),
        (status = 404, description = "This service owns nothing that a copy could miss, or there is no such restoration"),
        (status = 409, description = "The database of this service is behind itself"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn request(
    restorations: Data<Restorations>,
    body: StrictJson<RestorationRequest>,
) -> ProblemResult<Json<RestorationView>> {
    let restorer = restorations.owner()?.clone();
    let RestorationRequest { consumer, reason } = body.value;
    if !restorer.consumers.contains(&consumer) {
        let known = restorer.consumers.join(", ");
        let detail = format!(
            "no setting says where {consumer:?} can be asked (consumers.NAME.url); known: {known}"
        );
        return Err(Problem::invalid("consumer", detail));
    }
    if reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > REASON || reason.contains('\0'))
    {
        let detail = format!("a reason has {REASON} characters at the most, and no U+0000");
        return Err(Problem::invalid("reason", detail));
    }
    let starter = restorer.clone();
    let start = move |conn: &mut Conn| {
        starter.start_for(conn, &consumer, reason).map_err(|error| match error {
            StartError::Query(error) => error.into(),
            other => Problem::conflict("owner-is-behind", other.to_string()),
        })
    };
    let row = restorer.db.write(start).await?;
    restorer.wake();
    Ok(Json(row.into()))
}

/// How far that is.
#[utoipa::path(
    get, path = "/api/v1/replica/restorations/{seq}", tag = "replica",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = RestorationView),
        (status = 404, description = "This service owns nothing that a copy could miss, or there is no such restoration"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    restorations: Data<Restorations>,
    seq: Path<String>,
) -> ProblemResult<Json<RestorationView>> {
    let restorer = restorations.owner()?;
    let seq: i64 = seq
        .parse()
        .map_err(|_| Problem::invalid("seq", "a restoration's number is a whole number"))?;
    let found = restorer.db.read(move |conn| Ok::<_, Problem>(model::find(conn, seq)?)).await?;
    let row = found.ok_or_else(|| Problem::not_found(format!("there is no restoration {seq}")))?;
    Ok(Json(row.into()))
}
