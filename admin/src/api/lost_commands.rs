//! `/lost-commands`: commands whose effect was lost with their receiver's backup, and what is decided about them.

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
use engine::lost::{
    self, DecideError, Decided, Lost, LostCheck, LostCommand, Selection, State, Verdict,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/lost-commands", Role::Viewer, Area::Events),
    Rule::new("POST", "/lost-commands/decide", Role::Operator, Area::Events),
    Rule::new("GET", "/lost-commands/check", Role::Viewer, Area::Events),
    Rule::new("GET", "/lost-commands/{id}", Role::Viewer, Area::Events),
    Rule::new("POST", "/lost-commands/{id}/decide", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/lost-commands").get(list).default_service(wrong_method("GET"));
    let open = web::resource("/lost-commands/decide").post(decide_all);
    let check = web::resource("/lost-commands/check").get(check);
    let one = web::resource("/lost-commands/{id}").get(show);
    let decided = web::resource("/lost-commands/{id}/decide").post(decide_one);
    scope
        .service(all)
        .service(open.default_service(wrong_method("POST")))
        .service(check.default_service(wrong_method("GET")))
        .service(one.default_service(wrong_method("GET")))
        .service(decided.default_service(wrong_method("POST")));
}

/// A command that was answered SUCCESS and whose effect was lost with its receiver's database.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LostCommand)]
pub(crate) struct LostItem {
    /// The event.
    pub(crate) id: EventId,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) key: String,
    pub(crate) state: State,
    /// When it was answered.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) answered_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) found_at: Timestamp,
    /// When it was decided on, or found to be obsolete.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) closed_at: Option<Timestamp>,
    /// Who decided; none where it is obsolete.
    pub(crate) closed_by: Option<String>,
    /// Why.
    pub(crate) reason: Option<String>,
    /// The event by which it was sent again.
    pub(crate) sent_as: Option<EventId>,
}

/// The newest search for lost commands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LostCheckStatus)]
pub(crate) struct CheckStatus {
    /// None: no receiver of this service's commands has told of a restore.
    pub(crate) newest: Option<CheckItem>,
}

/// A search for commands that lost their effect.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LostCheck)]
pub(crate) struct CheckItem {
    pub(crate) seq: String,
    /// Whose database came back from a backup.
    pub(crate) service: String,
    /// Which restoration, as that service names it.
    pub(crate) restoration: String,
    /// What came before is in its database.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
    /// Commands that the receiver was asked about; one that is looked at again counts again.
    pub(crate) asked: i64,
    /// Those that it does not know.
    pub(crate) found: i64,
    /// Those that it may have forgotten: nothing is known of them.
    pub(crate) unclear: i64,
    /// Nothing is known of commands that were made before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) known_from: Option<Timestamp>,
    /// Why it does not get on.
    pub(crate) waits_for: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// When it ended; none: more may be found.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
}

/// What is decided.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LostCommandDecision)]
pub(crate) struct Decide {
    pub(crate) verdict: Verdict,
    /// Why, in 1 to 500 characters; may be left out where it is sent again.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// What is decided about open ones.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LostCommandsDecision)]
pub(crate) struct DecideAll {
    pub(crate) verdict: Verdict,
    /// Why, in 1 to 500 characters; may be left out where they are sent again.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The `next` of the answer before.
    #[serde(default)]
    pub(crate) after: Option<EventId>,
}

impl From<LostCommand> for LostItem {
    fn from(row: LostCommand) -> Self {
        Self {
            id: row.event_id,
            event_type: row.event_type,
            key: row.key,
            state: row.state,
            answered_at: row.settled_us,
            found_at: row.found_us,
            closed_at: row.closed_us,
            closed_by: row.closed_by,
            reason: row.reason,
            sent_as: row.sent_as,
        }
    }
}

impl From<LostCheck> for CheckItem {
    fn from(row: LostCheck) -> Self {
        Self {
            seq: row.seq.to_string(),
            service: row.service,
            restoration: row.restoration,
            since: row.since_us,
            asked: row.asked,
            found: row.found,
            unclear: row.unclear,
            known_from: row.known_from_us,
            waits_for: row.waits_for,
            created_at: row.created_us,
            ended_at: row.ended_us,
        }
    }
}

impl LostItem {
    /// A page of them, the oldest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        state: Option<State>,
        after: Option<EventId>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let rows = lost::page(conn, state, after, limit + 1)?;
        let items = rows.into_iter().map(Self::from).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.id.to_string()))
    }
}

impl CheckItem {
    /// The newest one.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn newest(conn: &mut Conn) -> ProblemResult<Option<Self>> {
        Ok(lost::latest_check(conn)?.map(Self::from))
    }
}

/// Commands whose effect was lost with their receiver's backup, the oldest first.
#[utoipa::path(
    get, path = "/api/admin/v1/lost-commands", tag = "verification",
    params(("state" = Option<State>, Query), PageQuery),
    responses(
        (status = 200, body = Page<LostItem>),
        (status = 404, description = "This service sends no commands, or has no such one"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<LostItem>>> {
    let limit = params.limit()?;
    let after: Option<EventId> = params.take("after", "the `next` of a page")?;
    let state: Option<State> = params.take("state", "a state")?;
    params.finish()?;
    admin.lost()?;
    admin.db.read(move |conn| LostItem::page(conn, state, after, limit).map(Json)).await
}

/// How far the newest search for lost commands is, and from when on it knows.
#[utoipa::path(
    get, path = "/api/admin/v1/lost-commands/check", tag = "verification",
    responses(
        (status = 200, body = CheckStatus),
        (status = 404, description = "This service sends no commands, or has no such one"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn check(admin: Data<Admin>) -> ProblemResult<Json<CheckStatus>> {
    admin.lost()?;
    let read = |conn: &mut Conn| Ok(Json(CheckStatus { newest: CheckItem::newest(conn)? }));
    admin.db.read::<_, Problem>(read).await
}

/// One lost command.
#[utoipa::path(
    get, path = "/api/admin/v1/lost-commands/{id}", tag = "verification",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = LostItem),
        (status = 404, description = "This service sends no commands, or has no such one"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>, id: Path<String>) -> ProblemResult<Json<LostItem>> {
    let id = event_id(&id)?;
    admin.db.read(move |conn| item(conn, id).map(Json)).await
}

/// Decides about one open lost command.
///
/// It is found to be `obsolete` instead where nothing is missing any more.
#[utoipa::path(
    post, path = "/api/admin/v1/lost-commands/{id}/decide", tag = "verification",
    params(("id" = String, Path, format = "uuid"), ("Idempotency-Key" = Option<String>, Header)),
    request_body = Decide,
    responses(
        (status = 200, body = LostItem),
        (status = 409, description = "It is closed already, or can't be sent again"),
        (status = 404, description = "This service sends no commands, or has no such one"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn decide_one(
    admin: Data<Admin>,
    id: Path<String>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Decide>,
) -> ProblemResult<HttpResponse> {
    let id = event_id(&id)?;
    let decision = body.value.check()?;
    let lost = admin.lost()?.clone();
    let work = move |conn: &mut Conn| {
        decide_now(conn, &lost, &by, Selection::One(id), &decision)?;
        Reply::json(StatusCode::OK, &item(conn, id)?)
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.wake_after_decision();
    Ok(response)
}

/// Decides about the next 100 open lost commands, the oldest first.
#[utoipa::path(
    post, path = "/api/admin/v1/lost-commands/decide", tag = "verification",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = DecideAll,
    responses(
        (status = 200, body = Decided),
        (status = 404, description = "This service sends no commands, or has no such one"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn decide_all(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<DecideAll>,
) -> ProblemResult<HttpResponse> {
    let DecideAll { verdict, reason, after } = body.value;
    let decision = Decide { verdict, reason }.check()?;
    let lost = admin.lost()?.clone();
    let work = move |conn: &mut Conn| {
        let decided = decide_now(conn, &lost, &by, Selection::OpenAfter(after), &decision)?;
        Reply::json(StatusCode::OK, &decided)
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.wake_after_decision();
    Ok(response)
}

impl Decide {
    /// The same, if it can be done.
    ///
    /// # Errors
    /// 422 where the reason is missing or too long.
    pub(crate) fn check(self) -> ProblemResult<Self> {
        match &self.reason {
            Some(reason) => checked_reason(reason)?,
            None if self.verdict == Verdict::Accept => {
                let detail = "say how what is missing was made good";
                return Err(Problem::invalid("reason", detail));
            }
            None => {}
        }
        if self.reason.as_ref().is_some_and(|reason| reason.contains('\0')) {
            return Err(Problem::invalid("reason", "a reason has no U+0000"));
        }
        Ok(self)
    }
}

/// Decides; the caller wakes what sends once that is committed.
///
/// # Errors
/// 404 if there is none of that id, 409 if it is closed or can't be sent again.
pub(crate) fn decide_now(
    conn: &mut Conn,
    lost: &Lost,
    by: &Caller,
    selection: Selection,
    decision: &Decide,
) -> ProblemResult<Decided> {
    let Decide { verdict, reason } = decision;
    lost.decide(conn, &by.actor(), selection, *verdict, reason.as_deref()).map_err(problem)
}

fn problem(error: DecideError) -> Problem {
    let detail = error.to_string();
    match error {
        DecideError::Unknown(_) => Problem::not_found(detail),
        DecideError::Closed(..) => Problem::conflict("lost-command-closed", detail),
        DecideError::NotKept(_) => Problem::conflict("lost-command-not-kept", detail),
        DecideError::Query(error) => error.into(),
    }
}

fn item(conn: &mut Conn, id: EventId) -> ProblemResult<LostItem> {
    let found = lost::find(conn, id)?;
    found
        .map(LostItem::from)
        .ok_or_else(|| Problem::not_found(format!("the event {id} is no lost command")))
}

fn event_id(text: &str) -> ProblemResult<EventId> {
    text.parse()
        .map_err(|error| Problem::invalid("id", format!("{text:?} is no event id: {error}")))
}

impl Admin {
    /// What finds and settles lost commands.
    ///
    /// # Errors
    /// 404 when this service sends no commands.
    pub(crate) fn lost(&self) -> ProblemResult<&Lost> {
        let service = &self.settings.service.name;
        self.lost.as_ref().ok_or_else(|| Problem::not_found(format!("{service} sends no commands")))
    }

    /// Tells the background that something was sent again, and alerts may have changed.
    pub(crate) fn wake_after_decision(&self) {
        self.outbox.wake();
        self.alerts.wake();
    }
}
