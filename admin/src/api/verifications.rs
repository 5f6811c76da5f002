//! `/verifications`: whether consumers have what this service owns, and which keys differ.

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
use common::on;
use common::schema::verification;
use diesel::prelude::*;
use engine::verify::{
    self, Finding, KeyFinding, MAX_DIFFERENCES, NewVerification, State, Verification,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problems::owns_nothing;
use super::{Admin, number};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/verifications", Role::Viewer, Area::Events),
    Rule::new("POST", "/verifications", Role::Operator, Area::Events),
    Rule::new("GET", "/verifications/{seq}", Role::Viewer, Area::Events),
    Rule::new("GET", "/verifications/{seq}/differences", Role::Viewer, Area::Events),
    Rule::new("POST", "/verifications/{seq}/cancel", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let resource = |path: &str| web::resource(format!("/verifications{path}"));
    let other = wrong_method;
    scope
        .service(resource("").get(list).post(create).default_service(other("GET, POST")))
        .service(resource("/{seq}").get(show).default_service(other("GET")))
        .service(resource("/{seq}/differences").get(differences).default_service(other("GET")))
        .service(resource("/{seq}/cancel").post(cancel).default_service(other("POST")));
}

/// A comparison of a consumer's copy with what this service owns.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verification)]
pub(crate) struct VerificationItem {
    pub(crate) seq: String,
    /// Of which consumer.
    pub(crate) consumer: String,
    /// It compares only the keys that this earlier one found to differ; none: every key.
    pub(crate) keys_of: Option<String>,
    /// How much of the time it may work.
    pub(crate) share: f64,
    /// `equal`, `different`, `unknown` and `cancelled` are ends.
    pub(crate) state: State,
    /// The key up to which it has compared.
    pub(crate) cursor: Option<String>,
    /// Keys compared so far.
    pub(crate) keys: i64,
    /// Keys that differ, as far as it has got.
    pub(crate) differences: i64,
    /// Keys that it could not decide on: their events were open until its end.
    pub(crate) waiting: i64,
    /// Whether it ended early because more keys differ than are listed.
    pub(crate) cut: bool,
    /// Why it is unknown.
    pub(crate) reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    /// How they were authenticated; `schedule` where nobody asked for it.
    pub(crate) created_via: String,
    /// All that was committed before this is compared.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    /// When its last range of keys was compared; keys that moved meanwhile are looked at again after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) compared_at: Option<Timestamp>,
    /// When the consumer answered last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) answered_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
    /// Who cancelled it.
    pub(crate) ended_by: Option<String>,
}

/// A verification and how many keys it found in which way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerificationDetail {
    #[serde(flatten)]
    pub(crate) item: VerificationItem,
    pub(crate) findings: Findings,
}

/// How many keys have each finding.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Findings {
    /// They have to be looked at again, as long as it runs.
    pub(crate) moving: i64,
    /// Their events were open at its end.
    pub(crate) waiting: i64,
    /// This service has them, the copy does not.
    pub(crate) missing: i64,
    /// The copy has them, this service never did.
    pub(crate) unknown: i64,
    /// The copy has an older version.
    pub(crate) older: i64,
    /// The copy has a newer version than there ever was.
    pub(crate) newer: i64,
    /// The version is the same, and the content is not.
    pub(crate) content: i64,
}

/// A key that differs, or that was waited for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyDifference)]
pub(crate) struct DifferenceItem {
    pub(crate) key: String,
    /// At which consumer.
    pub(crate) consumer: String,
    /// How it differs; `waiting`: it could not be found out.
    #[schema(value_type = Finding)]
    pub(crate) kind: Finding,
    /// The version that this service has.
    pub(crate) owner_version: Option<i64>,
    /// Whether it is removed here.
    pub(crate) owner_removed: Option<bool>,
    /// The epoch of the copy's version.
    pub(crate) copy_epoch: Option<i64>,
    /// The version that the copy has.
    pub(crate) copy_version: Option<i64>,
    /// Whether it is removed there.
    pub(crate) copy_removed: Option<bool>,
    /// The event of the key that was open when it was looked at.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub(crate) event_id: Option<EventId>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) found_at: Timestamp,
}

/// A verification that is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewVerification)]
pub(crate) struct Create {
    /// Of which consumer; unless given, of the one that receives this service's events.
    pub(crate) consumer: Option<String>,
    /// How much of the time it may work, 0.001 to 1: with less it takes longer, and leaves the databases to others. 1
    /// if left out.
    #[schema(minimum = 0.001, maximum = 1)]
    pub(crate) share: Option<f64>,
}

/// Which verification is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The newest one of all keys that came to its end by itself.
    Latest,
    /// That one.
    Number(i64),
}

impl Asked {
    /// Reads a number, or `latest`.
    ///
    /// # Errors
    /// 422 for anything else.
    pub(crate) fn parse(text: &str) -> ProblemResult<Self> {
        match text {
            "latest" => Ok(Self::Latest),
            text => verification_number(text).map(Self::Number),
        }
    }

    /// The verification itself.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn find(self, conn: &mut Conn) -> ProblemResult<Verification> {
        match self {
            Self::Number(seq) => verify::find(conn, seq)?.ok_or_else(|| unknown(seq)),
            Self::Latest => latest(conn, None)?.ok_or_else(|| {
                Problem::not_found("no verification of all keys has ended yet; start one")
            }),
        }
    }
}

/// The newest verification of all keys (of one consumer) that came to its end by itself.
pub(crate) fn latest(conn: &mut Conn, consumer: Option<&str>) -> QueryResult<Option<Verification>> {
    use verification as v;
    on!(conn, c => {
        let mut rows = v::table
            .filter(v::ended_us.is_not_null().and(v::keys_of.is_null()))
            .filter(v::state.ne(State::Cancelled))
            .into_boxed();
        if let Some(consumer) = consumer {
            rows = rows.filter(v::consumer.eq(consumer));
        }
        rows.order(v::seq.desc()).select(Verification::as_select()).first(c).optional()
    })
}

impl From<Verification> for VerificationItem {
    fn from(row: Verification) -> Self {
        Self {
            seq: row.seq.to_string(),
            consumer: row.consumer,
            keys_of: row.keys_of.map(|seq| seq.to_string()),
            share: f64::from(row.share) / 1_000.0,
            state: row.state,
            cursor: row.cursor,
            keys: row.keys,
            differences: row.differences,
            waiting: row.waiting,
            cut: row.cut,
            reason: row.reason,
            created_at: row.created_us,
            created_by: row.created_by,
            created_via: row.created_via,
            started_at: row.started_us,
            compared_at: row.compared_us,
            answered_at: row.answered_us,
            ended_at: row.ended_us,
            ended_by: row.ended_by,
        }
    }
}

impl VerificationItem {
    /// A page of verifications, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        consumer: Option<&str>,
        after: Option<i64>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let rows = verify::list(conn, consumer, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = rows.into_iter().map(Self::from).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.seq.clone()))
    }
}

impl VerificationDetail {
    /// One verification with its counts.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn find(conn: &mut Conn, asked: Asked) -> ProblemResult<Self> {
        let row = asked.find(conn)?;
        let findings = Findings::of(conn, row.seq)?;
        Ok(Self { item: row.into(), findings })
    }
}

impl Findings {
    /// What a verification found so far.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn of(conn: &mut Conn, seq: i64) -> QueryResult<Self> {
        let mut findings = Self::default();
        for (finding, count) in verify::counts(conn, seq)? {
            *findings.count(finding) = count;
        }
        Ok(findings)
    }

    const fn count(&mut self, finding: Finding) -> &mut i64 {
        match finding {
            Finding::Moving => &mut self.moving,
            Finding::Waiting => &mut self.waiting,
            Finding::Missing => &mut self.missing,
            Finding::Unknown => &mut self.unknown,
            Finding::Older => &mut self.older,
            Finding::Newer => &mut self.newer,
            Finding::Content => &mut self.content,
        }
    }
}

impl DifferenceItem {
    fn of(consumer: &str, found: KeyFinding) -> Self {
        Self {
            key: found.key,
            consumer: consumer.to_owned(),
            kind: found.finding,
            owner_version: found.owner_version,
            owner_removed: found.owner_removed,
            copy_epoch: found.copy_epoch,
            copy_version: found.copy_version,
            copy_removed: found.copy_removed,
            event_id: found.event_id,
            found_at: found.found_us,
        }
    }

    /// Keys of a verification in their order, behind `after`.
    ///
    /// # Errors
    /// 404 if there is no such verification.
    pub(crate) fn page(
        conn: &mut Conn,
        asked: Asked,
        waiting: bool,
        after: &str,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let Verification { seq, consumer, .. } = asked.find(conn)?;
        let found = verify::findings(conn, seq, !waiting, after, limit + 1)?;
        let items = found.into_iter().map(|one| Self::of(&consumer, one)).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.key.clone()))
    }
}

/// All verifications, newest first.
#[utoipa::path(
    get, path = "/api/admin/v1/verifications", tag = "verification",
    params(
        ("consumer" = Option<String>, Query, description = "Only those of this consumer."),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<VerificationItem>),
        (status = 404, description = "This service owns nothing that could be verified"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<VerificationItem>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    let consumer = params.text("consumer");
    params.finish()?;
    admin.verifier()?;
    let read = move |conn: &mut _| VerificationItem::page(conn, consumer.as_deref(), after, limit);
    admin.db.read(read).await.map(Json)
}

/// One verification: how far it is or how it ended, and how many keys differ in which way.
#[utoipa::path(
    get, path = "/api/admin/v1/verifications/{seq}", tag = "verification",
    params(("seq" = String, Path, description = "Its number; `latest`: the newest one of all keys that has ended.")),
    responses(
        (status = 200, body = VerificationDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    admin: Data<Admin>,
    seq: Path<String>,
) -> ProblemResult<Json<VerificationDetail>> {
    let asked = Asked::parse(&seq)?;
    admin.verifier()?;
    admin.db.read(move |conn| VerificationDetail::find(conn, asked).map(Json)).await
}

/// The keys that a verification found to differ, in their order.
#[utoipa::path(
    get, path = "/api/admin/v1/verifications/{seq}/differences", tag = "verification",
    params(
        ("seq" = String, Path, description = "Its number; `latest`: the newest one of all keys that has ended."),
        ("waiting" = Option<bool>, Query, description = "true: instead of them, the keys whose events were open at its end."),
        PageQuery,
    ),
    responses(
        (status = 200, body = Page<DifferenceItem>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn differences(
    admin: Data<Admin>,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<Json<Page<DifferenceItem>>> {
    let asked = Asked::parse(&seq)?;
    let limit = params.limit()?;
    let waiting = params.take("waiting", "true or false")?.unwrap_or(false);
    let after = checked_after(params.text("after"))?;
    params.finish()?;
    admin.verifier()?;
    let read = move |conn: &mut _| DifferenceItem::page(conn, asked, waiting, &after, limit);
    admin.db.read(read).await.map(Json)
}

/// Starts a verification of all keys; answers with it, and it runs in the background.
///
/// One that the schedule has under way is cancelled in favour of it.
#[utoipa::path(
    post, path = "/api/admin/v1/verifications", tag = "verification",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Create,
    responses(
        (status = 201, body = VerificationItem),
        (status = 404, description = "This service owns nothing that could be verified"),
        (status = 409, description = "Somebody has one of that consumer under way"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Create>,
) -> ProblemResult<HttpResponse> {
    let verifier = admin.verifier()?;
    let now = admin.env.now();
    let new = body.value.check(&admin, (&by, now))?;
    let work = move |conn: &mut Conn| {
        let item = create_now(conn, (&by, now), &new)?;
        let location = format!("/api/admin/v1/verifications/{}", item.seq);
        Ok(Reply::json(StatusCode::CREATED, &item)?.with_location(location))
    };
    let response = admin.act(key, &body.bytes, work).await?;
    verifier.wake();
    Ok(response)
}

impl Create {
    /// The verification that is asked for.
    ///
    /// # Errors
    /// 422 at the field that is wrong.
    pub(crate) fn check(
        self,
        admin: &Admin,
        (by, now): (&Caller, Timestamp),
    ) -> ProblemResult<NewVerification> {
        Ok(NewVerification {
            consumer: checked_consumer(self.consumer, admin)?,
            keys_of: None,
            share: thousandths(self.share.unwrap_or(1.0))?,
            state: State::Waiting,
            created_us: now,
            created_by: by.name.clone(),
            created_via: by.via.name().to_owned(),
        })
    }
}

fn checked_consumer(asked: Option<String>, admin: &Admin) -> ProblemResult<String> {
    let known = &admin.settings.kafka.outbound_consumer;
    match asked {
        Some(asked) if asked != *known => {
            let detail = format!("there is no consumer {asked:?}; there is {known:?}");
            Err(Problem::invalid("consumer", detail))
        }
        _ => Ok(known.clone()),
    }
}

fn thousandths(share: f64) -> ProblemResult<i32> {
    match share {
        0.001..=1.0 => Ok((share * 1_000.0).round() as i32),
        _ => Err(Problem::invalid("share", "a share of the time is 0.001 to 1")),
    }
}

/// Cancels a verification; what it has found so far stays listed.
#[utoipa::path(
    post, path = "/api/admin/v1/verifications/{seq}/cancel", tag = "verification",
    params(("seq" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = VerificationItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let seq = verification_number(&seq)?;
    admin.verifier()?;
    let now = admin.env.now();
    let work =
        move |conn: &mut Conn| Reply::json(StatusCode::OK, &cancel_now(conn, (&by, now), seq)?);
    admin.act(key, &[], work).await
}

/// Puts a verification down; the caller wakes the verifier once that is committed.
///
/// # Errors
/// 409 when somebody has one of that consumer under way.
pub(crate) fn create_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    new: &NewVerification,
) -> ProblemResult<VerificationItem> {
    let mut number = verify::insert(conn, new)?;
    if number.is_none() {
        make_room(conn, (by, now), &new.consumer)?;
        number = verify::insert(conn, new)?;
    }
    let seq = number.ok_or_else(|| {
        under_way(format!("another verification of {} was started just now", new.consumer))
    })?;
    let item = VerificationItem::from(Asked::Number(seq).find(conn)?);
    let detail = serde_json::json!({ "consumer": item.consumer, "share": item.share });
    by.note(conn, now, "verification.create", Some(&item.seq), Some(detail))?;
    Ok(item)
}

/// What nobody asked for gives way to what somebody asks for.
fn make_room(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    consumer: &str,
) -> ProblemResult<()> {
    match verify::under_way(conn, consumer)? {
        Some(open) if open.created_via == verify::SCHEDULED => {
            cancel_now(conn, (by, now), open.seq).map(drop)
        }
        Some(open) => Err(under_way(format!(
            "verification {} of {consumer} is under way, by {}; wait for its end, or cancel it",
            open.seq, open.created_by
        ))),
        // It has ended meanwhile.
        None => Ok(()),
    }
}

fn under_way(detail: String) -> Problem {
    Problem::conflict("verification-under-way", detail)
}

/// Stops a verification.
///
/// # Errors
/// 404 when there is none of that number, 409 when it has ended.
pub(crate) fn cancel_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    seq: i64,
) -> ProblemResult<VerificationItem> {
    let cancelled = verify::cancel(conn, seq, now, &by.name)?;
    let item = VerificationItem::from(Asked::Number(seq).find(conn)?);
    if !cancelled {
        let state = item.state.name();
        let why = format!("verification {seq} has ended already, as {state}");
        return Err(Problem::conflict("verification-ended", why));
    }
    let detail = serde_json::json!({ "keys": item.keys, "differences": item.differences });
    by.note(conn, now, "verification.cancel", Some(&item.seq), Some(detail))?;
    Ok(item)
}

impl Admin {
    /// What verifies this service's consumers.
    ///
    /// # Errors
    /// 404 when this service owns nothing; it says whom to ask.
    pub(crate) fn verifier(&self) -> ProblemResult<&verify::Verifier> {
        self.verifier.as_ref().ok_or_else(|| owns_nothing(&self.settings))
    }
}

/// Where a page of keys begins.
///
/// # Errors
/// 422 for what no database can be asked for.
pub(crate) fn checked_after(after: Option<String>) -> ProblemResult<String> {
    match after {
        Some(after) if after.contains('\0') => {
            Err(Problem::invalid("after", "use the `next` of a page"))
        }
        after => Ok(after.unwrap_or_default()),
    }
}

/// How many differences are listed at the most, for people.
pub(crate) const LISTED: i64 = MAX_DIFFERENCES;

pub(crate) fn verification_number(seq: &str) -> ProblemResult<i64> {
    number(seq, "seq", "a verification's")
}

fn unknown(seq: i64) -> Problem {
    Problem::not_found(format!("there is no verification {seq}"))
}
