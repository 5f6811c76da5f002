//! The operators' routes, each test on every database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod events;
mod fixture;
mod lists;
mod operations;
mod overview;
mod problems;
mod quarantine;

pub(crate) use fixture::{Answered, Bench};
