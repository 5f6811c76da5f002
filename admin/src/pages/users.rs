//! Who may sign in, and as what.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use common::http::{Page, Problem, ProblemResult};
use secrecy::ExposeSecret;

use super::context::{Frame, PageContext, Paging, page, see};
use super::form::Form;
use super::show::filters;
use crate::access::operators::{self, Change, NewOperator, Operator};
use crate::access::{Area, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/users", Role::Admin, Area::Access),
    Rule::new("POST", "/users", Role::Admin, Area::Access),
    Rule::new("POST", "/users/change", Role::Admin, Area::Access),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/users").get(list).post(add).default_service(other()))
        .service(web::resource("/users/change").post(change).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/users.html")]
struct UsersPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    /// What was filled in.
    name: &'a str,
    role: &'a str,
    users: Vec<Operator>,
    paging: Paging,
    me: &'a str,
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    shown(&context, &Form::default(), None).await
}

async fn add(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    match added(&context, &form).await {
        Ok(()) => Ok(see("/admin/users", "user-added")),
        Err(problem) if problem.status().is_client_error() => {
            shown(&context, &form, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn shown(
    context: &PageContext,
    form: &Form,
    problem: Option<&Problem>,
) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let (limit, after) = (params.limit()?, params.text("after").unwrap_or_default());
    params.finish()?;
    let users = context
        .admin
        .db
        .read(move |conn| operators::list(conn, &after, limit + 1).map_err(Problem::from))
        .await?;
    let users = Page::cut(users, limit, |user: &Operator| user.name.clone());
    let name = form.text("name").unwrap_or_default();
    let role = form.text("role").unwrap_or_default();
    let shown = UsersPage {
        frame: context.frame().await?,
        problem,
        name: &name,
        role: &role,
        paging: context.next_page(users.next.as_deref()),
        users: users.items,
        me: &context.caller.name,
    };
    page(problem.map_or(StatusCode::OK, Problem::status), &shown)
}

async fn added(context: &PageContext, form: &Form) -> ProblemResult<()> {
    let role = form.take("role", "a role")?.unwrap_or(Role::Viewer);
    let name = form.needed("name")?;
    let password = context.admin.hash(form.secret("password"), "password").await?;
    let (env, by) = (context.admin.env.clone(), context.caller.clone());
    let new = NewOperator { name, password, role };
    context.admin.db.write(move |conn| operators::add(conn, &env, &new, &by)).await?;
    Ok(())
}

/// Changes what was filled in; the other things stay.
async fn change(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let name = form.needed("name")?;
    let password = match form.secret("password") {
        secret if secret.expose_secret().is_empty() => None,
        secret => Some(context.admin.hash(secret, "password").await?),
    };
    let role = form.take("role", "a role")?;
    let disabled = form.take("disabled", "true or false")?;
    let change = Change { role, password, disabled };
    let (env, by) = (context.admin.env.clone(), context.caller.clone());
    context.admin.db.write(move |conn| operators::change(conn, &env, &name, &change, &by)).await?;
    Ok(see("/admin/users", "user-changed"))
}
