//! `/quarantine`: keys whose events are answered FAILED until they are released.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::{Deserialize, Serialize};

use super::{Admin, checked_reason};
use crate::access::{Area, Caller, Role, Rule};
use crate::clock::Timestamp;
use crate::http::{
    IdempotencyKey, Page, Params, Problem, ProblemResult, Reply, StrictJson, wrong_method,
};
use crate::inbox::quarantine::{self, QuarantineRow};

/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// A key in quarantine.
#[derive(Debug, Serialize)]
struct Quarantined {
    key: String,
    reason: String,
    since: Timestamp,
    by: String,
}

impl From<QuarantineRow> for Quarantined {
    fn from(row: QuarantineRow) -> Self {
        Self { key: row.key, reason: row.reason, since: row.since_us, by: row.by_whom }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
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

/// By key.
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Quarantined>>> {
    let limit = params.limit()?;
    let after = params.text("after").unwrap_or_default();
    params.finish()?;
    let rows = admin
        .engine
        .db
        .read(move |conn| quarantine::list(conn, &after, limit + 1).map_err(Problem::from))
        .await?;
    let items = rows.into_iter().map(Quarantined::from).collect();
    Ok(Json(Page::cut(items, limit, |item: &Quarantined| item.key.clone())))
}

async fn show(admin: Data<Admin>, key: Path<String>) -> ProblemResult<Json<Quarantined>> {
    let key = checked_key(key.into_inner())?;
    admin
        .engine
        .db
        .read(move |conn| match quarantine::find(conn, &key)? {
            Some(row) => Ok(Json(row.into())),
            None => Err(not_there(&key)),
        })
        .await
}

/// 201 when the key was free before, 200 when it was in quarantine already.
async fn put(
    admin: Data<Admin>,
    key: Path<String>,
    by: Caller,
    idempotency: IdempotencyKey,
    body: StrictJson<Put>,
) -> ProblemResult<HttpResponse> {
    let key = checked_key(key.into_inner())?;
    checked_reason(&body.value.reason)?;
    let now = admin.engine.env.now();
    let row =
        QuarantineRow { key, reason: body.value.reason, since_us: now, by_whom: by.name.clone() };
    let work = move |conn: &mut _| {
        let status = match quarantine::put(conn, &row)? {
            true => StatusCode::CREATED,
            false => StatusCode::OK,
        };
        let detail = serde_json::json!({ "reason": row.reason });
        by.note(conn, now, "quarantine.put", Some(&row.key), Some(detail))?;
        let stored = quarantine::find(conn, &row.key)?.unwrap_or(row);
        Reply::json(status, &Quarantined::from(stored))
    };
    admin.act(idempotency, &body.bytes, work).await
}

async fn release(
    admin: Data<Admin>,
    key: Path<String>,
    by: Caller,
    idempotency: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let key = checked_key(key.into_inner())?;
    let now = admin.engine.env.now();
    let work = move |conn: &mut _| {
        if !quarantine::release(conn, &key)? {
            return Err(not_there(&key));
        }
        by.note(conn, now, "quarantine.release", Some(&key), None)?;
        Ok(Reply::no_content())
    };
    admin.act(idempotency, &[], work).await
}

/// Checks a key that stands in an address.
pub(super) fn checked_key(key: String) -> ProblemResult<String> {
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
