//! Whom a request acts for.

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use diesel::QueryResult;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Area, Role};
use crate::audit;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::http::{Problem, ProblemResult};

/// How somebody showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A browser that is signed in.
    Session,
    /// A bearer token that an admin made.
    Token,
    /// The bearer token of the settings.
    Setting,
    /// Nothing was asked for: `access.open` on loopback.
    Open,
    /// The one-time token of the first start.
    Setup,
    /// The program's own command line, on the machine.
    Command,
}

impl Via {
    /// As stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
            Self::Setting => "setting",
            Self::Open => "open",
            Self::Setup => "setup",
            Self::Command => "command",
        }
    }
}

/// Somebody who is known, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The operator's name, or what a token is called.
    pub name: String,
    /// The most that they may.
    pub role: Role,
    /// How they are known.
    pub via: Via,
    /// Where a token is kept to; empty: everywhere.
    pub areas: Vec<Area>,
    /// The hash of their session, if a browser is signed in.
    pub session: Option<String>,
}

impl Caller {
    /// Somebody who may go everywhere.
    pub fn new(name: impl Into<String>, role: Role, via: Via) -> Self {
        Self { name: name.into(), role, via, areas: Vec::new(), session: None }
    }

    /// Whether they may what `role` may, in `area`.
    pub fn may(&self, role: Role, area: Area) -> bool {
        self.role >= role && (self.areas.is_empty() || self.areas.contains(&area))
    }

    /// Notes a deed in the audit log, in the deed's own transaction; `detail` is what it says besides.
    ///
    /// # Errors
    /// When the statement fails; the deed must then be rolled back with it.
    pub fn note(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        action: &str,
        subject: Option<&str>,
        detail: Option<serde_json::Value>,
    ) -> QueryResult<()> {
        let entry = audit::NewEntry {
            at_us: now,
            who: self.name.clone(),
            via: self.via.name(),
            action: action.to_owned(),
            subject: subject.map(str::to_owned),
            detail: detail.map(|detail| detail.to_string()),
        };
        // An operator's reason may hold anything, so `detail` stays in the audit log.
        tracing::info!(who = self.name, via = self.via.name(), action, subject, "an operator acts");
        audit::append(conn, &entry)
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
