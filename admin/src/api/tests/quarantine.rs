use std::time::Duration;

use engine::inbox::quarantine;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::AdminFixture;

on_every_database!(AdminFixture::new =>
    a_key_goes_in_and_comes_out,
    the_inbox_sees_which_keys_are_in,
    odd_keys_are_keys,
    pages_by_key,
    bad_requests_are_refused,
);

async fn a_key_goes_in_and_comes_out(fixture: AdminFixture) {
    let since = fixture.env.now().to_string();
    let put = fixture.put("/quarantine/85123A", json!({ "reason": "stock take" })).await;
    assert_eq!(put.status, 201, "{put:?}");
    let expected =
        json!({ "key": "85123A", "reason": "stock take", "since": since, "by": "anonymous" });
    assert_eq!(put.body, expected);
    fixture.clock.advance(Duration::from_secs(60));
    let again = fixture.put("/quarantine/85123A", json!({ "reason": "stock take" })).await;
    assert_eq!((again.status, &again.body), (200, &expected));
    let other = fixture.put("/quarantine/85123A", json!({ "reason": "flood" })).await;
    assert_eq!((&other.body["reason"], &other.body["since"]), (&json!("flood"), &json!(since)));
    assert_eq!(fixture.get("/quarantine/85123A").await.body, other.body);
    let gone = fixture.delete("/quarantine/85123A").await;
    assert_eq!((gone.status, &gone.body), (204, &json!(null)));
    fixture.delete("/quarantine/85123A").await.is_problem(404, "");
    fixture.get("/quarantine/85123A").await.is_problem(404, "");
}

async fn the_inbox_sees_which_keys_are_in(fixture: AdminFixture) {
    for key in ["A", "B"] {
        fixture.put(&format!("/quarantine/{key}"), json!({ "reason": format!("no {key}") })).await;
    }
    let found = fixture.write(|conn| quarantine::among(conn, &["A", "C", "A"])).await;
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("A".to_owned(), "no A".to_owned())]);
    assert!(fixture.write(|conn| quarantine::among(conn, &[])).await.is_empty());
}

async fn odd_keys_are_keys(fixture: AdminFixture) {
    for (path, key) in
        [("a%2Fb", "a/b"), ("%C3%A9t%C3%A9", "été"), ("a%20b%25", "a b%"), (".%3F", ".?")]
    {
        let put = fixture.put(&format!("/quarantine/{path}"), json!({ "reason": "x" })).await;
        assert_eq!((put.status, &put.body["key"]), (201, &json!(key)), "{put:?}");
        assert_eq!(fixture.delete(&format!("/quarantine/{path}")).await.status, 204);
    }
}

async fn pages_by_key(fixture: AdminFixture) {
    for key in ["b", "a", "d", "c", "e"] {
        fixture.put(&format!("/quarantine/{key}"), json!({ "reason": "x" })).await;
    }
    let (keys, pages) = fixture.walk("/quarantine?limit=2", "key").await;
    assert_eq!((keys.join(""), pages), ("abcde".to_owned(), 3));
}

async fn bad_requests_are_refused(fixture: AdminFixture) {
    let long = "x".repeat(256);
    for (path, body, status, field) in [
        ("A", json!({ "reason": "" }), 422, "reason"),
        ("A", json!({ "reason": 7 }), 422, "reason"),
        ("A", json!({ "reason": "x", "until": "May" }), 422, "until"),
        ("A", json!({}), 422, "reason"),
        ("a%00b", json!({ "reason": "x" }), 422, "key"),
        (&long, json!({ "reason": "x" }), 422, "key"),
        ("%FF", json!({ "reason": "x" }), 422, "key"),
    ] {
        fixture.put(&format!("/quarantine/{path}"), body).await.is_problem(status, field);
    }
    assert_eq!(fixture.get("/quarantine").await.items("key"), [""; 0]);
}
