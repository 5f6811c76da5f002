//! One's own account: who one is, another password, signing out.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use common::http::{Problem, ProblemResult};

use super::desk::{Desk, Frame, page, see};
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

async fn show(desk: Desk) -> ProblemResult<HttpResponse> {
    let shown = AccountPage { frame: desk.frame().await?, problem: None, caller: &desk.caller };
    page(StatusCode::OK, &shown)
}

async fn change(desk: Desk, form: Form) -> ProblemResult<HttpResponse> {
    match changed(&desk, &form).await {
        Ok(()) => Ok(see("/admin/account", "password")),
        Err(problem) if problem.status().is_client_error() => {
            let (frame, caller) = (desk.frame().await?, &desk.caller);
            page(problem.status(), &AccountPage { frame, problem: Some(&problem), caller })
        }
        Err(problem) => Err(problem),
    }
}

async fn changed(desk: &Desk, form: &Form) -> ProblemResult<()> {
    same_twice(form, "new_password", "again")?;
    let (old, new) = (form.secret("old_password"), form.secret("new_password"));
    desk.admin.change_password(desk.caller.clone(), old, new).await
}
