//! `/tokens`: bearer tokens for scripts.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{Page, PageQuery, Params, Problem, ProblemResult, StrictJson, wrong_method};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Admin;
use crate::access::tokens::{self, NewToken, Token};
use crate::access::{Area, Caller, Role, Rule};

/// A token to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
struct Add {
    /// What it is for.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    role: Role,
    /// The areas it is restricted to; empty: all.
    #[serde(default)]
    areas: Vec<Area>,
    /// When it ends by itself; not at all, if left out.
    expires_at: Option<Timestamp>,
}

/// A token that was just created.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TokenWithSecret)]
struct Added {
    /// The value for the header `authorization: Bearer …`; it is shown only once.
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

/// Tokens, newest first, revoked ones too
#[utoipa::path(
    get,
    path = "/api/admin/v1/tokens",
    tag = "access",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<Token>))
)]
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Token>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let page = admin.db.read(move |conn| page(conn, after, limit)).await?;
    Ok(Json(page))
}

fn page(conn: &mut Conn, after: Option<i64>, limit: i64) -> ProblemResult<Page<Token>> {
    let items = tokens::list(conn, after, limit + 1)?;
    Ok(Page::cut(items, limit, |item| item.seq.clone()))
}

/// Create a token for a script; its secret is shown only once
///
/// No `Idempotency-Key` here: its kept answer would hold the secret.
#[utoipa::path(
    post,
    path = "/api/admin/v1/tokens",
    tag = "access",
    request_body = Add,
    responses((status = 201, description = "The token and its secret", body = Added))
)]
async fn add(admin: Data<Admin>, by: Caller, body: StrictJson<Add>) -> ProblemResult<HttpResponse> {
    let Add { name, role, areas, expires_at } = body.value;
    let (env, new) = (admin.env.clone(), NewToken { name, role, areas, expires_at });
    let (token, secret) = admin.db.write(move |conn| tokens::add(conn, &env, &new, &by)).await?;
    Ok(HttpResponse::Created().json(Added { secret, token }))
}

/// Revoke a token; one that was revoked before stays as it is
#[utoipa::path(
    delete,
    path = "/api/admin/v1/tokens/{seq}",
    tag = "access",
    params(("seq" = String, Path, description = "Its number")),
    responses((status = 200, description = "The token as it is now", body = Token))
)]
async fn revoke(admin: Data<Admin>, seq: Path<String>, by: Caller) -> ProblemResult<Json<Token>> {
    let seq: i64 =
        seq.parse().map_err(|_| Problem::invalid("seq", "a token's number is a whole number"))?;
    let now = admin.env.now();
    let revoked = admin.db.write(move |conn| tokens::revoke(conn, now, seq, &by)).await?;
    Ok(Json(revoked))
}
