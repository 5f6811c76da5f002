//! The command line of stockloop-loadgen; it also has cargo build the program before any test that starts it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use serde_json::{Value, json};
use stockloop_tests::postgres::Binaries;
use stockloop_tests::process::built_binary;
use stockloop_tests::program::{Program, assert_contains};
use stockloop_tests::real::{self, available};

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_stockloop-loadgen"))
}

#[test]
fn help_teaches() {
    assert_contains(&program().output(&["--help"], &[]), &["storage", "fill", "bench"]);
    for command in [&["storage"][..], &["fill"], &["bench", "http"]] {
        let help = program().output(&[command, &["--help"]].concat(), &[]);
        assert_contains(&help, &["Examples:"]);
    }
    // From the end of the long text.
    assert_contains(&program().output(&["bench", "http", "--help"], &[]), &["TMPDIR"]);
}

#[test]
fn adjustments_are_measured_on_parts_that_are_started() {
    if available("PostgreSQL", Binaries::find()).is_some() {
        let [row]: [Value; 1] = measured(&["--clients", "2"]).try_into().unwrap();
        assert_eq!((&row["name"], &row["clients"]), (&json!("http"), &json!(2)));
    }
}

#[test]
fn adjustments_are_measured_on_a_server_that_was_named() {
    let Some(postgres) = real::postgres() else { return };
    let url = postgres.database("bench");
    let rows = measured(&["--database", &url, "--clients", "1,3"]);
    let clients: Vec<&Value> = rows.iter().map(|row| &row["clients"]).collect();
    assert_eq!(clients, [&json!(1), &json!(3)]);
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let refused = |args: &[&str], words: &[&str]| {
        program().refusal(&[&["bench", "http"], args].concat(), &[], words);
    };
    refused(&["--database", "mysql://localhost/shop"], &["--database", "postgres://"]);
    refused(&["--database", "postgres://nobody@127.0.0.1:1/shop"], &["--database", "reached"]);
    let long = format!("postgres://nobody@127.0.0.1:1/{}", "a".repeat(53));
    refused(&["--database", &long], &["--database", "63 bytes"]);
    refused(&["--product-service", "nowhere"], &["nowhere", "cargo build"]);
    refused(&["--url", "https://127.0.0.1:1"], &["https://127.0.0.1:1", "http://host:port"]);
    refused(&["--url", "http://127.0.0.1:1"], &["127.0.0.1:1", "reached"]);
    for clients in ["0", "1,0", "129"] {
        let outcome = program().run(&["bench", "http", "--clients", clients], &[]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("--clients"), "{outcome:?}");
    }
}

const FIGURES: [&str; 10] = [
    "rate_per_s",
    "settled_per_s",
    "limit_per_s",
    "share",
    "p50_ms",
    "p99_ms",
    "min_per_s",
    "max_per_s",
    "rss_mb",
    "cpu_s",
];

/// What a tiny run wrote: each row has all figures.
fn measured(more: &[&str]) -> Vec<Value> {
    let service = built_binary("product-service").unwrap().display().to_string();
    let mut args = vec!["bench", "http", "--product-service", service.as_str()];
    args.extend(["--products", "20", "--rounds", "1", "--seconds", "1", "--warm-up", "1"]);
    args.extend(["--json", "http.json"]);
    args.extend(more);
    let program = program();
    let table = program.output(&args, &[]);
    assert_contains(
        &table,
        &["clients", "service/s", "settled/s", "limit/s", "share", "spread", "peak MB"],
    );
    let written = fs::read(program.folder().join("http.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&written).unwrap();
    for row in &rows {
        let is_positive = |name: &str| row[name].as_f64().is_some_and(|figure| figure > 0.0);
        assert!(FIGURES.iter().all(|name| is_positive(name)), "{row}");
        assert!(row["open_at_end"].as_f64().is_some_and(|open| open >= 0.0), "{row}");
    }
    rows
}
