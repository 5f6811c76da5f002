//! `/tokens`: bearer tokens for scripts.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::access::tokens::{self, NewToken, Token};
use crate::access::{Area, Caller, Role, Rule};
use crate::clock::Timestamp;
use crate::http::{Page, Params, Problem, ProblemResult, StrictJson, wrong_method};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    name: String,
    role: Role,
    #[serde(default)]
    areas: Vec<Area>,
    expires_at: Option<Timestamp>,
}

/// A token that was just made.
#[derive(Debug, Serialize)]
struct Added {
    /// What goes into the header `authorization: Bearer …`; it is shown this once.
    secret: String,
    #[serde(flatten)]
    token: Token,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/tokens", Role::Admin, Area::Access),
    Rule::new("POST", "/tokens", Role::Admin, Area::Access),
    Rule::new("DELETE", "/tokens/{seq}", Role::Admin, Area::Access),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all =
        web::resource("/tokens").get(list).post(add).default_service(wrong_method("GET, POST"));
    let one = web::resource("/tokens/{seq}").delete(revoke).default_service(wrong_method("DELETE"));
    scope.service(all).service(one);
}

/// Newest first, revoked ones too.
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Token>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let items = admin
        .engine
        .db
        .read(move |conn| tokens::list(conn, after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Json(Page::cut(items, limit, |item: &Token| item.seq.clone())))
}

/// No `Idempotency-Key` here: its kept answer would hold the secret.
async fn add(admin: Data<Admin>, by: Caller, body: StrictJson<Add>) -> ProblemResult<HttpResponse> {
    let Add { name, role, areas, expires_at } = body.value;
    let (env, new) = (admin.engine.env.clone(), NewToken { name, role, areas, expires_at });
    let (token, secret) =
        admin.engine.db.write(move |conn| tokens::add(conn, &env, &new, &by)).await?;
    Ok(HttpResponse::Created().json(Added { secret, token }))
}

/// Answers with the token; one that was revoked before stays as it is.
async fn revoke(admin: Data<Admin>, seq: Path<String>, by: Caller) -> ProblemResult<Json<Token>> {
    let seq: i64 =
        seq.parse().map_err(|_| Problem::invalid("seq", "a token's number is a whole number"))?;
    let now = admin.engine.env.now();
    let revoked = admin.engine.db.write(move |conn| tokens::revoke(conn, now, seq, &by)).await?;
    Ok(Json(revoked))
}
