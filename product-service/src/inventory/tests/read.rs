//! Reading, listing, and how products are named in addresses.

use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, content};

async fn reads_one_with_its_version(fixture: &ProductFixture) {
    fixture.get("/inventory/A").await.assert_problem(404, "not-found", "sku");
    fixture.stock("A", 5).await;
    let read = async |value: &str| {
        fixture.send("GET", "/inventory/A", &[("if-none-match", value)], Value::Null).await
    };
    let same = read("\"1\"").await;
    assert_eq!((same.status.as_u16(), same.header("etag")), (304, "\"1\""));
    assert_eq!(read("W/\"1\"").await.status, 304);
    assert_eq!(read("*").await.status, 304);
    assert_eq!(read("\"2\"").await.status, 200);
    let head = fixture.send("HEAD", "/inventory/A", &[], Value::Null).await;
    assert_eq!((head.status.as_u16(), head.header("etag")), (200, "\"1\""));
}

async fn lists_page_by_page_in_bytewise_order(fixture: &ProductFixture) {
    for sku in ["b", "%C3%A9", "B", "a", "A", "10", "9", "removed"] {
        fixture.stock(sku, 1).await;
    }
    fixture.delete("removed", &[]).await;
    let mut seen = Vec::new();
    let mut path = "/inventory?limit=3".to_owned();
    loop {
        let page = fixture.get(&path).await.body;
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["sku"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        assert_eq!(items.len(), 3);
        path = format!("/inventory?limit=3&after={next}");
    }
    assert_eq!(seen, ["10", "9", "A", "B", "a", "b", "é"]);
    let all = fixture.get("/inventory").await.body;
    assert_eq!(all["items"].as_array().unwrap().len(), 7);
    assert_eq!(all["next"], Value::Null);
}

async fn refuses_pages_that_can_not_be(fixture: &ProductFixture) {
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "query"),
        ("page=2", "query"),
        ("after=%00", "after"),
        ("after=", "after"),
    ] {
        let answer = fixture.get(&format!("/inventory?{query}")).await;
        answer.assert_problem(422, "invalid", field);
    }
}

async fn takes_any_sku_that_an_address_can_name(fixture: &ProductFixture) {
    for (segment, sku) in [
        ("a%2Fb", "a/b"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("100%25", "100%"),
        ("%252F", "%2F"),
        ("Gr%C3%B6%C3%9Fe", "Größe"),
        ("%E6%97%A5%E6%9C%AC", "日本"),
        ("adjustments", "adjustments"),
        ("a%3Fb%23c", "a?b#c"),
    ] {
        let created = fixture.put(segment, &[], content(1)).await;
        assert_eq!((created.status.as_u16(), &created.body["sku"]), (201, &json!(sku)));
        let location = created.header("location").replace("/api/v1", "");
        assert_eq!(fixture.get(&location).await.body["sku"], sku);
        let path = format!("{location}/adjustments");
        let body = json!({"delta": 1, "reason": "x"});
        assert_eq!(fixture.send("POST", &path, &[], body).await.body["sku"], sku);
    }
}

async fn refuses_what_is_no_sku(fixture: &ProductFixture) {
    let long = "x".repeat(65);
    for segment in ["", &long, "a%0Ab", "%00", "a%C2%85", "%20a", "a%20", "%FF", "%2E%2E"] {
        let answer = fixture.put(segment, &[], content(1)).await;
        answer.assert_problem(422, "invalid", "sku");
        let answer = fixture.get(&format!("/inventory/{segment}")).await;
        answer.assert_problem(422, "invalid", "sku");
    }
    assert!(fixture.rows().await.is_empty());
}

async fn says_which_methods_there_are(fixture: &ProductFixture) {
    for (method, path, allow) in [
        ("POST", "/inventory/A", "GET, HEAD, PUT, DELETE"),
        ("DELETE", "/inventory", "GET, HEAD, POST"),
        ("GET", "/adjustments", "POST"),
        ("PUT", "/inventory/A/adjustments", "POST"),
    ] {
        let answer = fixture.send(method, path, &[], Value::Null).await;
        answer.assert_problem(405, "method-not-allowed", "");
        assert_eq!(answer.header("allow"), allow);
    }
}

on_every_database!(&ProductFixture::new =>
    reads_one_with_its_version,
    lists_page_by_page_in_bytewise_order,
    refuses_pages_that_can_not_be,
    takes_any_sku_that_an_address_can_name,
    refuses_what_is_no_sku,
    says_which_methods_there_are,
);
