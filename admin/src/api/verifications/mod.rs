//! `/verifications`: whether consumers have what this service owns, and which keys differ.

mod items;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use engine::verify::{self, MAX_DIFFERENCES, NewVerification, State};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Admin;
use super::problems::owns_nothing;
use crate::access::{Area, Caller, Role, Rule};

pub(crate) use items::{
    Asked, DifferenceItem, Findings, VerificationDetail, VerificationItem, verification_number,
};

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
    params(
        ("seq" = String, Path, description = "Its number; `latest`: the newest one of all keys that has ended."),
        ("consumer" = Option<String>, Query, description = "Of whose copy the latest one is asked for; left out: any."),
    ),
    responses(
        (status = 200, body = VerificationDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    admin: Data<Admin>,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<Json<VerificationDetail>> {
    let asked = Asked::parse(&seq)?;
    let consumer = params.text("consumer");
    params.finish()?;
    admin.verifier()?;
    let read = move |conn: &mut _| {
        let asked = asked.of(conn, consumer.as_deref())?;
        VerificationDetail::find(conn, asked).map(Json)
    };
    admin.db.read(read).await
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
/// One that the schedule or the filling of a copy has under way is cancelled in favour of it; a filling verifies again.
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

/// Who is meant: the first consumer unless another one is named that can be asked.
///
/// # Errors
/// 422 for one that can't be.
pub(crate) fn checked_consumer(asked: Option<String>, admin: &Admin) -> ProblemResult<String> {
    let Some(asked) = asked else { return Ok(admin.settings.kafka.outbound_consumer.clone()) };
    if admin.remotes.contains_key(&asked) {
        return Ok(asked);
    }
    let known: Vec<&str> = admin.remotes.keys().map(String::as_str).collect();
    let detail = format!(
        "no setting says where {asked:?} can be asked (consumers.NAME.url); known: {}",
        known.join(", ")
    );
    Err(Problem::invalid("consumer", detail))
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
        Some(open) if [verify::SCHEDULED, verify::FILLING].contains(&open.created_via.as_str()) => {
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
