#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod fixture;
mod interleavings;
mod verdicts;
mod verifying;
