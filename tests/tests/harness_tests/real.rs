use std::time::Duration;

use anyhow::anyhow;
use stockloop_tests::process::{Launch, built_binary};
use stockloop_tests::real::{REQUIRE_REAL, available};

const ASKED: &str = "HARNESS_GATE_ASKED";

/// Runs [`gate`] in a process of its own; returns whether it passed and what it printed.
fn ask_gate(required: &str) -> (bool, String) {
    // Without --nocapture, as a usual run: the skipping must be seen all the same.
    let mut run = Launch::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness_tests::real::gate", "--include-ignored"])
        .env(ASKED, "1")
        .env(REQUIRE_REAL, required)
        .spawn()
        .unwrap();
    let status = run.wait_for_exit(Duration::from_secs(30)).unwrap();
    (status.success(), run.log())
}

#[test]
fn a_missing_part_is_skipped_in_plain_sight() {
    let (passed, log) = ask_gate("0");
    assert!(passed, "{log}");
    assert!(log.contains("SKIPPED: harness_tests::real::gate needs a real lamp: no oil"), "{log}");
}

#[test]
fn a_missing_part_fails_the_test_where_all_are_demanded() {
    let (passed, log) = ask_gate("1");
    assert!(!passed, "{log}");
    assert!(log.contains("needs a real lamp: no oil"), "{log}");
}

#[test]
#[ignore = "run in processes of their own by the tests before it"]
fn gate() {
    if std::env::var_os(ASKED).is_some() {
        assert_eq!(available("lantern", Ok(1)), Some(1));
        assert_eq!(available::<u8>("lamp", Err(anyhow!("no oil"))), None);
    }
}

#[test]
fn a_binary_that_is_not_built_says_how_to_build_it() {
    let error = format!("{:#}", built_binary("no-such-service").unwrap_err());
    assert!(error.contains("no-such-service is not built; run `cargo build"), "{error}");
}
