//! Who acts, as the audit log names them.

use common::clock::Timestamp;
use common::db::Conn;
use diesel::QueryResult;
use serde::Serialize;
use utoipa::ToSchema;

use super::{NewEntry, append};

/// How somebody was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthMethod {
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

impl AuthMethod {
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

    /// From its stored form; what is not known, from another version of this program, is a command.
    pub fn of_name(name: &str) -> Self {
        let all =
            [Self::Session, Self::Token, Self::Setting, Self::Open, Self::Setup, Self::Command];
        all.into_iter().find(|method| method.name() == name).unwrap_or(Self::Command)
    }
}

/// Somebody who acts: a person, a script, or this program for one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The operator's name, or what a token is called.
    pub name: String,
    /// How they are authenticated.
    pub method: AuthMethod,
}

impl Actor {
    /// What the audit log says of an action of theirs; `detail` holds further details.
    pub fn entry(
        &self,
        now: Timestamp,
        action: &str,
        subject: Option<&str>,
        detail: Option<serde_json::Value>,
    ) -> NewEntry {
        NewEntry {
            at_us: now,
            who: self.name.clone(),
            via: self.method.name(),
            action: action.to_owned(),
            subject: subject.map(str::to_owned),
            detail: detail.map(|detail| detail.to_string()),
        }
    }

    /// Notes an action in the audit log, in the action's own transaction.
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
        // An operator's reason may hold anything, so `detail` stays in the audit log.
        let (who, via) = (&self.name, self.method.name());
        tracing::info!(who, via, action, subject, "an operator acts");
        append(conn, &self.entry(now, action, subject, detail))
    }
}
