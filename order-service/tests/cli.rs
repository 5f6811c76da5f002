//! The command line of order-service; it also has cargo build the program before any test that starts it.

use stockloop_tests::program::{Program, service};

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_order-service"))
}

#[test]
fn help_teaches() {
    insta::assert_snapshot!("help", program().output(&["--help"], &[]));
}

#[test]
fn config_hides_secrets() {
    insta::assert_snapshot!("config", service::redacted_config(&program()));
    service::a_failed_start_prints_no_secret(&program());
}

#[test]
fn the_example_is_the_defaults() {
    service::example_is_the_defaults(&program(), include_str!("../order-service.toml"));
}

#[test]
fn migrate_is_idempotent() {
    service::migrate_is_idempotent(&program());
}

#[test]
fn operators_are_made_here() {
    service::operators_are_made_here(&program());
}

#[test]
fn wrong_urls_are_refused() {
    service::wrong_urls_are_refused(&program());
}

#[test]
fn a_silent_server_is_given_up() {
    service::a_silent_server_is_given_up(&program());
}

#[test]
fn unusable_files_are_refused() {
    service::unusable_files_are_refused(&program());
}

#[test]
fn a_read_only_server_is_refused() {
    service::a_read_only_server_is_refused(&program());
}

#[test]
fn a_newer_schema_is_refused() {
    service::a_newer_schema_is_refused(&program());
}

#[test]
fn wrong_addresses_are_refused() {
    service::wrong_addresses_are_refused(&program());
}

#[test]
fn wrong_settings_are_refused() {
    service::wrong_settings_are_refused(&program());
}
