//! What both services' HTTP has in common: problem+json for every error, strict bodies, paging, tokens.

mod access;
mod body;
mod idempotency;
mod method;
mod paging;
mod precondition;
mod problem;
mod trace;

pub use access::{Access, Principal, check_exposure};
pub use body::{BodyLimit, Object, StrictJson};
pub use idempotency::{IdempotencyKey, Reply, Running, idempotent};
pub use method::{only, reading};
pub use paging::{Page, PageQuery, checked_limit};
pub use precondition::{Precondition, PreconditionFailed};
pub use problem::{Problem, ProblemResult};
pub use trace::TraceParent;
