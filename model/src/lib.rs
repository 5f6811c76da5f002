//! The protocol of the loop, small enough to be explored to its end.
//!
//! [`explore`] visits every state that a [`Model`] can get into, in the order of the steps that it takes, and holds each
//! against the model's properties. A property that does not hold is told with the shortest way to where it fails.
//!
//! Two models: [`the_loop`], from the commit to PROCESSED, with what can go wrong on the way; and [`leases`], by which
//! relays agree who sends. Both call the engine's own functions where a decision is taken. `docs/MODEL.md` says what is
//! in them, and what is not.

mod explorer;
pub mod leases;
mod property;
pub mod the_loop;

pub use explorer::{Counterexample, Exploration, Model, Progress, explore};
pub use property::{Condition, Property, Rule, StepCondition};
