//! Bodies that are not as they have to be: the field and the reason, and nothing written.

use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, content};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// `base` with one field set, or taken out where the value is null.
fn with(base: &Value, field: &str, value: Value) -> Value {
    let mut body = base.clone();
    let fields = body.as_object_mut().unwrap();
    if value.is_null() {
        fields.remove(field);
    } else {
        fields.insert(field.to_owned(), value);
    }
    body
}

async fn a_product_has_to_be_whole_and_in_range(fixture: &ProductFixture) {
    for (field, value) in [
        ("description", json!("x".repeat(1_001))),
        ("description", json!("a\nb")),
        ("description", json!("a\u{0}b")),
        ("description", json!(5)),
        ("quantity", json!(1.5)),
        ("quantity", json!("5")),
        ("quantity", json!(u64::MAX)),
        ("quantity", json!(-1)),
        ("quantity", json!(true)),
        ("unit_price_minor", json!(-1)),
        ("unit_price_minor", json!(2.55)),
        ("unit_price_minor", json!("255")),
        ("allow_backorder", json!("yes")),
        ("allow_backorder", json!(1)),
        ("colour", json!("red")),
        ("version", json!(1)),
    ] {
        let body = with(&content(1), field, value);
        let answer = fixture.put("A", &[], body).await;
        answer.assert_problem(422, "invalid", field);
    }
    for field in ["description", "quantity", "unit_price_minor"] {
        let answer = fixture.put("A", &[], with(&content(1), field, Value::Null)).await;
        answer.assert_problem(422, "invalid", field);
    }
    assert!(fixture.rows().await.is_empty());
    assert!(fixture.events().await.is_empty());
}

async fn a_product_may_be_extreme(fixture: &ProductFixture) {
    let body = json!({"description": "ß".repeat(1_000), "quantity": i64::MAX, "unit_price_minor": i64::MAX});
    let answer = fixture.put("A", &[], body.clone()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["quantity"], i64::MAX);
    assert_eq!(answer.body["description"], body["description"]);
    let empty = with(&content(0), "description", json!(""));
    assert_eq!(fixture.put("A", &[], empty).await.status, 200);
}

async fn an_adjustment_has_to_say_why_and_how_much(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let good = json!({"delta": 1, "reason": "sale", "reference": "1"});
    for (field, value) in [
        ("delta", json!(0)),
        ("delta", json!(0.5)),
        ("delta", json!("1")),
        ("delta", json!(u64::MAX)),
        ("reason", json!("")),
        ("reason", json!("  ")),
        ("reason", json!("x".repeat(201))),
        ("reason", json!("a\tb")),
        ("reference", json!("")),
        ("reference", json!("x".repeat(201))),
        ("reference", json!("536365\u{200b}")),
        ("reference", json!("cafe\u{301}")),
        ("reference", json!(" 536365")),
        ("reference", json!(1)),
        ("sku", json!("A")),
    ] {
        let answer = fixture.adjust("A", &[], with(&good, field, value)).await;
        answer.assert_problem(422, "invalid", field);
    }
    assert_eq!(fixture.rows().await[0].version, 1);
}

async fn a_new_product_must_not_look_like_another(fixture: &ProductFixture) {
    for (sku, says) in [
        ("TEA%E2%80%8B", "U+200B at character 4"),
        ("%E2%80%AEAET", "U+202E at character 1"),
        ("cafe%CC%81", "not in NFC: write café"),
        ("T%EE%80%80", "U+E000 at character 2"),
    ] {
        let refused = fixture.put(sku, &[], content(1)).await;
        refused.assert_problem(422, "invalid", "sku");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{detail}");
    }
    assert!(fixture.rows().await.is_empty());
    assert_eq!(fixture.put("caf%C3%A9", &[], content(1)).await.status, 201);
}

async fn an_old_product_keeps_its_sku(fixture: &ProductFixture) {
    fixture.stock("TEA", 5).await;
    fixture.rename("TEA", "TEA\u{200b}").await;
    let old = "TEA%E2%80%8B";
    let shown = fixture.get(&format!("/inventory/{old}")).await;
    assert_eq!((shown.status.as_u16(), &shown.body["sku"]), (200, &json!("TEA\u{200b}")));
    let sale = json!({"delta": -1, "reason": "sale"});
    assert_eq!(fixture.adjust(old, &[], sale).await.status, 200);
    let line = json!([{"sku": "TEA\u{200b}", "delta": -1, "reason": "sale"}]);
    assert_eq!(fixture.batch(&[], line).await.body["accepted"], 1);
    assert_eq!(fixture.put(old, &[], content(9)).await.status, 200);
    assert_eq!(fixture.events().await.last().unwrap().key, "TEA\u{200b}");
    assert_eq!(fixture.delete(old, &[]).await.status, 204);
    let gone = fixture.get(&format!("/inventory/{old}")).await;
    gone.assert_problem(404, "not-found", "sku");
    assert!(gone.body["detail"].as_str().unwrap().contains(r"TEA\u{200b}"), "{gone:?}");
    fixture.put(old, &[], content(1)).await.assert_problem(422, "invalid", "sku");
}

async fn numbers_are_whole_as_they_are_written(fixture: &ProductFixture) {
    let put = async |number: &str| {
        let body = format!(r#"{{"description":"","quantity":{number},"unit_price_minor":1}}"#);
        fixture.send_bytes("PUT", "/inventory/A", &JSON, body.into_bytes()).await
    };
    for number in
        ["1e3", "5.0", "9223372036854775808", "-9223372036854775809", "99999999999999999999"]
    {
        put(number).await.assert_problem(422, "invalid", "quantity");
    }
    for number in ["1e999", "05", "+5", "0x5", "NaN"] {
        put(number).await.assert_problem(400, "malformed", "");
    }
    assert_eq!(put("9223372036854775807").await.status, 201);
}

async fn a_body_has_to_be_json_and_to_say_so(fixture: &ProductFixture) {
    let body = serde_json::to_vec(&content(1)).unwrap();
    let put = async |headers: &[(&str, &str)], body: &[u8]| {
        fixture.send_bytes("PUT", "/inventory/A", headers, body.to_vec()).await
    };
    put(&[], &body).await.assert_problem(415, "unsupported-media-type", "");
    put(&[("content-type", "text/plain")], &body).await.assert_problem(
        415,
        "unsupported-media-type",
        "",
    );
    for bad in
        [&b""[..], b"{", b"nothing", b"{\"description\":\"\xff\"}", &[&body[..], b" x"].concat()]
    {
        put(&JSON, bad).await.assert_problem(400, "malformed", "");
    }
    for wrong in [&b"[]"[..], b"null", b"5", b"[\"HEART\", 1, 255, false]"] {
        put(&JSON, wrong).await.assert_problem(422, "invalid", "");
    }
    let twice = br#"{"description":"","quantity":1,"quantity":2,"unit_price_minor":1}"#;
    put(&JSON, twice).await.assert_problem(422, "invalid", "quantity");
    let large = serde_json::to_vec(&json!({"description": "x".repeat(1 << 20)})).unwrap();
    put(&JSON, &large).await.assert_problem(413, "too-large", "");
    assert!(fixture.rows().await.is_empty());
    let charset = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(put(&charset, &body).await.status, 201);
}

on_every_database!(&ProductFixture::new =>
    a_product_has_to_be_whole_and_in_range,
    a_product_may_be_extreme,
    an_adjustment_has_to_say_why_and_how_much,
    a_new_product_must_not_look_like_another,
    an_old_product_keeps_its_sku,
    numbers_are_whole_as_they_are_written,
    a_body_has_to_be_json_and_to_say_so,
);
