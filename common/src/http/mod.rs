//! What both services' HTTP has in common: problem+json for every error, strict bodies, paging, tokens.

mod access;
mod body;
mod connections;
mod grouped;
mod headers;
mod idempotency;
mod paging;
mod path;
mod precondition;
mod problem;
mod query;
mod route;
mod sse;
mod text;
mod trace;

pub use access::{Access, Principal, StaticToken};
pub use body::{BodyLimit, Object, OptionalJson, StrictJson, read_body};
pub use connections::{Answer, Connection, Connections, EndedConnections, Turn, take_turns};
pub use grouped::{
    GroupError, GroupOutcome, GroupParts, GroupWork, GroupedChange, GroupedRequest, GroupedWrites,
};
pub use headers::{api_headers, page_headers};
pub use idempotency::{IdempotencyKey, KeysInProgress, Reply, answered, idempotent};
pub use paging::{Page, PageQuery, checked_limit, query_config};
pub use path::path_segment;
pub use precondition::{Precondition, PreconditionFailed};
pub use problem::{PartProblem, Problem, ProblemResult};
pub use query::Params;
pub use route::{reading, unknown_route, wrong_method};
pub use sse::{event, event_stream};
pub use text::{Identifier, Text, TextError};
pub use trace::TraceParent;
