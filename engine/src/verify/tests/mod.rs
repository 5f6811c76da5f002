#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;
mod interleavings;
mod verdicts;
mod verifying;
