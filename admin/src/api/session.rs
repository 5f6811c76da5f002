//! `/session`: signing in and out, who one is, one's own password; and `/setup`, which makes the first admin.

use actix_web::web::{self, Data, Json, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use common::clock::Timestamp;
use common::http::{Problem, ProblemResult, StrictJson, wrong_method};
use engine::audit::AuthMethod;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Admin;
use crate::access::Refused;
use crate::access::operators::Operator;
use crate::access::sessions::{self, Begun};
use crate::access::{Area, Caller, Hashed, Role, Rule, setup};

/// Who a request acts for.
#[derive(Debug, Serialize, ToSchema)]
struct Who {
    name: String,
    role: Role,
    via: AuthMethod,
    /// The areas a token is restricted to; empty: all.
    areas: Vec<Area>,
    /// When the session that was just started ends, however much it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
}

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    name: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// The first admin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Setup {
    /// The one-time token that the service printed when it started.
    #[schema(value_type = String, format = Password)]
    token: SecretString,
    /// 1 to 64 letters, digits, dots, dashes, underscores or @.
    name: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// A new password for the caller.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    #[schema(value_type = String, format = Password)]
    old_password: SecretString,
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::open("POST", "/setup"),
    Rule::open("POST", "/session"),
    Rule::login("GET", "/session"),
    Rule::login("DELETE", "/session"),
    Rule::login("PUT", "/session/password"),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let setup = web::resource("/setup").post(accept).default_service(wrong_method("POST"));
    let session = web::resource("/session")
        .get(show)
        .post(begin)
        .delete(end)
        .default_service(wrong_method("GET, POST, DELETE"));
    let password =
        web::resource("/session/password").put(change).default_service(wrong_method("PUT"));
    scope.service(setup).service(session).service(password);
}

/// Who this request acts for
#[utoipa::path(
    get,
    path = "/api/admin/v1/session",
    tag = "session",
    responses((status = 200, description = "Name, role and areas", body = Who))
)]
async fn show(caller: Caller) -> Json<Who> {
    Json(Who::from(caller))
}

/// Sign in with a name and a password
///
/// After a few failures, sign-ins with that name are refused for a while.
#[utoipa::path(
    post,
    path = "/api/admin/v1/session",
    tag = "session",
    request_body = SignIn,
    responses(
        (
            status = 200,
            description = "Signed in",
            body = Who,
            headers(("set-cookie" = String, description = "The session's cookie"))
        ),
        (status = 401, description = "The name or the password is wrong"),
        (status = 403, description = "The request comes from a page of another site"),
        (status = 429, description = "Too many failures; the header retry-after says when to try again"),
    )
)]
async fn begin(
    admin: Data<Admin>,
    request: HttpRequest,
    body: StrictJson<SignIn>,
) -> ProblemResult<HttpResponse> {
    let SignIn { name, password } = body.value;
    let begun = admin.sign_in(&request, name, password).await?;
    let who = Who { ends_at: Some(begun.ends_at), ..Who::from(begun.caller.clone()) };
    Ok(HttpResponse::Ok().cookie(admin.guard.cookie(&begun)).json(who))
}

/// Sign out
#[utoipa::path(
    delete,
    path = "/api/admin/v1/session",
    tag = "session",
    responses((
        status = 204,
        description = "Signed out",
        headers(("set-cookie" = String, description = "Removes the session's cookie"))
    ))
)]
async fn end(admin: Data<Admin>, caller: Caller) -> ProblemResult<HttpResponse> {
    admin.sign_out(caller).await?;
    Ok(HttpResponse::NoContent().cookie(admin.guard.no_cookie()).finish())
}

/// Change your own password; all your other sessions end
#[utoipa::path(
    put,
    path = "/api/admin/v1/session/password",
    tag = "session",
    request_body = NewPassword,
    responses(
        (status = 204, description = "Changed"),
        (status = 409, description = "The caller is a token, not an operator"),
    )
)]
async fn change(
    admin: Data<Admin>,
    caller: Caller,
    body: StrictJson<NewPassword>,
) -> ProblemResult<HttpResponse> {
    let NewPassword { old_password, new_password } = body.value;
    admin.change_password(caller, old_password, new_password).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Create the first admin with the one-time token
#[utoipa::path(
    post,
    path = "/api/admin/v1/setup",
    tag = "session",
    request_body = Setup,
    responses(
        (status = 201, description = "The admin, who can sign in now", body = Operator),
        (status = 401, description = "This is not the token, or there is an operator already"),
        (status = 403, description = "The request comes from a page of another site"),
    )
)]
async fn accept(admin: Data<Admin>, body: StrictJson<Setup>) -> ProblemResult<HttpResponse> {
    let Setup { token, name, password } = body.value;
    Ok(HttpResponse::Created().json(admin.set_up(token, name, password).await?))
}

impl Admin {
    /// Signs in; the pages do it too.
    pub(crate) async fn sign_in(
        &self,
        request: &HttpRequest,
        name: String,
        password: SecretString,
    ) -> ProblemResult<Begun> {
        let address = request.peer_addr().map_or_else(String::new, |peer| peer.ip().to_string());
        let (settings, env) = (self.settings.access.clone(), self.env.clone());
        let (rules, now) = (settings.clone(), env.now());
        let attempt = self
            .db
            .read(move |conn| {
                let password = password.expose_secret();
                sessions::attempt(conn, &rules, now, (&name, password), address)
                    .map_err(Problem::from)
            })
            .await?;
        // The inner result is a value to the transaction: a failure that was counted must not be undone.
        let begin = move |conn: &mut _| {
            sessions::begin(conn, &env, &settings, &attempt).map_err(Problem::from)
        };
        Ok(self.db.write(begin).await??)
    }

    /// Ends the caller's session.
    pub(crate) async fn sign_out(&self, caller: Caller) -> ProblemResult<()> {
        let now = self.env.now();
        self.db.write(move |conn| sessions::end(conn, now, &caller).map_err(Problem::from)).await
    }

    /// Changes the caller's own password.
    pub(crate) async fn change_password(
        &self,
        caller: Caller,
        old: SecretString,
        new: SecretString,
    ) -> ProblemResult<()> {
        let (env, now) = (self.env.clone(), self.env.now());
        let by = caller.clone();
        let hashed = self
            .db
            .read(move |conn| {
                sessions::check_own_password(conn, &by, old.expose_secret())?;
                Hashed::of(&env, new.expose_secret()).map_err(|refused| at("new_password", refused))
            })
            .await?;
        self.db
            .write(move |conn| {
                sessions::change_password(conn, now, &caller, &hashed).map_err(Problem::from)
            })
            .await
    }

    /// Makes the first admin.
    pub(crate) async fn set_up(
        &self,
        token: SecretString,
        name: String,
        password: SecretString,
    ) -> ProblemResult<Operator> {
        let hashed = self.hash(password, "password").await?;
        let env = self.env.clone();
        let accept =
            move |conn: &mut _| setup::accept(conn, &env, token.expose_secret(), (name, hashed));
        Ok(self.db.write(accept).await?)
    }

    /// Hashes a password off the async threads.
    pub(crate) async fn hash(
        &self,
        password: SecretString,
        field: &'static str,
    ) -> ProblemResult<Hashed> {
        let env = self.env.clone();
        let hashed = web::block(move || Hashed::of(&env, password.expose_secret())).await;
        hashed.map_err(|error| Problem::internal(&error))?.map_err(|refused| at(field, refused))
    }
}

/// A new password that is refused is so at the field that holds it.
fn at(field: &str, refused: Refused) -> Problem {
    match refused {
        Refused::PasswordLength => Problem::invalid(field, refused.to_string()),
        other => other.into(),
    }
}

impl From<Caller> for Who {
    fn from(caller: Caller) -> Self {
        let Caller { name, role, via, areas, .. } = caller;
        Self { name, role, via, areas, ends_at: None }
    }
}
