//! Batches of products.

use serde_json::{Value, json};
use stockloop_tests::http::TestResponse;
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, backorders, content};

/// A line of a batch, without backorders.
fn product(sku: &str, quantity: i64) -> Value {
    json!({"sku": sku, "description": "HEART", "quantity": quantity, "unit_price_minor": 255})
}

fn with(mut line: Value, field: &str, value: Value) -> Value {
    line[field] = value;
    line
}

async fn put(fixture: &ProductFixture, mode: &str, lines: Value) -> TestResponse {
    let reason = if mode == "adjust_to" { json!("stocktaking") } else { Value::Null };
    let body = json!({"mode": mode, "reason": reason, "lines": lines});
    fixture.send("POST", "/inventory", &[], body).await
}

/// What became of each line, and the version that it says, or the field that it is refused for.
#[track_caller]
fn outcomes(answer: &TestResponse) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let lines = answer.body["lines"].as_array().unwrap();
    for status in ["accepted", "unchanged", "skipped", "refused"] {
        let count = lines.iter().filter(|line| line["status"] == status).count();
        assert_eq!(answer.body[status], count, "{status}");
    }
    let outcome = |(place, line): (usize, &Value)| {
        assert_eq!(line["line"], place);
        let status = line["status"].as_str().unwrap().to_owned();
        let refused = line["problem"]["field"].as_str().and_then(|field| field.split('.').nth(1));
        (status, refused.map_or(line["version"].clone(), |field| json!(field)))
    };
    lines.iter().enumerate().map(outcome).collect()
}

#[track_caller]
fn assert_outcomes(answer: &TestResponse, wanted: &[(&str, Value)]) {
    let wanted: Vec<_> =
        wanted.iter().map(|(status, what)| ((*status).to_owned(), what.clone())).collect();
    assert_eq!(outcomes(answer), wanted);
}

/// The stock, the price and the version of a product.
async fn state(fixture: &ProductFixture, sku: &str) -> (i64, i64, i64) {
    let rows = fixture.rows().await;
    let row = rows.iter().find(|row| row.sku.as_str() == sku).unwrap();
    (row.quantity, row.unit_price_minor, row.version)
}

async fn if_absent_leaves_what_is_there(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    fixture.stock("gone", 1).await;
    fixture.delete("gone", &[]).await;
    let lines = json!([
        product("B", 7),
        product("A", 5),
        product("A", 6),
        product("C", -1),
        product("TEA\u{200b}", 1),
        product("B", 8),
        product("gone", 3),
    ]);
    let answer = put(fixture, "if_absent", lines).await;
    assert_outcomes(
        &answer,
        &[
            ("accepted", json!(1)),
            ("unchanged", json!(1)),
            ("skipped", json!(1)),
            ("refused", json!("quantity")),
            ("refused", json!("sku")),
            ("skipped", json!(1)),
            ("accepted", json!(3)),
        ],
    );
    let told: Vec<Value> = fixture.payloads().await.split_off(3);
    assert_eq!(told.len(), 2);
    assert_eq!((&told[0]["sku"], &told[1]["sku"]), (&json!("B"), &json!("gone")));
    assert_eq!((&told[0]["cause"], &told[1]["removed"]), (&json!({"kind": "put"}), &json!(false)));
    assert_eq!(state(fixture, "A").await, (5, 255, 1));
    assert_eq!(state(fixture, "B").await, (7, 255, 1));
    assert_eq!(fixture.get("/inventory/gone").await.body["quantity"], 3);
    assert_eq!(fixture.rows().await.len(), 3);
}

async fn replace_makes_a_version_of_each_change(fixture: &ProductFixture) {
    fixture.put("A", &[], backorders(-2)).await;
    let dear = with(product("A", 4), "unit_price_minor", json!(300));
    let lines = json!([product("A", -2), dear, dear, product("N", 1), product("N", 2)]);
    let answer = put(fixture, "replace", lines).await;
    assert_outcomes(
        &answer,
        &[
            ("refused", json!("quantity")),
            ("accepted", json!(2)),
            ("unchanged", json!(2)),
            ("accepted", json!(1)),
            ("accepted", json!(2)),
        ],
    );
    assert_eq!(state(fixture, "A").await, (4, 300, 2));
    assert_eq!(state(fixture, "N").await, (2, 255, 2));
    let events = fixture.events().await;
    let told: Vec<_> = events.iter().map(|event| (event.key.as_str(), event.version)).collect();
    assert_eq!(told, [("A", 1), ("A", 2), ("N", 1), ("N", 2)]);
    assert!(fixture.adjustments().await.is_empty());
    assert_eq!(fixture.payloads().await[1]["allow_backorder"], false);
}

async fn adjust_to_keeps_the_way_to_the_count(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    fixture.put("low", &[], backorders(i64::MIN)).await;
    let dear = with(product("A", 9), "unit_price_minor", json!(300));
    let body = json!({"mode": "adjust_to", "reason": "stocktaking", "reference": "2026-01", "lines": [
        product("A", 3), product("A", 3), with(product("A", 3), "description", json!("HEART 2")),
        dear, product("N", 4), with(product("low", i64::MAX), "allow_backorder", json!(true)),
    ]});
    let answer = fixture.send("POST", "/inventory", &[], body).await;
    assert_outcomes(
        &answer,
        &[
            ("accepted", json!(2)),
            ("unchanged", json!(2)),
            ("accepted", json!(3)),
            ("accepted", json!(4)),
            ("accepted", json!(1)),
            ("refused", json!("quantity")),
        ],
    );
    let kept = |delta, quantity, version| {
        let (reason, reference) = ("stocktaking".to_owned(), Some("2026-01".to_owned()));
        ("A".to_owned(), delta, quantity, version, reason, reference)
    };
    assert_eq!(fixture.adjustments().await, [kept(-2, 3, 2), kept(6, 9, 4)]);
    assert_eq!(state(fixture, "A").await, (9, 300, 4));
    let told = fixture.payloads().await.split_off(2);
    let kinds: Vec<_> = told.iter().map(|told| told["cause"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["adjustment", "put", "adjustment", "put"]);
    assert_eq!(told[0]["cause"]["reference"], "2026-01");
}

async fn a_reason_belongs_to_adjustments(fixture: &ProductFixture) {
    let lines = json!([product("A", 1)]);
    for (body, field) in [
        (json!({"mode": "adjust_to", "lines": lines}), "reason"),
        (json!({"mode": "replace", "reason": "x", "lines": lines}), "reason"),
        (json!({"mode": "if_absent", "reference": "x", "lines": lines}), "reference"),
        (json!({"mode": "merge", "lines": lines}), "mode"),
        (json!({"lines": lines}), "mode"),
        (json!({"mode": "replace", "lines": []}), "lines"),
        (json!({"mode": "replace", "lines": vec![product("A", 1); 1_001]}), "lines"),
    ] {
        let answer = fixture.send("POST", "/inventory", &[], body).await;
        answer.assert_problem(422, "invalid", field);
    }
    assert!(fixture.rows().await.is_empty());
}

async fn with_an_unreadable_product_is_refused_whole(fixture: &ProductFixture) {
    for (bad, field) in [
        (product("", 1), "lines[1].sku"),
        (with(product("B", 1), "unit_price_minor", json!(-1)), "lines[1].unit_price_minor"),
        (with(product("B", 1), "description", json!("a\nb")), "lines[1].description"),
        (with(product("B", 1), "quantity", json!(1.5)), "lines[1].quantity"),
        (with(product("B", 1), "colour", json!("red")), "lines[1].colour"),
        (json!(null), "lines[1]"),
    ] {
        let answer = put(fixture, "replace", json!([product("A", 1), bad])).await;
        answer.assert_problem(422, "invalid", field);
    }
    assert!(fixture.rows().await.is_empty());
}

async fn a_trial_writes_nothing(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let body = json!({"mode": "replace", "dry_run": true, "lines": [
        product("A", 6), product("B", 1), product("B", 1), product("C", -1),
    ]});
    let answer = fixture.send("POST", "/inventory", &[], body).await;
    let accepted = |version: i64| ("accepted", json!(version));
    let unchanged = ("unchanged", json!(1));
    assert_outcomes(
        &answer,
        &[accepted(2), accepted(1), unchanged, ("refused", json!("quantity"))],
    );
    assert_eq!(fixture.rows().await.len(), 1);
    assert_eq!(fixture.events().await.len(), 1);
}

async fn takes_a_thousand_products_once_per_key(fixture: &ProductFixture) {
    let lines: Vec<Value> =
        (0..1_000).map(|n| product(&format!("S{:03}", (n * 37) % 1_000), n)).collect();
    let body = json!({"mode": "if_absent", "lines": lines});
    let send = async || {
        fixture.send("POST", "/inventory", &[("idempotency-key", "k")], body.clone()).await
    };
    let first = send().await;
    assert_eq!(first.body["accepted"], 1_000, "{first:?}");
    let second = send().await;
    assert_eq!(first.body, second.body);
    assert_eq!(second.header("idempotent-replayed"), "true");
    assert_eq!(put(fixture, "replace", json!(lines)).await.body["unchanged"], 1_000);
    assert_eq!(fixture.rows().await.len(), 1_000);
    assert_eq!(fixture.events().await.len(), 1_000);
}

async fn against_each_other_neither_deadlock_nor_lose_a_version(fixture: &ProductFixture) {
    for round in 0..8 {
        let skus: Vec<String> = (0..20).map(|n| format!("R{round}-{n:02}")).collect();
        // One is there: its lock is held by who meets the others while they are put in.
        fixture.put(&skus[5], &[], content(0)).await;
        let up: Value = skus.iter().map(|sku| product(sku, 1)).collect();
        let down: Value = skus.iter().rev().map(|sku| product(sku, 2)).collect();
        let (a, b, c, d) = tokio::join!(
            put(fixture, "replace", up.clone()),
            put(fixture, "replace", down.clone()),
            put(fixture, "replace", up.clone()),
            put(fixture, "replace", down.clone()),
        );
        for answer in [a, b, c, d] {
            let done = outcomes(&answer);
            assert!(done.iter().all(|(status, _)| status != "refused"), "{answer:?}");
        }
    }
    let events = fixture.events().await;
    for row in fixture.rows().await {
        let of_row = events.iter().filter(|event| event.key == row.sku.as_str());
        let versions: Vec<i64> = of_row.map(|event| event.version).collect();
        assert_eq!(versions, (1..=row.version).collect::<Vec<_>>(), "{}", row.sku);
    }
}

on_every_database!(&ProductFixture::new =>
    if_absent_leaves_what_is_there,
    replace_makes_a_version_of_each_change,
    adjust_to_keeps_the_way_to_the_count,
    a_reason_belongs_to_adjustments,
    with_an_unreadable_product_is_refused_whole,
    a_trial_writes_nothing,
    takes_a_thousand_products_once_per_key,
    against_each_other_neither_deadlock_nor_lose_a_version,
);
