//! The read with details over HTTP, over a real copy.

use std::sync::Arc;
use std::time::Duration;

use common::env::Env;
use serde_json::{Value, json};

use super::peer::{Manner, Peer, nobody, sample};
use crate::details::Details;
use crate::inventory::tests::on_both_databases;
use crate::inventory::tests::replica::{Replica, tombstone};

const ASKED: &str = "/inventory/A?details=true";

fn peer_of(replica: &Replica, manner: Manner) -> Peer {
    let peer = Peer::start(manner);
    let env = Env::seeded(Arc::new(replica.clock.clone()), 1);
    replica.details.replace(Details::new(&peer.settings(), env).unwrap());
    peer
}

async fn adds_the_details_to_the_copy(replica: &Replica) {
    let peer = peer_of(replica, Manner::Well);
    replica.apply(vec![replica.event("A", 1, 3)]).await;
    let plain = replica.get("/inventory/A").await.body;
    let fresh = replica.get(ASKED).await;
    assert_eq!((fresh.status.as_u16(), fresh.header("etag")), (200, ""));
    let mut expected = plain.clone();
    expected["details"] = sample("A");
    expected["details"].as_object_mut().unwrap().remove("weight_grams");
    expected["details_status"] = json!("fresh");
    assert_eq!(fresh.body, expected);

    replica.clock.advance(Duration::from_millis(7_999));
    let cached = replica.get(ASKED).await;
    expected["details_status"] = json!("cached");
    expected["details_age_seconds"] = json!(7);
    expected["age_seconds"] = json!(7);
    assert_eq!((cached.status.as_u16(), cached.body), (200, expected));
    assert_eq!(replica.send("HEAD", ASKED, &[]).await.status, 200);
    assert_eq!(peer.calls().len(), 1);
}

async fn says_why_there_are_none(replica: &Replica) {
    let peer = peer_of(replica, Manner::Status(503));
    replica.apply(vec![replica.event("A", 1, 3)]).await;
    let mut expected = replica.get("/inventory/A").await.body;
    expected["details"] = Value::Null;
    expected["details_status"] = json!("unavailable");
    expected["details_reason"] = json!("product-service answered with status 503");
    let answer = replica.get(ASKED).await;
    assert_eq!((answer.status.as_u16(), &answer.body), (200, &expected));

    replica.details.replace(Details::new(&nobody(), replica.inventory.env.clone()).unwrap());
    expected["details_reason"] = json!("product-service can't be reached");
    assert_eq!(replica.get(ASKED).await.body, expected);

    let peer = {
        peer.stop().await;
        peer_of(replica, Manner::Unknown)
    };
    expected["details_status"] = json!("unknown");
    expected.as_object_mut().unwrap().remove("details_reason");
    assert_eq!(replica.get(ASKED).await.body, expected);
    assert_eq!(peer.calls().len(), 1);
}

async fn asks_for_nothing_that_is_not_there_or_not_wanted(replica: &Replica) {
    let peer = peer_of(replica, Manner::Well);
    replica.get(ASKED).await.assert_problem(404, "not-found", "sku");
    replica.apply(vec![replica.event_of("A", 1, tombstone("A", 2))]).await;
    replica.get(ASKED).await.assert_problem(404, "not-found", "sku");
    replica.apply(vec![replica.event("A", 1, 3)]).await;
    let plain = replica.get("/inventory/A").await;
    assert_eq!((plain.header("etag"), &plain.body["details"]), ("\"3\"", &Value::Null));
    assert_eq!(replica.get("/inventory/A?details=false").await.body, plain.body);
    assert_eq!(plain.body.get("details_status"), None);
    for bad in ["1", "TRUE", "yes"] {
        let path = format!("/inventory/A?details={bad}");
        replica.get(&path).await.assert_problem(422, "invalid", "details");
    }
    assert_eq!(peer.calls().len(), 0);
}

/// Details change while the version stays, so a reader that knows the version knows nothing of them.
async fn answers_in_full_whatever_the_reader_knows(replica: &Replica) {
    let _peer = peer_of(replica, Manner::Well);
    replica.apply(vec![replica.event("A", 1, 3)]).await;
    let known = [("if-none-match", "\"3\"")];
    assert_eq!(replica.send("GET", "/inventory/A", &known).await.status, 304);
    let answer = replica.send("GET", ASKED, &known).await;
    assert_eq!((answer.status.as_u16(), &answer.body["details_status"]), (200, &json!("fresh")));
}

on_both_databases![
    adds_the_details_to_the_copy,
    says_why_there_are_none,
    asks_for_nothing_that_is_not_there_or_not_wanted,
    answers_in_full_whatever_the_reader_knows,
];
