//! The command line of stockloop-loadgen; it also has cargo build the program before any test that starts it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod benchmarks;
mod faults;
mod judge;

use stockloop_tests::process::built_binary;
use stockloop_tests::program::{Program, assert_contains};

/// Where it is.
const LOADGEN: &str = env!("CARGO_BIN_EXE_stockloop-loadgen");

fn program() -> Program {
    Program::new(LOADGEN)
}

/// Where the program of a service is.
fn service(name: &str) -> String {
    built_binary(name).unwrap().display().to_string()
}

#[test]
fn help_teaches() {
    assert_contains(
        &program().output(&["--help"], &[]),
        &["storage", "fill", "bench", "check", "chaos"],
    );
    for command in [&["storage"][..], &["fill"], &["bench", "all"], &["check"], &["chaos"]] {
        let help = program().output(&[command, &["--help"]].concat(), &[]);
        assert_contains(&help, &["Examples:"]);
    }
    for benchmark in ["http", "sql-limit", "drain", "loop", "idle", "rows", "instances", "verify"] {
        let help = program().output(&["bench", benchmark, "--help"], &[]);
        // The first is from the end of the long text.
        assert_contains(&help, &["TMPDIR", "medians", "Examples:", "--json"]);
    }
}
