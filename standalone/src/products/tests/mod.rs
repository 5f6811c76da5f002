//! Imports without a service, and with one that answers as it is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod files;
mod hostile;
mod sending;
