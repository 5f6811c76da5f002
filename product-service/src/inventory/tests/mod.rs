//! The inventory through its real routes, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod adjust;
mod batch;
mod details;
mod group;
mod history;
mod hostile;
mod input;
mod keys;
mod owned;
pub(crate) mod product_fixture;
mod put;
mod put_batch;
mod read;
mod replay;
mod storage;
