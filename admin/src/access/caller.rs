//! Who a request acts for.

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{Problem, ProblemResult};
use diesel::QueryResult;
use engine::audit::{Actor, AuthMethod};

use super::{Area, Role};

/// Somebody who is known, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The operator's name, or what a token is called.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// How they are authenticated.
    pub via: AuthMethod,
    /// The areas a token is restricted to; empty: all.
    pub areas: Vec<Area>,
    /// The hash of their session, if a browser is signed in.
    pub session: Option<String>,
}

impl Caller {
    /// Somebody who is admitted to all areas.
    pub fn new(name: impl Into<String>, role: Role, via: AuthMethod) -> Self {
        Self { name: name.into(), role, via, areas: Vec::new(), session: None }
    }

    /// Whether they may do what `role` may, in `area`.
    pub fn may(&self, role: Role, area: Area) -> bool {
        self.role >= role && (self.areas.is_empty() || self.areas.contains(&area))
    }

    /// As the audit log names them.
    pub fn actor(&self) -> Actor {
        Actor { name: self.name.clone(), method: self.via }
    }

    /// As [`Actor::note`].
    ///
    /// # Errors
    /// When the statement fails; the action must then be rolled back with it.
    pub fn note(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        action: &str,
        subject: Option<&str>,
        detail: Option<serde_json::Value>,
    ) -> QueryResult<()> {
        self.actor().note(conn, now, action, subject, detail)
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = std::future::Ready<ProblemResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Self>().cloned();
        std::future::ready(known.ok_or_else(|| Problem::unauthorized("sign in first")))
    }
}
