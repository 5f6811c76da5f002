//! What both services' HTTP has in common: problem+json for every error, strict bodies, paging, tokens.

mod access;
mod body;
mod idempotency;
mod paging;
mod problem;

pub use access::{Access, Principal, check_exposure};
pub use body::{BodyLimit, StrictJson};
pub use idempotency::{IdempotencyKey, Reply, Running, idempotent};
pub use paging::{Page, PageQuery, checked_limit};
pub use problem::{Problem, ProblemResult};
