//! The read with details over HTTP, over a real copy.

use std::sync::Arc;
use std::time::Duration;

use common::env::Env;
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::stub_peer::{Behaviour, StubPeer, sample, unreachable_peer};
use crate::details::DetailsClient;
use crate::inventory::tests::copy_fixture::{CopyFixture, tombstone};

const ASKED: &str = "/inventory/A?details=true";

fn peer_of(fixture: &CopyFixture, behaviour: Behaviour) -> StubPeer {
    let peer = StubPeer::start(behaviour);
    let env = Env::seeded(Arc::new(fixture.clock.clone()), 1);
    fixture.details.replace(DetailsClient::new(&peer.settings(), env).unwrap());
    peer
}

async fn adds_the_details_to_the_copy(fixture: &CopyFixture) {
    let peer = peer_of(fixture, Behaviour::Normal);
    fixture.apply(vec![fixture.event("A", 1, 3)]).await;
    let plain = fixture.get("/inventory/A").await.body;
    let fresh = fixture.get(ASKED).await;
    assert_eq!((fresh.status.as_u16(), fresh.header("etag")), (200, ""));
    let mut expected = plain.clone();
    expected["details"] = sample("A");
    expected["details"].as_object_mut().unwrap().remove("weight_grams");
    expected["details_status"] = json!("fresh");
    assert_eq!(fresh.body, expected);

    fixture.clock.advance(Duration::from_millis(7_999));
    let cached = fixture.get(ASKED).await;
    expected["details_status"] = json!("cached");
    expected["details_age_seconds"] = json!(7);
    expected["age_seconds"] = json!(7);
    assert_eq!((cached.status.as_u16(), cached.body), (200, expected));
    assert_eq!(fixture.send("HEAD", ASKED, &[]).await.status, 200);
    assert_eq!(peer.calls().len(), 1);
}

async fn says_why_there_are_none(fixture: &CopyFixture) {
    let peer = peer_of(fixture, Behaviour::Status(503));
    fixture.apply(vec![fixture.event("A", 1, 3)]).await;
    let mut expected = fixture.get("/inventory/A").await.body;
    expected["details"] = Value::Null;
    expected["details_status"] = json!("unavailable");
    expected["details_reason"] = json!("product-service answered with status 503");
    let answer = fixture.get(ASKED).await;
    assert_eq!((answer.status.as_u16(), &answer.body), (200, &expected));

    fixture
        .details
        .replace(DetailsClient::new(&unreachable_peer(), fixture.inventory.env.clone()).unwrap());
    expected["details_reason"] = json!("product-service can't be reached");
    assert_eq!(fixture.get(ASKED).await.body, expected);

    let peer = {
        peer.stop().await;
        peer_of(fixture, Behaviour::Unknown)
    };
    expected["details_status"] = json!("unknown");
    expected.as_object_mut().unwrap().remove("details_reason");
    assert_eq!(fixture.get(ASKED).await.body, expected);
    assert_eq!(peer.calls().len(), 1);
}

async fn asks_for_nothing_that_is_not_there_or_not_wanted(fixture: &CopyFixture) {
    let peer = peer_of(fixture, Behaviour::Normal);
    fixture.get(ASKED).await.assert_problem(404, "not-found", "sku");
    fixture.apply(vec![fixture.event_of("A", 1, tombstone("A", 2))]).await;
    fixture.get(ASKED).await.assert_problem(404, "not-found", "sku");
    fixture.apply(vec![fixture.event("A", 1, 3)]).await;
    let plain = fixture.get("/inventory/A").await;
    assert_eq!((plain.header("etag"), &plain.body["details"]), ("\"3\"", &Value::Null));
    assert_eq!(fixture.get("/inventory/A?details=false").await.body, plain.body);
    assert_eq!(plain.body.get("details_status"), None);
    for bad in ["1", "TRUE", "yes"] {
        let path = format!("/inventory/A?details={bad}");
        fixture.get(&path).await.assert_problem(422, "invalid", "details");
    }
    assert_eq!(peer.calls().len(), 0);
}

/// Details change while the version stays, so a reader that knows the version knows nothing of them.
async fn answers_in_full_whatever_the_reader_knows(fixture: &CopyFixture) {
    let _peer = peer_of(fixture, Behaviour::Normal);
    fixture.apply(vec![fixture.event("A", 1, 3)]).await;
    let known = [("if-none-match", "\"3\"")];
    assert_eq!(fixture.send("GET", "/inventory/A", &known).await.status, 304);
    let answer = fixture.send("GET", ASKED, &known).await;
    assert_eq!((answer.status.as_u16(), &answer.body["details_status"]), (200, &json!("fresh")));
}

on_every_database!(&CopyFixture::new =>
    adds_the_details_to_the_copy,
    says_why_there_are_none,
    asks_for_nothing_that_is_not_there_or_not_wanted,
    answers_in_full_whatever_the_reader_knows,
);
