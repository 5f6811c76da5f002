//! The command line of search-service; it also has cargo build the program before any test that starts it.
#![allow(clippy::unwrap_used, reason = "tests")]

use stockloop_tests::program::{Program, service};

#[test]
fn the_example_is_the_defaults() {
    let program = Program::new(env!("CARGO_BIN_EXE_search-service"));
    service::example_is_the_defaults(&program, include_str!("../search-service.toml"));
}

#[test]
fn migrate_is_idempotent() {
    service::migrate_is_idempotent(&Program::new(env!("CARGO_BIN_EXE_search-service")));
}
