//! What both services' HTTP has in common: problem+json for every error, strict bodies, paging, tokens.

mod access;
mod body;
mod fallback;
mod idempotency;
mod paging;
mod problem;
mod query;

pub use access::{Access, Principal, check_exposure};
pub use body::{BodyLimit, OptionalJson, StrictJson};
pub use fallback::{unknown_route, wrong_method};
pub use idempotency::{IdempotencyKey, Reply, Running, idempotent};
pub use paging::{Page, PageQuery, checked_limit};
pub use problem::{Problem, ProblemResult};
pub use query::Params;
