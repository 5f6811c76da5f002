//! The pages, each test on every database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod actions;
mod login;
mod lost_commands;
mod proof;
mod rendering;
mod restored;
mod routes;

use actix_web::body::to_bytes;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, LOCATION, SET_COOKIE};
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, web};
use common::http::unknown_route;
use engine::audit::AuthMethod;
use stockloop_tests::database::TestDatabase;

use super::configure;
use crate::access::operators::{self, NewOperator};
use crate::access::{Caller, Hashed, Role};
use crate::api::tests::AdminFixture;

const PASSWORD: &str = "correct horse battery";

/// The pages of a service, with people who may sign in.
struct Site {
    fixture: AdminFixture,
}

/// A page, or the way to another one.
#[derive(Debug)]
struct PageResponse {
    status: u16,
    headers: HeaderMap,
    html: String,
}

impl Site {
    fn new(database: TestDatabase) -> Self {
        Self { fixture: AdminFixture::new(database).guarded("") }
    }

    /// Makes an operator called like their role.
    async fn operator(&self, role: Role) {
        let env = self.fixture.env.clone();
        let password = Hashed::of(&env, PASSWORD).unwrap();
        let new = NewOperator { name: role.name().to_owned(), password, role };
        let by = Caller::new("root", Role::Admin, AuthMethod::Command);
        let made = self.fixture.db.write(move |conn| operators::add(conn, &env, &new, &by)).await;
        made.unwrap();
    }

    /// Makes an operator and signs them in; gives the cookie as a browser would send it.
    async fn signed_in(&self, role: Role) -> String {
        self.operator(role).await;
        let answer =
            self.post("/admin/login", "", &[("name", role.name()), ("password", PASSWORD)]).await;
        assert_eq!(answer.leads_to(), "/admin");
        answer.cookie()
    }

    async fn get(&self, path: &str, cookie: &str) -> PageResponse {
        self.ask(TestRequest::get().uri(path), cookie).await
    }

    /// Sends a form as a browser does.
    async fn post(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> PageResponse {
        let request = TestRequest::post()
            .uri(path)
            .insert_header(("sec-fetch-site", "same-origin"))
            .insert_header(("referer", "http://localhost/admin/events?key=A"))
            .set_form(fields);
        self.ask(request, cookie).await
    }

    async fn ask(&self, request: TestRequest, cookie: &str) -> PageResponse {
        let app = App::new()
            .configure(configure(self.fixture.admin()))
            .default_service(web::to(unknown_route));
        let app = init_service(app).await;
        let request = match cookie {
            "" => request,
            cookie => request.insert_header(("cookie", cookie)),
        };
        let request = request.insert_header((HOST, "localhost")).to_request();
        let response = call_service(&app, request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body()).await.unwrap();
        PageResponse { status, headers, html: String::from_utf8(bytes.to_vec()).unwrap() }
    }
}

impl PageResponse {
    /// A header's text; empty if it is not there.
    fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Where a redirect leads.
    #[track_caller]
    fn leads_to(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.header(LOCATION)
    }

    /// The cookie that it sets, as a browser would send it back.
    fn cookie(&self) -> String {
        self.header(SET_COOKIE).split(';').next().unwrap().to_owned()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        assert!(self.html.contains(text), "{text:?} in {}", self.html);
    }

    #[track_caller]
    fn shows_not(&self, text: &str) {
        assert!(!self.html.contains(text), "{text:?} in {}", self.html);
    }
}
