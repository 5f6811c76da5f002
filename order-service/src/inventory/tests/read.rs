//! Reading the copy.

use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::copy_fixture::{CopyFixture, tombstone};

async fn tells_the_version_and_how_old_it_is(fixture: &CopyFixture) {
    fixture.get("/inventory/A").await.assert_problem(404, "not-found", "sku");
    fixture.apply(vec![fixture.event("A", 1, 3)]).await;
    fixture.clock.advance(Duration::from_millis(90_999));
    let answer = fixture.get("/inventory/A").await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, "\"3\""));
    assert_eq!(
        answer.body,
        json!({"sku": "A", "description": "HEART", "quantity": 30, "reserved": 0,
            "available": 30, "unit_price_minor": 255,
            "allow_backorder": false, "version": 3, "updated_at": "2010-12-01T08:25:58.500000Z",
            "applied_at": "2010-12-01T08:26:00.000000Z", "replication_delay_ms": 1500,
            "age_seconds": 90})
    );
    let known = fixture.send("GET", "/inventory/A", &[("if-none-match", "\"3\"")]).await;
    assert_eq!((known.status.as_u16(), known.body), (304, Value::Null));
    assert_eq!(fixture.send("HEAD", "/inventory/A", &[]).await.status, 200);
}

/// The source's clock may be ahead of ours.
async fn a_delay_is_never_below_zero(fixture: &CopyFixture) {
    let mut data = super::copy_fixture::snapshot("A", 1);
    data["updated_at"] = json!("2010-12-01T08:27:00Z");
    fixture.apply(vec![fixture.event_of("A", 1, data)]).await;
    assert_eq!(fixture.get("/inventory/A").await.body["replication_delay_ms"], 0);
}

async fn a_removed_product_is_not_there(fixture: &CopyFixture) {
    fixture.apply(vec![fixture.event_of("A", 1, tombstone("A", 2))]).await;
    let answer = fixture.get("/inventory/A").await;
    answer.assert_problem(404, "not-found", "sku");
    assert!(answer.body["detail"].as_str().unwrap().contains("version 2"));
    assert_eq!(fixture.get("/inventory").await.body, json!({"items": []}));
}

async fn lists_page_by_page_in_bytewise_order(fixture: &CopyFixture) {
    let skus = ["b", "é", "B", "a", "A", "10", "9"];
    let events = skus.iter().map(|sku| fixture.event(sku, 1, 1)).collect();
    fixture.apply(events).await;
    let mut seen = Vec::new();
    let mut path = "/inventory?limit=3".to_owned();
    loop {
        let page = fixture.get(&path).await.body;
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["sku"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/inventory?limit=3&after={next}");
    }
    assert_eq!(seen, ["10", "9", "A", "B", "a", "b", "é"]);
}

async fn refuses_what_can_not_be_asked(fixture: &CopyFixture) {
    for (path, field) in [
        ("/inventory?limit=0", "limit"),
        ("/inventory?page=1", "query"),
        ("/inventory?after=%00", "after"),
        ("/inventory/a%0Ab", "sku"),
        ("/inventory/", "sku"),
    ] {
        fixture.get(path).await.assert_problem(422, "invalid", field);
    }
    for path in ["/inventory", "/inventory/A"] {
        let answer = fixture.send("PUT", path, &[]).await;
        answer.assert_problem(405, "method-not-allowed", "");
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
}

on_every_database!(&CopyFixture::new =>
    tells_the_version_and_how_old_it_is,
    a_delay_is_never_below_zero,
    a_removed_product_is_not_there,
    lists_page_by_page_in_bytewise_order,
    refuses_what_can_not_be_asked,
);
