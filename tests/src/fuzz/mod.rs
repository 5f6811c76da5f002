//! What others wrote, made worse: inputs for whatever reads it.
//!
//! [`Target`] lists all that is tried. Its inputs begin with a kept corpus, the files in `fuzz/corpus`: right ones, each known
//! trap, each past failure. Changes of those follow, and bytes drawn at random. A reader without a database is tried by
//! [`apart`]: in a process of its own, which may take [`MEMORY_KIB`] and so long, so that an input at which it hangs, takes all
//! memory or breaks its stack is caught and shown. What needs a database takes [`inputs_of`].

mod corpus;
mod input;
mod mutation;
mod process;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use corpus::Corpus;
pub use input::Input;
pub use process::{CURRENT, MEMORY_KIB, apart, run_apart};

/// How many inputs each target is tried with, beside its corpus; see [`Target::inputs`].
pub const INPUTS: &str = "STOCKLOOP_FUZZ_INPUTS";

/// As many, where nobody says it.
const USUAL_INPUTS: u32 = 1_000;

/// What reads something that others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A message of an event.
    Envelope,
    /// The answers to events.
    Acks,
    /// Frames of PostgreSQL's log, and what they bring.
    Log,
    /// What two sides of a verification ask and answer.
    Replica,
    /// A file of products, CSV or NDJSON.
    Products,
    /// Bodies of requests to product-service.
    Bodies,
    /// Filters of the operators' lists and jobs.
    Filters,
    /// Whole requests to product-service, on a database.
    Requests,
    /// Requests for the operators' lists, on a database.
    Lists,
    /// Messages among good ones, at a consumer with its database.
    Inbox,
    /// Answers among good ones, at the sender with its database.
    Settler,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Envelope,
        Self::Acks,
        Self::Log,
        Self::Replica,
        Self::Products,
        Self::Bodies,
        Self::Filters,
        Self::Requests,
        Self::Lists,
        Self::Inbox,
        Self::Settler,
    ];

    /// The folder of its corpus.
    pub const fn corpus(self) -> &'static str {
        match self {
            Self::Envelope | Self::Inbox => "envelope",
            Self::Acks | Self::Settler => "acks",
            Self::Log => "log",
            Self::Replica => "replica",
            Self::Products => "products",
            Self::Bodies => "bodies",
            Self::Filters | Self::Lists => "filters",
            Self::Requests => "requests",
        }
    }

    /// The file of the test that tries it.
    pub const fn test(self) -> &'static str {
        match self {
            Self::Envelope => "engine/src/kafka/hostile.rs",
            Self::Acks => "engine/src/outbox/acks.rs",
            Self::Log => "engine/src/outbox/log/decode/tests.rs",
            Self::Replica => "engine/src/verify/tests/wire.rs",
            Self::Products => "standalone/src/products/tests/hostile.rs",
            Self::Bodies | Self::Requests => "product-service/src/inventory/tests/hostile.rs",
            Self::Filters | Self::Lists => "admin/src/api/tests/hostile.rs",
            Self::Inbox => "engine/src/inbox/tests/hostile.rs",
            Self::Settler => "engine/src/outbox/tests/hostile.rs",
        }
    }

    /// How many inputs it is tried with beside its corpus: as many as [`INPUTS`] says, else 1,000; where each needs a database, a
    /// tenth of that.
    pub fn inputs(self) -> u32 {
        let told = std::env::var(INPUTS).ok();
        let told = told.map(|told| told.parse().expect("STOCKLOOP_FUZZ_INPUTS is a number"));
        let inputs: u32 = told.unwrap_or(USUAL_INPUTS);
        match self {
            Self::Requests | Self::Lists | Self::Inbox | Self::Settler => inputs / 10,
            _ => inputs,
        }
    }
}

/// Tries `check` with each input of `target`; one at which it panics is made as small as it can be, and told.
pub fn each(target: Target, check: impl Fn(&Input)) {
    let corpus = Corpus::of(target);
    for (name, input) in corpus.seeds() {
        // The last one is the one that failed.
        println!("{name}");
        check(input);
    }
    let outcome = runner(target).run(&corpus.inputs(), |input| {
        check(&input);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{target:?}: {error}\nkeep it in fuzz/corpus/{}", target.corpus());
    }
}

/// All inputs of `target`, for those who try many at a time.
pub fn inputs_of(target: Target) -> Vec<Input> {
    let corpus = Corpus::of(target);
    let (mut runner, inputs) = (runner(target), corpus.inputs());
    let drawn = (0..target.inputs())
        .map(|_| inputs.new_tree(&mut runner).expect("an input can be made of anything").current());
    let drawn: Vec<Input> = drawn.collect();
    corpus.seeds().map(|(_, input)| input.clone()).chain(drawn).collect()
}

fn runner(target: Target) -> TestRunner {
    TestRunner::new(Config {
        cases: target.inputs(),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_target_has_a_corpus_and_is_tried() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for target in Target::ALL {
            let count = Corpus::of(target).seeds().count();
            assert!(count >= 3, "{target:?} has {count} files");
            let test = fs::read_to_string(workspace.join(target.test())).unwrap();
            assert!(test.contains(&format!("Target::{target:?}")), "{target:?}");
        }
        let folders = fs::read_dir(workspace.join("fuzz/corpus")).unwrap();
        let folders: BTreeSet<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let wanted: BTreeSet<String> = Target::ALL.map(|target| target.corpus().to_owned()).into();
        assert_eq!(folders, wanted);
    }
}
