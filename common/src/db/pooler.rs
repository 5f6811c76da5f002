//! What may stand between the program and PostgreSQL, and what no session can hold because of it.

use serde::{Deserialize, Serialize};

/// What hands out the server's sessions to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooler {
    /// The server itself, or a pooler in session mode: a connection has one session for good.
    None,
    /// A pooler in transaction mode: each transaction may have another session, which others used before and will after.
    Transaction,
}

/// Begins a transaction behind a pooler, in one round trip: with what a session would hold otherwise.
///
/// As in [`super::pool`], but for what makes no difference here: diesel drops notices by itself, and whether the pooler
/// has vanished is for the server to find out. Encoding and time zone, which diesel sets for each connection it makes,
/// PgBouncer keeps for each client; nothing relies on another pooler doing so, as texts are UTF-8 in the database, too.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL TIME ZONE 'UTC'; \
     SELECT set_config('statement_timeout', '60s', true) \
     WHERE current_setting('statement_timeout') = '0'; \
     SELECT set_config('lock_timeout', '20s', true) \
     WHERE current_setting('lock_timeout') = '0'";

/// The SQLSTATEs of a session that is not the one in which statements were prepared: one exists already, one is missing.
pub(super) const FOREIGN_SESSION: [&str; 2] = ["42P05", "26000"];
