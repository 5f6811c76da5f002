//! `/restored`: whether this service's database came back from a backup, and how what it misses is mended.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{IdempotencyKey, Problem, ProblemResult, Reply, StrictJson, wrong_method};
use engine::restored::{self, Request, Restoration, Restorer, Side, StartError, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/restored", Role::Viewer, Area::Events),
    Rule::new("POST", "/restored", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/restored").get(show).post(start);
    scope.service(all.default_service(wrong_method("GET, POST")));
}

/// Whether this service's database is behind, and what is done about it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestoredStatus {
    /// Which service this is.
    pub(crate) service: String,
    /// Which side of the loop it is on: that says what is done.
    pub(crate) side: Side,
    /// Whether its database misses what this service has answered or sent, and nobody has had that mended.
    pub(crate) behind: bool,
    /// The newest restoration, under way or not; none if there never was one.
    pub(crate) newest: Option<RestorationItem>,
}

/// A database that came back from a backup.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Restoration)]
pub(crate) struct RestorationItem {
    pub(crate) seq: String,
    /// How far it is; `equal`, `different` and `cancelled` are ends.
    pub(crate) state: State,
    /// When it was found to be behind.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) found_at: Timestamp,
    /// When the database took something last of what shows it: all that came before is in it, and later things may be lost.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
    /// What shows that it is behind.
    pub(crate) detail: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) started_by: Option<String>,
    pub(crate) reason: Option<String>,
    /// What the owner's epoch was raised to.
    pub(crate) epoch: Option<i64>,
    /// The newest job that sends states again, while there is one.
    pub(crate) job: Option<String>,
    /// The newest verification, while there is one.
    pub(crate) verification: Option<String>,
    /// Repairs so far.
    pub(crate) rounds: i32,
    /// Keys that differed at the newest verification.
    pub(crate) differences: i64,
    /// Why it does not get on, or why it ended so.
    pub(crate) waits_for: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
}

/// What is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRestoration)]
pub(crate) struct Create {
    /// Why, for the audit log and the causes of the events.
    pub(crate) reason: Option<String>,
    /// Also if nothing shows that the database is behind. No, if left out.
    #[serde(default)]
    pub(crate) force: bool,
}

impl From<Restoration> for RestorationItem {
    fn from(row: Restoration) -> Self {
        Self {
            seq: row.seq.to_string(),
            state: row.state,
            found_at: row.found_us,
            since: row.since_us,
            detail: row.detail,
            started_at: row.started_us,
            started_by: row.started_by,
            reason: row.reason,
            epoch: row.epoch,
            job: row.job.map(|seq| seq.to_string()),
            verification: row.verification.map(|seq| seq.to_string()),
            rounds: row.rounds,
            differences: row.differences,
            waits_for: row.waits_for,
            ended_at: row.ended_us,
        }
    }
}

impl RestoredStatus {
    /// As it is now.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn read(conn: &mut Conn, restorer: &Restorer) -> ProblemResult<Self> {
        let newest = restored::newest(conn, &restorer.service)?;
        Ok(Self {
            service: restorer.service.clone(),
            side: restorer.side,
            behind: newest.as_ref().is_some_and(Restoration::is_behind),
            newest: newest.map(RestorationItem::from),
        })
    }
}

/// Whether this service's database is behind, since when, and how far it is to mend that.
#[utoipa::path(
    get, path = "/api/admin/v1/restored", tag = "verification",
    responses(
        (status = 200, body = RestoredStatus),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>) -> ProblemResult<Json<RestoredStatus>> {
    let restorer = admin.restorer()?.clone();
    admin.db.read(move |conn| RestoredStatus::read(conn, &restorer).map(Json)).await
}

/// Mends what a database misses that came back from a backup, in the background.
///
/// The owner raises its epoch, so that its states are newer than all that the copy has, and sends them all again. A copy
/// asks its owner for what it misses. Both end with a verification of all keys.
#[utoipa::path(
    post, path = "/api/admin/v1/restored", tag = "verification",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Create,
    responses(
        (status = 201, body = RestorationItem),
        (status = 409, description = "Nothing shows that the database is behind, or it is being mended"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn start(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Create>,
) -> ProblemResult<HttpResponse> {
    let restorer = admin.restorer()?.clone();
    let request = body.value.check()?;
    let work = move |conn: &mut Conn| {
        let item = start_now(conn, &by, &restorer, request)?;
        Reply::json(StatusCode::CREATED, &item)
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.wake_restoring();
    Ok(response)
}

impl Create {
    /// What is asked for.
    ///
    /// # Errors
    /// 422 at the field that is wrong.
    pub(crate) fn check(self) -> ProblemResult<Request> {
        self.reason.as_deref().map_or(Ok(()), checked_reason)?;
        Ok(Request { reason: self.reason, force: self.force })
    }
}

/// Begins it; the caller wakes what works on it once that is committed.
///
/// # Errors
/// 409 when nothing shows that the database is behind, or when it is under way.
pub(crate) fn start_now(
    conn: &mut Conn,
    by: &Caller,
    restorer: &Restorer,
    request: Request,
) -> ProblemResult<RestorationItem> {
    let started = restorer.start(conn, &by.actor(), request);
    started.map(RestorationItem::from).map_err(problem)
}

fn problem(error: StartError) -> Problem {
    let detail = error.to_string();
    match error {
        StartError::NotBehind(_) => Problem::conflict("not-behind", detail),
        StartError::OwnerBehind(_) => Problem::conflict("owner-is-behind", detail),
        StartError::Running(_) => Problem::conflict("restoration-under-way", detail),
        StartError::Query(error) => error.into(),
    }
}

impl Admin {
    /// What mends this service's database.
    ///
    /// # Errors
    /// 404 when it neither owns nor copies anything.
    pub(crate) fn restorer(&self) -> ProblemResult<&Restorer> {
        let service = &self.settings.service.name;
        self.restorer.as_ref().ok_or_else(|| {
            Problem::not_found(format!("{service} neither owns nor copies anything"))
        })
    }

    /// Tells the background that something was begun.
    pub(crate) fn wake_restoring(&self) {
        if let Some(restorer) = &self.restorer {
            restorer.wake();
        }
        self.resync.wake();
    }
}
