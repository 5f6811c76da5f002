//! `/users`: who may sign in, and as what.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use secrecy::SecretString;
use serde::Deserialize;

use super::Admin;
use crate::access::operators::{self, Change, NewOperator, Operator};
use crate::access::{Area, Caller, Role, Rule};
use crate::http::{Page, Params, Problem, ProblemResult, StrictJson, wrong_method};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    name: String,
    password: SecretString,
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    role: Option<Role>,
    password: Option<SecretString>,
    disabled: Option<bool>,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/users", Role::Admin, Area::Access),
    Rule::new("POST", "/users", Role::Admin, Area::Access),
    Rule::new("PATCH", "/users/{name}", Role::Admin, Area::Access),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let all =
        web::resource("/users").get(list).post(add).default_service(wrong_method("GET, POST"));
    let one = web::resource("/users/{name}").patch(change).default_service(wrong_method("PATCH"));
    scope.service(all).service(one);
}

/// By name.
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Operator>>> {
    let limit = params.limit()?;
    let after = params.text("after").unwrap_or_default();
    params.finish()?;
    let items = admin
        .engine
        .db
        .read(move |conn| operators::list(conn, &after, limit + 1).map_err(Problem::from))
        .await?;
    Ok(Json(Page::cut(items, limit, |item: &Operator| item.name.clone())))
}

/// No `Idempotency-Key` here: a second call says that the name is taken, and no password is to be kept anywhere.
async fn add(admin: Data<Admin>, by: Caller, body: StrictJson<Add>) -> ProblemResult<HttpResponse> {
    let Add { name, password, role } = body.value;
    let password = admin.hash(password, "password").await?;
    let (env, new) = (admin.engine.env.clone(), NewOperator { name, password, role });
    let made = admin.engine.db.write(move |conn| operators::add(conn, &env, &new, &by)).await?;
    Ok(HttpResponse::Created().json(made))
}

async fn change(
    admin: Data<Admin>,
    name: Path<String>,
    by: Caller,
    body: StrictJson<Patch>,
) -> ProblemResult<Json<Operator>> {
    let Patch { role, password, disabled } = body.value;
    let password = match password {
        Some(password) => Some(admin.hash(password, "password").await?),
        None => None,
    };
    let (env, change) = (admin.engine.env.clone(), Change { role, password, disabled });
    let changed = admin
        .engine
        .db
        .write(move |conn| operators::change(conn, &env, &name, &change, &by))
        .await?;
    Ok(Json(changed))
}
