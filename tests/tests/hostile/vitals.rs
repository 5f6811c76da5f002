//! What has to go on whatever clients do: probes, operators and the loop.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::Value;
use stockloop_tests::poll::eventually;

use super::usage::Usage;
use crate::system::{DEADLINE, TestService, text};

/// How long an answer may take meanwhile: far more than it does, for a busy machine.
const LONGEST: Duration = Duration::from_secs(25);

/// What was seen of a service while it was attacked.
pub(super) struct Vitals {
    pid: u32,
    begun: Usage,
    most: Cell<Usage>,
    rounds: Cell<u32>,
}

impl Vitals {
    pub(super) fn of(pid: u32) -> Self {
        let begun = Usage::of(pid);
        Self { pid, begun, most: Cell::new(begun), rounds: Cell::new(0) }
    }

    /// Carries out `attack`; meanwhile, again and again, probes and an operator are answered and a change becomes PROCESSED.
    pub(super) async fn hold<T>(
        &self,
        product: &TestService,
        attack: impl Future<Output = T>,
    ) -> T {
        let is_over = Cell::new(false);
        let attack = async {
            let done = attack.await;
            is_over.set(true);
            done
        };
        let rounds = async {
            while !is_over.get() {
                self.round(product).await;
            }
        };
        tokio::join!(attack, rounds).0
    }

    async fn round(&self, product: &TestService) {
        let get = async |path: &str| {
            let begun = Instant::now();
            let answer = product.get(path).await;
            let took = begun.elapsed();
            assert!(answer.status.is_success() && took < LONGEST, "{took:?}: {answer:?}");
            answer.body
        };
        self.look();
        get("/health/live").await;
        get("/health/ready").await;
        get("/api/admin/v1/overview").await;
        product.adjust("TEA", 1).await;
        let event = product.newest_event("TEA").await;
        eventually("the change to be PROCESSED", DEADLINE, async || {
            self.look();
            let event: Value = get(&format!("/api/admin/v1/events/{event}")).await;
            let status = text(&event["status"]);
            if status == "PROCESSED" { Ok(()) } else { Err(status) }
        })
        .await;
        self.rounds.set(self.rounds.get() + 1);
    }

    fn look(&self) {
        self.most.set(self.most.get().or_more(Usage::of(self.pid)));
    }

    /// How many files it has open beside those that it had at the beginning.
    pub(super) fn more_files(&self) -> u64 {
        Usage::of(self.pid).files.saturating_sub(self.begun.files)
    }

    /// Checks how much more it took at the most, and says it.
    pub(super) fn assert_bounded(&self, files: u64, memory: u64) {
        let most = self.most.get();
        let (more_files, more_memory) = (
            most.files.saturating_sub(self.begun.files),
            most.memory.saturating_sub(self.begun.memory),
        );
        println!(
            "{} rounds, {more_files} files and {more_memory} KiB more at the most",
            self.rounds.get()
        );
        assert!(more_files <= files, "{more_files} files more than {:?}", self.begun);
        assert!(more_memory <= memory, "{more_memory} KiB more than {:?}", self.begun);
    }
}
