//! The command line of stockloop-loadgen; it also has cargo build the program before any test that starts it.

use stockloop_tests::program::{Program, assert_contains};

#[test]
fn help_teaches() {
    let program = Program::new(env!("CARGO_BIN_EXE_stockloop-loadgen"));
    assert_contains(&program.output(&["--help"], &[]), &["storage", "fill"]);
    for command in ["storage", "fill"] {
        assert_contains(&program.output(&[command, "--help"], &[]), &["Examples:"]);
    }
}
