//! The copy through its handler and its routes, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod apply;
pub(crate) mod copy_fixture;
mod read;
mod storage;
