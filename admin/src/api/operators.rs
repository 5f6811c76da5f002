//! `/users`: who may sign in, and as what.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::db::Conn;
use common::http::{Page, PageQuery, Params, ProblemResult, StrictJson, wrong_method};
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Admin;
use crate::access::operators::{self, Change, NewOperator, Operator};
use crate::access::{Area, Caller, Role, Rule};

/// An operator to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOperator)]
struct Add {
    /// 1 to 64 letters, digits, dots, dashes, underscores or @.
    name: String,
    /// 10 to 200 characters.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    role: Role,
}

/// Changes to an operator; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OperatorChange)]
struct Patch {
    role: Option<Role>,
    /// A new password; it ends their sessions.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
    /// Whether they may not sign in; it ends their sessions.
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

/// Operators, by name
#[utoipa::path(
    get,
    path = "/api/admin/v1/users",
    tag = "access",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<Operator>))
)]
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Operator>>> {
    let limit = params.limit()?;
    let after = params.text("after");
    params.finish()?;
    let page = admin.db.read(move |conn| page(conn, after, limit)).await?;
    Ok(Json(page))
}

fn page(conn: &mut Conn, after: Option<String>, limit: i64) -> ProblemResult<Page<Operator>> {
    let items = operators::list(conn, &after.unwrap_or_default(), limit + 1)?;
    Ok(Page::cut(items, limit, |item| item.name.clone()))
}

/// Create an operator
///
/// No `Idempotency-Key` here: a second call says that the name is taken, and no password is to be kept anywhere.
#[utoipa::path(
    post,
    path = "/api/admin/v1/users",
    tag = "access",
    request_body = Add,
    responses(
        (status = 201, description = "The operator", body = Operator),
        (status = 409, description = "The name is taken"),
    )
)]
async fn add(admin: Data<Admin>, by: Caller, body: StrictJson<Add>) -> ProblemResult<HttpResponse> {
    let Add { name, password, role } = body.value;
    let password = admin.hash(password, "password").await?;
    let (env, new) = (admin.env.clone(), NewOperator { name, password, role });
    let made = admin.db.write(move |conn| operators::add(conn, &env, &new, &by)).await?;
    Ok(HttpResponse::Created().json(made))
}

/// Change an operator's role or password, or disable them
///
/// The last admin who may sign in can't be disabled or get another role.
#[utoipa::path(
    patch,
    path = "/api/admin/v1/users/{name}",
    tag = "access",
    params(("name" = String, Path, description = "The operator's name")),
    request_body = Patch,
    responses(
        (status = 200, description = "The operator as they are now", body = Operator),
        (status = 409, description = "This is the last admin"),
    )
)]
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
    let (env, change) = (admin.env.clone(), Change { role, password, disabled });
    let changed =
        admin.db.write(move |conn| operators::change(conn, &env, &name, &change, &by)).await?;
    Ok(Json(changed))
}
