//! Who may look and act as an operator: people with passwords and sessions, scripts with tokens, and the guard in
//! front of every route, which asks for the role that the route's rule names.

mod caller;
mod error;
mod guard;
pub mod operators;
mod origin;
mod role;
mod rules;
mod secret;
pub mod sessions;
pub mod setup;
#[cfg(test)]
mod tests;
mod throttle;
pub mod tokens;

pub use caller::Caller;
pub use error::{AccessError, Refused};
pub use guard::{Guard, RefusalResponder};
pub use role::{Area, Role};
pub use rules::{Requirement, RouteModule, Rule, Rules};
pub use secret::Hashed;
