//! `/quarantine`: keys whose events are answered FAILED until they are released.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use engine::inbox::quarantine::{self, QuarantineRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};

/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// A key in quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Quarantined {
    key: String,
    reason: String,
    since: Timestamp,
    by: String,
}

impl Quarantined {
    /// The keys that come after `after`.
    ///
    /// # Errors
    /// When the statement fails.
    pub(super) fn page(
        conn: &mut Conn,
        after: Option<String>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let rows = quarantine::list(conn, &after.unwrap_or_default(), limit + 1)?;
        let items = rows.into_iter().map(Self::from).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.key.clone()))
    }
}

impl From<QuarantineRow> for Quarantined {
    fn from(row: QuarantineRow) -> Self {
        Self { key: row.key, reason: row.reason, since: row.since_us, by: row.by_whom }
    }
}

/// Why a key goes into quarantine.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Quarantining)]
struct Put {
    /// 1 to 500 characters that are more than white space.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/quarantine", Role::Viewer, Area::Quarantine),
    Rule::new("GET", "/quarantine/{key}", Role::Viewer, Area::Quarantine),
    Rule::new("PUT", "/quarantine/{key}", Role::Operator, Area::Quarantine),
    Rule::new("DELETE", "/quarantine/{key}", Role::Operator, Area::Quarantine),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all = web::resource("/quarantine").get(list).default_service(wrong_method("GET"));
    let one = web::resource("/quarantine/{key}")
        .get(show)
        .put(put)
        .delete(release)
        .default_service(wrong_method("GET, PUT, DELETE"));
    scope.service(all).service(one);
}

/// The keys in quarantine, by key
#[utoipa::path(
    get,
    path = "/api/admin/v1/quarantine",
    tag = "quarantine",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<Quarantined>))
)]
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Quarantined>>> {
    let limit = params.limit()?;
    let after = params.text("after");
    params.finish()?;
    let page = admin.db.read(move |conn| Quarantined::page(conn, after, limit)).await?;
    Ok(Json(page))
}

/// One key in quarantine
#[utoipa::path(
    get,
    path = "/api/admin/v1/quarantine/{key}",
    tag = "quarantine",
    params(("key" = String, Path, description = "The key")),
    responses(
        (status = 200, description = "Since when, by whom and why", body = Quarantined),
        (status = 404, description = "It is not in quarantine"),
    )
)]
async fn show(admin: Data<Admin>, key: Path<String>) -> ProblemResult<Json<Quarantined>> {
    let key = checked_key(key.into_inner())?;
    admin
        .db
        .read(move |conn| match quarantine::find(conn, &key)? {
            Some(row) => Ok(Json(row.into())),
            None => Err(not_there(&key)),
        })
        .await
}

/// Put a key into quarantine: its events are answered FAILED until it is released
#[utoipa::path(
    put,
    path = "/api/admin/v1/quarantine/{key}",
    tag = "quarantine",
    params(
        ("key" = String, Path, description = "The key"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew"),
    ),
    request_body = Put,
    responses(
        (status = 200, description = "It was in quarantine already", body = Quarantined),
        (status = 201, description = "It was not in quarantine", body = Quarantined),
    )
)]
async fn put(
    admin: Data<Admin>,
    key: Path<String>,
    by: Caller,
    idempotency: IdempotencyKey,
    body: StrictJson<Put>,
) -> ProblemResult<HttpResponse> {
    let key = checked_key(key.into_inner())?;
    checked_reason(&body.value.reason)?;
    let now = admin.env.now();
    let row =
        QuarantineRow { key, reason: body.value.reason, since_us: now, by_whom: by.name.clone() };
    let work = move |conn: &mut Conn| {
        let status = match put_now(conn, &by, &row)? {
            true => StatusCode::CREATED,
            false => StatusCode::OK,
        };
        let stored = quarantine::find(conn, &row.key)?.unwrap_or(row);
        Reply::json(status, &Quarantined::from(stored))
    };
    admin.act(idempotency, &body.bytes, work).await
}

/// Release a key from quarantine
#[utoipa::path(
    delete,
    path = "/api/admin/v1/quarantine/{key}",
    tag = "quarantine",
    params(
        ("key" = String, Path, description = "The key"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew"),
    ),
    responses(
        (status = 204, description = "It is not in quarantine any more"),
        (status = 404, description = "It is not in quarantine"),
    )
)]
async fn release(
    admin: Data<Admin>,
    key: Path<String>,
    by: Caller,
    idempotency: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let key = checked_key(key.into_inner())?;
    let now = admin.env.now();
    let work = move |conn: &mut Conn| {
        release_now(conn, (&by, now), &key)?;
        Ok(Reply::no_content())
    };
    admin.act(idempotency, &[], work).await
}

/// Puts a key in quarantine; returns whether it is new there.
///
/// # Errors
/// When a statement fails.
pub(crate) fn put_now(conn: &mut Conn, by: &Caller, row: &QuarantineRow) -> ProblemResult<bool> {
    let is_new = quarantine::put(conn, row)?;
    let detail = serde_json::json!({ "reason": row.reason });
    by.note(conn, row.since_us, "quarantine.put", Some(&row.key), Some(detail))?;
    Ok(is_new)
}

/// Releases a key.
///
/// # Errors
/// 404 when it is not in quarantine.
pub(crate) fn release_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    key: &str,
) -> ProblemResult<()> {
    if !quarantine::release(conn, key)? {
        return Err(not_there(key));
    }
    Ok(by.note(conn, now, "quarantine.release", Some(key), None)?)
}

/// Checks a key that stands in an address.
pub(crate) fn checked_key(key: String) -> ProblemResult<String> {
    // What is not UTF-8 in an address comes as U+FFFD: another key than the one that was meant.
    let is_odd = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    match key.chars().count() {
        1..=MAX_KEY if !key.contains(is_odd) => Ok(key),
        _ => Err(Problem::invalid(
            "key",
            format!(
                "a key has 1 to {MAX_KEY} characters in UTF-8, none of them a control character"
            ),
        )),
    }
}

fn not_there(key: &str) -> Problem {
    Problem::not_found(format!("{key:?} is not in quarantine"))
}
