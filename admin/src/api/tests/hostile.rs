//! Filters that nobody would think of.

use std::time::Duration;

use actix_web::http::Uri;
use actix_web::test::TestRequest;
use common::http::{Params, ProblemResult};
use common::ids::EventId;
use engine::bulk::Selection;
use engine::outbox::search::EventFilter;
use stockloop_tests::fuzz::{self, Target};
use stockloop_tests::on_every_database;
use tokio::time::timeout;

use super::fixture::{AdminFixture, Is};
use crate::api::events::search::filter_of;

/// How long one request may take.
const LONGEST: Duration = Duration::from_secs(20);

/// The lists with filters of different kinds.
const LISTS: [&str; 7] =
    ["events", "alerts", "audit", "dead-letters", "quarantine", "silences", "users"];

#[test]
fn any_filter_is_read_or_refused() {
    fuzz::apart(Target::Filters, |input| {
        let bytes = input.bytes();
        if let Ok(selection) = serde_json::from_slice::<Selection>(&bytes) {
            assert_is_kept(&selection);
        }
        match asked(&String::from_utf8_lossy(&bytes)) {
            Ok(filter) => assert_is_kept(&Selection::Filter(filter)),
            Err(problem) => {
                assert!(matches!(problem.status, 400 | 422), "{problem:?}");
                assert!(!problem.detail.is_empty(), "{problem:?}");
            }
        }
    });
}

/// A job keeps what it is for as JSON, and reads that again at each step.
fn assert_is_kept(selection: &Selection) {
    let kept = serde_json::to_string(selection).unwrap();
    assert_eq!(serde_json::from_str::<Selection>(&kept).unwrap(), *selection, "{kept}");
}

fn asked(query: &str) -> ProblemResult<EventFilter> {
    let mut params = Params::parse(query)?;
    let filter = filter_of(&mut params)?;
    params.limit()?;
    params.take::<EventId>("after", "the `next` of a page")?;
    params.finish()?;
    Ok(filter)
}

on_every_database!(AdminFixture::new => no_filter_is_the_services_fault);

async fn no_filter_is_the_services_fault(fixture: AdminFixture) {
    fixture.event("TEA", 1, Is::Exhausted).await;
    for (number, input) in fuzz::inputs_of(Target::Lists).iter().enumerate() {
        let query = String::from_utf8_lossy(&input.bytes()).into_owned();
        let list = LISTS[number % LISTS.len()];
        for list in ["events", list] {
            let address = format!("/api/admin/v1/{list}?{query}");
            // What no HTTP server takes for an address does not come this far.
            if address.parse::<Uri>().is_err() {
                continue;
            }
            let answer = timeout(LONGEST, fixture.call(TestRequest::get().uri(&address))).await;
            let answer = answer.unwrap_or_else(|_late| panic!("there is no answer to {address}"));
            assert!(answer.status < 500, "{answer:?} to {address}");
        }
    }
    assert_eq!(fixture.get("/events?key=TEA").await.items("key"), ["TEA"]);
}
