//! One's own account: who one is, another password, signing out.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use common::http::{Problem, ProblemResult};

use super::context::{Frame, PageContext, page, see};
use super::form::Form;
use super::login::same_twice;
use super::show::filters;
use crate::access::{Caller, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] =
    &[Rule::login("GET", "/account"), Rule::login("POST", "/account/password")];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/account").get(show).default_service(other()))
        .service(web::resource("/account/password").post(change).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/account.html")]
struct AccountPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    caller: &'a Caller,
}

async fn show(context: PageContext) -> ProblemResult<HttpResponse> {
    let shown =
        AccountPage { frame: context.frame().await?, problem: None, caller: &context.caller };
    page(StatusCode::OK, &shown)
}

async fn change(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    match changed(&context, &form).await {
        Ok(()) => Ok(see("/admin/account", "password")),
        Err(problem) if problem.status().is_client_error() => {
            let (frame, caller) = (context.frame().await?, &context.caller);
            page(problem.status(), &AccountPage { frame, problem: Some(&problem), caller })
        }
        Err(problem) => Err(problem),
    }
}

async fn changed(context: &PageContext, form: &Form) -> ProblemResult<()> {
    same_twice(form, "new_password", "again")?;
    let (old, new) = (form.secret("old_password"), form.secret("new_password"));
    context.admin.change_password(context.caller.clone(), old, new).await
}
