#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

pub(crate) mod fixture;
mod interleavings;
mod verdicts;
mod verifying;
mod wire;
