//! Arguments that the services' own `users` and `tokens`, which work on the database, share with those of
//! `stockloop admin`, which go over the API.

use std::time::Duration;

use admin::access::{Area, Role};
use clap::Args;
use common::clock::Timestamp;
use secrecy::SecretString;

use super::password::new_password;

/// An operator to add.
#[derive(Args)]
pub struct AddUser {
    /// 1 to 64 letters, digits, dots, dashes, underscores or @.
    pub name: String,
    /// viewer (reads), operator (acts on events) or admin (manages operators and tokens).
    #[arg(long)]
    pub role: Role,
    /// Take the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
}

impl AddUser {
    /// Asks for the password, or reads it.
    ///
    /// # Errors
    /// As [`new_password`].
    pub fn password(&self) -> anyhow::Result<SecretString> {
        new_password(self.password_stdin)
    }
}

/// A token to add.
#[derive(Args)]
pub struct AddToken {
    /// What it is for.
    pub name: String,
    /// Its role: viewer, operator or admin.
    #[arg(long)]
    pub role: Role,
    /// Limit it to these areas, separated by commas: overview, events, alerts, dead_letters, quarantine, relay, access,
    /// audit.
    #[arg(long, value_delimiter = ',', value_name = "AREA")]
    pub areas: Vec<Area>,
    /// Let it expire after this time, such as 90days.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
}

impl AddToken {
    /// When it expires, if it does.
    pub fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires_in.map(|lifetime| now.after(lifetime))
    }
}
