//! The loop, run by a seed: the engine's own jobs and statements, with everything around them in memory.
//!
//! A [`Script`] is a list of steps that a seed draws: changes, steps of jobs, what a broker does with what it is sent,
//! and what goes wrong. A [`Stage`] plays it. One thread runs all parts, time stands still until nothing is left to do,
//! each way to a database takes as many turns as the seed says: so a seed is one run, always the same. After each step,
//! and at the end, when nothing goes wrong any more and all has come to rest, the invariants are checked.
//!
//! [`first_failure`] plays many seeds and leaves out of a failing script what it fails without. `docs/SIMULATION.md`
//! says what is in it, and what is not.

mod broker;
mod checks;
mod consumer;
mod failure;
mod flaw;
mod instance;
mod script;
mod stage;
mod surroundings;
mod violation;
mod way;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use failure::{Failure, first_failure};
pub use flaw::Flaw;
pub use script::Script;
pub use stage::{Run, Stage};
pub use violation::Violation;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
