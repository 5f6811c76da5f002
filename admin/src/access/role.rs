//! What a person or a script may do, and where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What somebody may do; each role includes the ones before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Acts on events, alerts, dead letters and the relay.
    Operator,
    /// Manages operators and tokens.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As written in JSON and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub(super) const fn code(self) -> i16 {
        match self {
            Self::Viewer => 0,
            Self::Operator => 1,
            Self::Admin => 2,
        }
    }

    /// What is not known may the least.
    pub(super) const fn of_code(code: i16) -> Self {
        match code {
            2 => Self::Admin,
            1 => Self::Operator,
            _ => Self::Viewer,
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("{text:?} is not a role; use viewer, operator or admin"))
    }
}

/// A part of the operators' API and pages; a token may be restricted to some of them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Counts, charts and the state of the parts.
    Overview,
    /// Events and what is done to them, one by one or in bulk.
    Events,
    /// Alerts, silences and the messages about them.
    Alerts,
    /// Messages that could not be read.
    DeadLetters,
    /// Keys whose events are refused.
    Quarantine,
    /// What the relay leaves alone.
    Relay,
    /// Operators and tokens.
    Access,
    /// Who did what.
    Audit,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Overview,
        Self::Events,
        Self::Alerts,
        Self::DeadLetters,
        Self::Quarantine,
        Self::Relay,
        Self::Access,
        Self::Audit,
    ];

    /// As written in JSON and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Events => "events",
            Self::Alerts => "alerts",
            Self::DeadLetters => "dead_letters",
            Self::Quarantine => "quarantine",
            Self::Relay => "relay",
            Self::Access => "access",
            Self::Audit => "audit",
        }
    }
}

impl std::str::FromStr for Area {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|area| area.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is not an area; use one of {names}")
        })
    }
}
