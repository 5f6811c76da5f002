//! The operators' routes, each test on every database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod alerts;
mod dead_letters;
mod events;
mod export;
mod fixture;
mod hostile;
mod jobs;
mod lists;
pub(crate) mod lost_commands;
mod operations;
mod overview;
mod peer;
mod problems;
mod quarantine;
mod relay;
mod restored;
mod resyncs;
mod search;
mod shelf;
mod stream;
mod trend;
mod verifications;
mod view;

pub(crate) use fixture::{AdminFixture, ApiResponse, Is};
