//! Who gets in, by which way, and what they may then do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod origin;
mod people;
mod roles;
mod sessions;
mod tokens;

use actix_web::test::TestRequest;
use common::db::{Backend, Conn, DbError};
use common::http::Problem;
use engine::audit::AuthMethod;
use serde_json::{Value, json};

use super::operators::{self, NewOperator};
use super::{Caller, Hashed, Role};
use crate::api::tests::{AdminFixture, ApiResponse};

const PASSWORD: &str = "correct horse battery";

impl AdminFixture {
    /// Makes an operator called like their role.
    async fn operator(&self, role: Role) {
        self.named(role.name(), role).await;
    }

    async fn named(&self, name: &str, role: Role) {
        let env = self.env.clone();
        let password = Hashed::of(&env, PASSWORD).unwrap();
        let new = NewOperator { name: name.to_owned(), password, role };
        let by = Caller::new("root", Role::Admin, AuthMethod::Command);
        let made = self.db.write(move |conn| operators::add(conn, &env, &new, &by)).await;
        made.unwrap();
    }

    async fn try_sign_in(&self, name: &str, password: &str) -> ApiResponse {
        self.post("/session", json!({ "name": name, "password": password })).await
    }

    /// Signs in and gives the cookie as a browser would send it.
    async fn sign_in(&self, name: &str) -> String {
        let begun = self.try_sign_in(name, PASSWORD).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        begun.cookie()
    }

    /// As a browser that is signed in.
    async fn with_cookie(
        &self,
        method: &str,
        path: &str,
        cookie: &str,
        body: Value,
    ) -> ApiResponse {
        let request = request(method, path).insert_header(("cookie", cookie)).set_json(body);
        self.call(request).await
    }

    /// From now on, no row of `table` can be changed.
    async fn refuse_updates(&self, table: &'static str) {
        let refuse = move |conn: &mut Conn| {
            let sql = match conn.backend() {
                Backend::Postgres => format!(
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN RAISE 'no'; END $$; \
                     CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW \
                     EXECUTE FUNCTION refuse()"
                ),
                Backend::Sqlite => format!(
                    "CREATE TRIGGER refuse BEFORE UPDATE ON {table} \
                     BEGIN SELECT RAISE(ABORT, 'no'); END"
                ),
            };
            conn.batch_execute(&sql).map_err(DbError::from)
        };
        self.db.write(refuse).await.unwrap();
    }

    async fn audit(&self) -> Vec<(String, String)> {
        let entries = self
            .db
            .read(|conn| {
                engine::audit::list(conn, &engine::audit::Filter::default(), None, 100)
                    .map_err(Problem::from)
            })
            .await
            .unwrap();
        entries.into_iter().rev().map(|entry| (entry.who, entry.action)).collect()
    }
}

impl ApiResponse {
    /// The cookie that it sets, as a browser would send it back.
    fn cookie(&self) -> String {
        let set = self.header(actix_web::http::header::SET_COOKIE);
        set.split(';').next().unwrap().to_owned()
    }
}

fn request(method: &str, path: &str) -> TestRequest {
    let method = method.parse().unwrap();
    TestRequest::default().method(method).uri(&format!("/api/admin/v1{path}"))
}

fn bearer(method: &str, path: &str, token: &str) -> TestRequest {
    request(method, path).insert_header(("authorization", format!("Bearer {token}")))
}
