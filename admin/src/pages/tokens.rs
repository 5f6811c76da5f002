//! Bearer tokens for scripts; a secret is shown once, on the page that answers its making.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::http::{Page, Problem, ProblemResult};

use super::context::{Frame, PageContext, Paging, page, see};
use super::form::Form;
use super::show::filters;
use crate::access::tokens::{self, NewToken, Token};
use crate::access::{Area, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/tokens", Role::Admin, Area::Access),
    Rule::new("POST", "/tokens", Role::Admin, Area::Access),
    Rule::new("POST", "/tokens/{seq}/revoke", Role::Admin, Area::Access),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/tokens").get(list).post(add).default_service(other()))
        .service(web::resource("/tokens/{seq}/revoke").post(revoke).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/tokens.html")]
struct TokensPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    /// What was just made.
    secret: Option<&'a str>,
    /// What was filled in.
    form: &'a Form,
    areas: [Area; 8],
    tokens: Vec<Token>,
    paging: Paging,
}

impl TokensPage<'_> {
    fn filled(&self, name: &str) -> String {
        self.form.text(name).unwrap_or_default()
    }

    fn has_area(&self, area: &Area) -> bool {
        self.form.all("area").iter().any(|name| name == area.name())
    }
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    shown(&context, &Form::default(), None, None).await
}

/// No redirect here: the secret has no other way to the person than this one answer.
async fn add(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    match added(&context, &form).await {
        Ok(secret) => shown(&context, &Form::default(), Some(&secret), None).await,
        Err(problem) if problem.status().is_client_error() => {
            shown(&context, &form, None, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn added(context: &PageContext, form: &Form) -> ProblemResult<String> {
    let areas = form.all("area").iter().map(|name| name.parse()).collect::<Result<Vec<Area>, _>>();
    let new = NewToken {
        name: form.needed("name")?,
        role: form.take("role", "a role")?.unwrap_or(Role::Viewer),
        areas: areas.map_err(|error| Problem::invalid("area", error))?,
        expires_at: form.moment("expires_at")?,
    };
    let (env, by) = (context.admin.env.clone(), context.caller.clone());
    let (_, secret) =
        context.admin.db.write(move |conn| tokens::add(conn, &env, &new, &by)).await?;
    Ok(secret)
}

async fn shown(
    context: &PageContext,
    form: &Form,
    secret: Option<&str>,
    problem: Option<&Problem>,
) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let (limit, after) = (params.limit()?, params.take("after", "the `next` of a page")?);
    params.finish()?;
    let tokens = context
        .admin
        .db
        .read(move |conn| tokens::list(conn, after, limit + 1).map_err(Problem::from))
        .await?;
    let tokens = Page::cut(tokens, limit, |token: &Token| token.seq.clone());
    let shown = TokensPage {
        frame: context.frame().await?,
        problem,
        secret,
        form,
        areas: Area::ALL,
        paging: context.next_page(tokens.next.as_deref()),
        tokens: tokens.items,
    };
    page(problem.map_or(StatusCode::OK, Problem::status), &shown)
}

async fn revoke(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let (now, by) = (context.admin.env.now(), context.caller.clone());
    context.admin.db.write(move |conn| tokens::revoke(conn, now, seq, &by)).await?;
    Ok(see("/admin/tokens", "token-revoked"))
}

/// A number that is a part of an address.
pub(super) fn number(text: &str) -> ProblemResult<i64> {
    text.parse().map_err(|_| Problem::not_found(format!("there is nothing with number {text:?}")))
}
