//! Signing in and out, and making the first admin.

use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Query, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use askama::Template;
use common::http::{Problem, ProblemResult};
use serde::Deserialize;

use super::context::{Frame, page, see};
use super::failure::local;
use super::form::Form;
use super::show::filters;
use crate::access::{Caller, Rule};
use crate::api::Admin;

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::open("GET", "/login"),
    Rule::open("POST", "/login"),
    Rule::login("POST", "/logout"),
    Rule::open("GET", "/setup"),
    Rule::open("POST", "/setup"),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/login").get(ask).post(sign_in).default_service(other()))
        .service(web::resource("/logout").post(sign_out).default_service(other()))
        .service(web::resource("/setup").get(welcome).post(set_up).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/login.html")]
struct LoginPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    name: &'a str,
    next: &'a str,
}

#[derive(Template)]
#[template(path = "admin/setup.html")]
struct SetupPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    name: &'a str,
    token: &'a str,
}

/// What the addresses of these pages carry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    next: String,
    token: String,
    done: String,
}

async fn ask(admin: Data<Admin>, request: HttpRequest) -> ProblemResult<HttpResponse> {
    let Asked { next, done, .. } = asked(&request)?;
    let next = local(&next).unwrap_or_default();
    // Who is signed in already has nothing to do here.
    if request.extensions().get::<Caller>().is_some() {
        return Ok(see(if next.is_empty() { "/admin" } else { next }, ""));
    }
    let frame = Frame::new(&admin, None, request.path(), &done);
    page(StatusCode::OK, &LoginPage { frame, problem: None, name: "", next })
}

async fn sign_in(
    admin: Data<Admin>,
    request: HttpRequest,
    form: Form,
) -> ProblemResult<HttpResponse> {
    let name = form.text("name").unwrap_or_default();
    let next = form.text("next").unwrap_or_default();
    let next = local(&next).unwrap_or("/admin");
    match admin.sign_in(&request, name.clone(), form.secret("password")).await {
        Ok(begun) => {
            let mut response = see(next, "");
            set_cookie(&mut response, &admin.guard.cookie(&begun))?;
            Ok(response)
        }
        Err(problem) if problem.status().is_client_error() => {
            let frame = Frame::new(&admin, None, request.path(), "");
            let refused = LoginPage { frame, problem: Some(&problem), name: &name, next };
            page(problem.status(), &refused)
        }
        Err(problem) => Err(problem),
    }
}

async fn sign_out(admin: Data<Admin>, caller: Caller) -> ProblemResult<HttpResponse> {
    admin.sign_out(caller).await?;
    let mut response = see("/admin/login", "signed-out");
    set_cookie(&mut response, &admin.guard.no_cookie())?;
    Ok(response)
}

async fn welcome(admin: Data<Admin>, request: HttpRequest) -> ProblemResult<HttpResponse> {
    let Asked { token, .. } = asked(&request)?;
    let frame = Frame::new(&admin, None, request.path(), "");
    page(StatusCode::OK, &SetupPage { frame, problem: None, name: "", token: &token })
}

async fn set_up(
    admin: Data<Admin>,
    request: HttpRequest,
    form: Form,
) -> ProblemResult<HttpResponse> {
    let name = form.text("name").unwrap_or_default();
    let made = match same_twice(&form, "password", "again") {
        Ok(()) => admin.set_up(form.secret("token"), name.clone(), form.secret("password")).await,
        Err(problem) => Err(problem),
    };
    match made {
        Ok(_) => {
            let begun = admin.sign_in(&request, name, form.secret("password")).await?;
            let mut response = see("/admin", "set-up");
            set_cookie(&mut response, &admin.guard.cookie(&begun))?;
            Ok(response)
        }
        Err(problem) if problem.status().is_client_error() => {
            let frame = Frame::new(&admin, None, request.path(), "");
            let token = form.text("token").unwrap_or_default();
            let refused = SetupPage { frame, problem: Some(&problem), name: &name, token: &token };
            page(problem.status(), &refused)
        }
        Err(problem) => Err(problem),
    }
}

/// That a new password was typed twice alike, since nobody sees it.
pub(super) fn same_twice(form: &Form, first: &str, second: &str) -> ProblemResult<()> {
    match form.text(first) == form.text(second) {
        true => Ok(()),
        false => Err(Problem::invalid(second, "the two passwords are not the same")),
    }
}

fn asked(request: &HttpRequest) -> ProblemResult<Asked> {
    let asked = Query::<Asked>::from_query(request.query_string());
    asked.map(Query::into_inner).map_err(|error| Problem::malformed(error.to_string()))
}

fn set_cookie(
    response: &mut HttpResponse,
    cookie: &actix_web::cookie::Cookie<'static>,
) -> ProblemResult<()> {
    response.add_cookie(cookie).map_err(|error| Problem::internal(&error))
}
