use std::time::Duration;

use serde_json::json;

use super::fixture::{Bench, Is};
use crate::testing::on_every_database;

on_every_database!(Bench::new =>
    an_empty_database_has_an_overview,
    a_sample_counts_everything,
    a_request_does_not_count,
);

async fn an_empty_database_has_an_overview(bench: Bench) {
    let overview = bench.get("/overview").await;
    assert_eq!(overview.status, 200, "{overview:?}");
    insta::assert_json_snapshot!("an_empty_overview", overview.body);
}

impl Bench {
    /// Something of everything that a sample counts.
    pub(crate) async fn fill(&self) {
        self.event("A", 1, Is::Exhausted).await;
        self.event("B", 1, Is::Sent).await;
        for (is, count) in [(Is::Pending, 3), (Is::Resolved, 2), (Is::Processed, 7)] {
            for version in 0..count {
                self.event("C", version, is).await;
            }
        }
        self.alerts(&["one", "two", "three"]).await;
        self.dead_letter(1, vec![1]).await;
        self.put("/quarantine/Z", json!({ "reason": "x" })).await;
        self.clock.advance(Duration::from_millis(1_500));
    }
}

async fn a_sample_counts_everything(bench: Bench) {
    bench.fill().await;
    let sample = bench.sampler.run_once(&bench.db, &bench.env).await.unwrap();
    assert!(sample.rest() >= Duration::from_secs(1));
    let mut overview = bench.get("/overview").await.body;
    let oldest = overview["oldest_unacknowledged"]["id"].take();
    let sent = bench.get("/events?status=SENT").await.items("id");
    assert_eq!(oldest, sent[0], "the oldest that the loop still has to close");
    insta::assert_json_snapshot!("a_full_overview", overview);
}

async fn a_request_does_not_count(bench: Bench) {
    let first = bench.get("/overview").await.body;
    bench.event("A", 1, Is::Pending).await;
    assert_eq!(bench.get("/overview").await.body, first);
    bench.sampler.run_once(&bench.db, &bench.env).await.unwrap();
    let second = bench.get("/overview").await.body;
    assert_eq!(second["events"]["PENDING"], 1);
    assert_ne!(second["as_of"], first["as_of"]);
}
