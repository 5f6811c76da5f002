//! The program under test.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use stockloop_tests::program::{Outcome, Program};

use super::catcher::serve;
use crate::system::TestSystem;

/// The program, and what it is told of the system.
#[derive(Clone)]
pub(super) struct Judge {
    args: Vec<String>,
}

impl Judge {
    pub(super) fn new(system: &TestSystem) -> Self {
        let catcher = serve(system.mails.later_mails());
        let args = [
            ("--product-database", system.product.database_url()),
            ("--order-database", system.order.database_url()),
            ("--product-name", system.topics.product()),
            ("--order-name", system.topics.order()),
            ("--product-topic", system.topics.events()),
            ("--order-topic", system.topics.orders()),
            ("--brokers", system.topics.brokers()),
            ("--mail", catcher.as_str()),
            ("--json", "check.json"),
        ];
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]);
        Self { args: args.collect() }
    }

    pub(super) fn run(&self, more: &[&str]) -> Outcome {
        let args = self.args.iter().map(String::as_str);
        let args: Vec<&str> =
            std::iter::once("check").chain(args).chain(more.iter().copied()).collect();
        let program = Program::built("stockloop-loadgen");
        let outcome = program.run(&args, &[]);
        let written = fs::read(program.folder().join("check.json"));
        let stdout = written.map_or_else(
            |_| outcome.stdout.clone(),
            |json| String::from_utf8_lossy(&json).into_owned(),
        );
        Outcome { stdout, ..outcome }
    }

    /// Whether it finds exactly the kinds `expected`, at rest.
    #[track_caller]
    pub(super) fn assert_finds(&self, expected: &[&str], what: &str) {
        let outcome = self.run(&["--settled"]);
        let report: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{what}: {error}: {outcome:?}"));
        let findings = report["findings"].as_array().expect("a list");
        let kinds: BTreeSet<&str> =
            findings.iter().filter_map(|finding| finding["kind"].as_str()).collect();
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        assert_eq!(kinds, expected, "{what}: {report:#}");
        assert_eq!(report["whole"], true, "{what}: {report:#}");
        let code = i32::from(!expected.is_empty());
        assert_eq!(outcome.code, Some(code), "{what}: {}", outcome.stderr);
    }
}
