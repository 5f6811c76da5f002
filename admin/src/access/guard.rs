//! The guard in front of the operators' routes: who asks, may they, and does the request come from their own browser.

use std::pin::Pin;
use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::cookie::{Cookie, SameSite, time};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse};
use common::config::{AccessSettings, Settings};
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::http::{Principal, Problem, ProblemResult, StaticToken};
use diesel::QueryResult;
use engine::audit::AuthMethod;

use super::origin::{check_loopback, check_origin};
use super::sessions::{self, Begun};
use super::{Caller, Requirement, Role, Rules, tokens};

/// Knows who may do what; cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    env: Env,
    settings: AccessSettings,
    /// The settings' own token, if there is one.
    admin_token: StaticToken,
    cookie: String,
    secure: bool,
}

/// How a scope answers a caller who is not admitted.
pub type RefusalResponder = fn(&ServiceRequest, &Problem) -> HttpResponse;

type GuardedResponse<B> = Result<ServiceResponse<EitherBody<B>>, actix_web::Error>;

impl Guard {
    /// The guard of one service; `public_url` says whether browsers come over TLS.
    pub fn new(db: Db, env: Env, settings: &Settings, public_url: &str) -> Self {
        let secure = public_url.starts_with("https://");
        // Cookies know no ports: two services on one machine need two names. The prefix makes browsers insist on TLS.
        let prefix = if secure { "__Host-" } else { "" };
        let inner = Inner {
            db,
            env,
            admin_token: StaticToken::new(&settings.http.admin_token),
            cookie: format!("{prefix}{}-session", settings.service.name),
            settings: settings.access.clone(),
            secure,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether everybody on this machine is admitted.
    pub fn is_open(&self) -> bool {
        self.inner.settings.open
    }

    /// Lets a request through or refuses it; for `wrap(from_fn(…))` around the scope that `rules` are about.
    pub fn check<B: MessageBody + 'static>(
        self,
        rules: Rules,
        refuse: RefusalResponder,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Pin<Box<dyn Future<Output = GuardedResponse<B>>>> {
        Box::pin(async move {
            let admitted = self.admit(rules, &request).await;
            if let Err(problem) = admitted {
                let response = refuse(&request, &problem).map_into_right_body();
                return Ok(request.into_response(response));
            }
            Ok(next.call(request).await?.map_into_left_body())
        })
    }

    async fn admit(&self, rules: Rules, request: &ServiceRequest) -> ProblemResult<()> {
        let caller = self.recognise(request).await;
        let needs = match request.match_pattern() {
            Some(pattern) => rules.needs(request.method(), &pattern),
            // No route at all: who is known is told so.
            None => Requirement::Login,
        };
        let caller = match (caller, needs) {
            (Ok(caller), _) => caller,
            (Err(_), Requirement::Nothing) => None,
            (Err(problem), _) => return Err(problem),
        };
        // Signing in is kept from other sites' pages as well: they could sign a browser in as somebody else.
        let by_hand = caller
            .as_ref()
            .is_none_or(|caller| matches!(caller.via, AuthMethod::Session | AuthMethod::Open));
        if by_hand {
            check_origin(request)?;
        }
        let Some(caller) = caller else {
            return match needs {
                Requirement::Nothing => Ok(()),
                _ => Err(Problem::unauthorized(
                    "sign in, or send the header authorization: Bearer <token>",
                )),
            };
        };
        let allowed = needs.met_by(&caller).then_some(()).ok_or_else(|| refusal(&caller, needs));
        // Also who is refused is known: the page that says so names them.
        request.extensions_mut().insert(Principal(caller.name.clone()));
        request.extensions_mut().insert(caller);
        allowed
    }

    /// Who asks; `None`: nobody that is known.
    async fn recognise(&self, request: &ServiceRequest) -> ProblemResult<Option<Caller>> {
        if let Some(header) = request.headers().get(AUTHORIZATION) {
            let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
            let token = token.ok_or_else(|| {
                Problem::unauthorized("send the header authorization: Bearer <token>")
            })?;
            return self.by_token(token).await.map(Some);
        }
        if let Some(cookie) = request.cookie(&self.inner.cookie)
            && let Some(caller) =
                self.by_session(cookie.value().to_owned(), by_itself(request)).await?
        {
            return Ok(Some(caller));
        }
        if self.is_open() {
            check_loopback(request)?;
            return Ok(Some(Caller::new("anonymous", Role::Admin, AuthMethod::Open)));
        }
        Ok(None)
    }

    async fn by_token(&self, token: &str) -> ProblemResult<Caller> {
        if self.inner.admin_token.is(token) {
            return Ok(Caller::new("admin", Role::Admin, AuthMethod::Setting));
        }
        let (token, now) = (token.to_owned(), self.inner.env.now());
        let found = self
            .inner
            .db
            .read(move |conn| tokens::find(conn, &token, now).map_err(Problem::from))
            .await?;
        let Some((caller, stale)) = found else {
            return Err(Problem::unauthorized(
                "this token is unknown, expired or revoked; an admin can create another",
            ));
        };
        if let Some(seq) = stale {
            self.touch(move |conn| tokens::touch(conn, seq, now)).await;
        }
        Ok(caller)
    }

    /// Notes that somebody was here. Where that fails, what they came for is no worse.
    async fn touch(&self, touch: impl FnOnce(&mut Conn) -> QueryResult<()> + Send + 'static) {
        let noted = self.inner.db.write::<_, DbError>(move |conn| Ok(touch(conn)?)).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "it was not noted that a token or session was used");
        }
    }

    async fn by_session(&self, secret: String, quiet: bool) -> ProblemResult<Option<Caller>> {
        let (settings, now) = (self.inner.settings.clone(), self.inner.env.now());
        let found = self
            .inner
            .db
            .read(move |conn| sessions::find(conn, &settings, &secret, now).map_err(Problem::from))
            .await?;
        let Some((caller, stale)) = found else { return Ok(None) };
        if let Some(hash) = caller.session.clone().filter(|_| stale && !quiet) {
            self.touch(move |conn| sessions::touch(conn, &hash, now)).await;
        }
        Ok(Some(caller))
    }

    /// The cookie of a session that was just begun.
    pub fn cookie(&self, begun: &Begun) -> Cookie<'static> {
        let lifetime = i64::try_from(self.inner.settings.session_lifetime.as_secs()).unwrap_or(0);
        self.cookie_of(begun.secret.clone(), lifetime)
    }

    /// The cookie that takes a session's away.
    pub fn no_cookie(&self) -> Cookie<'static> {
        self.cookie_of(String::new(), 0)
    }

    fn cookie_of(&self, value: String, seconds: i64) -> Cookie<'static> {
        // Lax, not Strict: a link in a mail has to lead to its event without signing in once more.
        Cookie::build(self.inner.cookie.clone(), value)
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.inner.secure)
            .max_age(time::Duration::seconds(seconds))
            .finish()
    }
}

/// Whether a page that is open asks by itself, such as for live numbers: that keeps no session from being idle.
fn by_itself(request: &ServiceRequest) -> bool {
    let by_script = request.headers().get("sec-fetch-dest").is_some_and(|dest| dest == "empty");
    by_script && request.method().is_safe()
}

fn refusal(caller: &Caller, needs: Requirement) -> Problem {
    let Requirement::Role(role, area) = needs else {
        return Problem::forbidden("this is not allowed");
    };
    match caller.role >= role {
        true => Problem::forbidden(format!(
            "{} is not allowed in the area {}",
            caller.name,
            area.name()
        )),
        false => Problem::forbidden(format!(
            "this needs the role {}; {} has the role {}",
            role.name(),
            caller.name,
            caller.role.name()
        )),
    }
}
