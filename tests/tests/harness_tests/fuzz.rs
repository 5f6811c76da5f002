//! Whether a reader that fails at an input is caught, however it fails.

use std::time::Duration;

use stockloop_tests::fuzz::run_apart;

/// Long enough for a process on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// How long the one that hangs is waited for: until then a busy machine has it started, and at its input.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_reader_that_fails_is_caught_with_its_input() {
    for (victim, deadline, told) in [
        ("panics", DEADLINE, "it is a flaw"),
        ("takes_memory", DEADLINE, "memory allocation"),
        ("breaks_its_stack", DEADLINE, "overflowed its stack"),
        ("hangs", SOON, "it was not done within 15s"),
        ("is_none", DEADLINE, "it ended with"),
    ] {
        let error = run_apart(&format!("harness_tests::fuzz::victims::{victim}"), deadline);
        let error = error.expect_err(victim);
        assert!(error.contains(told), "{victim}: {error}");
        let its_input = r#"bytes: b"{\"acks\""#;
        assert!(victim == "is_none" || error.contains(its_input), "its input: {error}");
    }
    run_apart("harness_tests::fuzz::victims::passes", DEADLINE).expect("it reads anything");
}

mod victims {
    use std::hint::black_box;

    use stockloop_tests::fuzz::{self, Input, Target};

    fn apart(check: impl Fn(&Input)) {
        // Only where the test above runs it.
        if std::env::var_os(fuzz::CURRENT).is_some() {
            fuzz::apart(Target::Acks, check);
        }
    }

    #[test]
    #[ignore = "run in a process of its own by the test above"]
    fn panics() {
        apart(|input| assert!(input.bytes().len() < 20, "it is a flaw"));
    }

    #[test]
    #[ignore = "run in a process of its own by the test above"]
    fn takes_memory() {
        apart(|input| {
            if input.bytes().len() > 20 {
                drop(black_box(Vec::<u8>::with_capacity(2 << 30)));
            }
        });
    }

    #[test]
    #[ignore = "run in a process of its own by the test above"]
    fn breaks_its_stack() {
        apart(|input| {
            let depth = if input.bytes().len() > 20 { u64::MAX } else { 1 };
            assert!(deep(depth) > 0);
        });
    }

    fn deep(rest: u64) -> u64 {
        match rest {
            0 => 1,
            rest => black_box(deep(black_box(rest - 1))) + 1,
        }
    }

    #[test]
    #[ignore = "run in a process of its own by the test above"]
    fn hangs() {
        apart(|input| {
            while input.bytes().len() > 20 {
                std::thread::park();
            }
        });
    }

    #[test]
    #[ignore = "run in a process of its own by the test above"]
    fn passes() {
        apart(|input| drop(input.bytes()));
    }
}
