//! What the parts do without a service: PostgreSQL on [`plain`] connections, with the statements of the [`relay`] and with
//! those of all [`steps`] of the loop; and the broker with the project's own [`producer`].

mod plain;
mod producer;
mod relay;
mod steps;

pub(super) use self::plain::Limit;
pub(super) use self::producer::Produced;
pub(super) use self::relay::RelayAlone;
pub(super) use self::steps::{Cost, Costs, Statements, Step};

/// What a service asks of each connection, whatever the server's default is: it keeps what it has committed.
const AS_A_SERVICE: &str = "SET synchronous_commit = on";
