//! What the parts do without a service: PostgreSQL with [`plain`] connections and with the statements of the [`relay`], and
//! the broker with the project's own [`producer`].

mod plain;
mod producer;
mod relay;

pub(super) use self::plain::Limit;
pub(super) use self::producer::{Produced, message};
pub(super) use self::relay::RelayAlone;

/// What a service asks of each connection, whatever the server's default is: it keeps what it has committed.
pub(super) const AS_A_SERVICE: &str = "SET synchronous_commit = on";
