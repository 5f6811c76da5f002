//! Orders' commands on the stock, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod batch;
mod cancel;
mod invalid;
mod place;
pub(crate) mod stock_fixture;
