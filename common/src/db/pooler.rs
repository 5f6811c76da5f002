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

/// Sets the limits that whoever runs the server has not set, for a session (`"false"`) or a transaction (`"true"`): no
/// statement may hang for ever, and who stops in the middle of a transaction, such as a frozen process, may not hold its
/// locks for ever. That ends before those who wait for the locks give up.
macro_rules! limits {
    ($transaction:literal) => {
        concat!(
            "SELECT set_config(name, value, ",
            $transaction,
            ") FROM (VALUES ('statement_timeout', '60s'), ('lock_timeout', '20s'), \
             ('idle_in_transaction_session_timeout', '10s')) AS bound (name, value) \
             WHERE current_setting(name) = '0'"
        )
    };
}
pub(super) use limits;

impl Pooler {
    /// Begins a transaction, in one round trip: with what a session would hold otherwise.
    ///
    /// As in [`super::pool`], but for what makes no difference here: diesel drops notices by itself, and whether the pooler
    /// has vanished is for the server to find out. Encoding and time zone, which diesel sets for each connection it makes,
    /// PgBouncer keeps for each client; nothing relies on another pooler doing so, as texts are UTF-8 in the database, too.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::None => "BEGIN",
            Self::Transaction => concat!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; \
                 SET LOCAL TIME ZONE 'UTC'; ",
                limits!("true")
            ),
        }
    }
}

/// The SQLSTATEs of a session that is not the one in which statements were prepared: one exists already, one is missing.
pub(super) const FOREIGN_SESSION: [&str; 2] = ["42P05", "26000"];
