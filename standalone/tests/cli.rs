//! The command line of stockloop; it also has cargo build the program before any test that starts it.

use stockloop_tests::program::Program;

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_stockloop"))
}

#[test]
fn help_teaches() {
    insta::assert_snapshot!("help", program().output(&["--help"], &[]));
    insta::assert_snapshot!("help_demo", program().output(&["demo", "--help"], &[]));
    insta::assert_snapshot!("help_dev", program().output(&["dev", "--help"], &[]));
}

#[test]
fn wrong_surroundings_are_refused() {
    let refused = |args: &[&str], words: &[&str]| {
        program().refusal(&[&["demo", "--exit"], args].concat(), &[], words);
    };
    refused(&["--product-database-url", "mysql://h/db"], &["product-service", "only postgres:"]);
    refused(
        &["--order-database-url", "postgres://u:s3cret@127.0.0.1:1/db"],
        &["order-service", "can't be reached"],
    );
    refused(&["--data", "nowhere.csv"], &["nowhere.csv"]);
}
