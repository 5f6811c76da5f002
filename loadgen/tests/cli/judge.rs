//! What `check` says where it can't look.

use stockloop_tests::program::assert_contains;

use super::program;

#[test]
fn a_judge_who_can_not_look_says_so_and_tells_no_password() {
    let refused = |product: &str, order: &str, words: &[&str]| {
        let args = ["check", "--product-database", product, "--order-database", order];
        let outcome = program().run(&args, &[]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert_contains(&outcome.stderr, words);
        assert!(!outcome.stderr.contains("hidden"), "{outcome:?}");
    };
    refused("sqlite:none.db", "sqlite:none.db", &["product-service", "none.db", "reached"]);
    let nowhere = "postgres://me:hidden@127.0.0.1:1/shop";
    refused(nowhere, nowhere, &["product-service", "postgres://me:***@127.0.0.1:1/shop"]);
    refused("mysql://me:hidden@127.0.0.1/shop", nowhere, &["postgres://", "sqlite:"]);
}

#[test]
fn a_file_that_can_not_be_written_is_said_before_anything_is_looked_at() {
    let none = "sqlite:none.db";
    let args = ["check", "--product-database", none, "--order-database", none];
    let outcome = program().run(&[&args[..], &["--json", "nowhere/check.json"]].concat(), &[]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert_contains(&outcome.stderr, &["cannot write nowhere/check.json"]);
    assert!(!outcome.stderr.contains("none.db"), "{outcome:?}");
}

#[test]
fn a_property_that_can_not_be_read_is_not_shown() {
    let none = "sqlite:none.db";
    let mut args = vec!["check", "--product-database", none, "--order-database", none];
    args.extend(["--brokers", "127.0.0.1:1", "--kafka-property", "hidden"]);
    let outcome = program().run(&args, &[]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert_contains(&outcome.stderr, &["--kafka-property", "NAME=VALUE"]);
    assert!(!outcome.stderr.contains("hidden"), "{outcome:?}");
}
