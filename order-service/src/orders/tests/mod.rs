//! Orders through their routes, and through the status of their commands, on SQLite, and on PostgreSQL where there is
//! one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attention;
mod cancel;
mod group;
mod keys;
mod lost;
pub(crate) mod orders_fixture;
mod place;
mod read;
mod reserve;
mod settle;
mod stream;
