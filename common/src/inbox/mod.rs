//! Events that come in: each is applied once, answered each time.

mod model;
pub mod quarantine;

pub use model::{Answer, ApplyError, Detail, Handler, Incoming};
