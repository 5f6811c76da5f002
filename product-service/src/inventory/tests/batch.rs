//! Batches of adjustments.

use std::collections::BTreeMap;

use common::db::{Conn, DbError};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, backorders, line};
use crate::inventory::lock_all;

async fn takes_its_lines_in_order_and_answers_each(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    fixture.stock("Z", i64::MAX).await;
    fixture.put("B", &[], backorders(0)).await;
    fixture.stock("gone", 1).await;
    fixture.delete("gone", &[]).await;
    let lines = json!([
        line("B", -2),
        line("A", -6),
        line("A", 3),
        {"sku": "A", "delta": -8, "reason": "sale", "reference": "536365"},
        line("nowhere", 1),
        line("Z", 1),
        line("gone", 1),
        line("B", 1),
    ]);
    let answer = fixture.batch(&[], lines).await;
    assert_eq!(answer.status, 200);
    assert_eq!((&answer.body["accepted"], &answer.body["refused"]), (&json!(4), &json!(4)));
    let answers = answer.body["lines"].as_array().unwrap();
    let accepted = |line: usize, sku: &str, version: i64, quantity: i64| {
        let wanted = json!({"status": "accepted", "line": line, "sku": sku, "version": version, "quantity": quantity});
        assert_eq!(answers[line], wanted);
    };
    let refused = |line: usize, status: u16, field: &str| {
        assert_eq!(answers[line]["status"], "refused");
        assert_eq!(answers[line]["line"], line);
        assert_eq!(answers[line]["problem"]["status"], status, "{}", answers[line]);
        assert_eq!(answers[line]["problem"]["field"], format!("lines[{line}].{field}"));
    };
    accepted(0, "B", 2, -2);
    refused(1, 409, "delta");
    accepted(2, "A", 2, 8);
    accepted(3, "A", 3, 0);
    refused(4, 404, "sku");
    refused(5, 422, "delta");
    refused(6, 404, "sku");
    accepted(7, "B", 3, -1);

    let payloads = fixture.payloads().await.split_off(5);
    let told: Vec<_> = payloads
        .iter()
        .map(|p| {
            (
                p["sku"].as_str().unwrap(),
                p["version"].as_i64().unwrap(),
                p["quantity"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [("B", 2, -2), ("A", 2, 8), ("A", 3, 0), ("B", 3, -1)]);
    assert_eq!(payloads[2]["cause"]["reference"], "536365");
    let kept = fixture.adjustments().await;
    assert_eq!(kept.iter().map(|row| row.1).collect::<Vec<_>>(), [-2, 3, -8, 1]);
    assert_eq!(fixture.get("/inventory/A").await.body["quantity"], 0);
    assert_eq!(fixture.get("/inventory/B").await.body["version"], 3);
}

async fn of_refused_lines_only_writes_nothing(fixture: &ProductFixture) {
    fixture.stock("A", 1).await;
    let answer = fixture.batch(&[], json!([line("A", -2), line("B", 1)])).await;
    assert_eq!((answer.status.as_u16(), &answer.body["refused"]), (200, &json!(2)));
    assert_eq!(fixture.events().await.len(), 1);
    assert!(fixture.adjustments().await.is_empty());
}

async fn takes_a_thousand_lines(fixture: &ProductFixture) {
    for sku in 0..100 {
        fixture.stock(&format!("S{sku:02}"), 100).await;
    }
    let lines: Vec<Value> =
        (0..1_000).map(|n| line(&format!("S{:02}", (n * 37) % 100), -1)).collect();
    let answer = fixture.batch(&[("idempotency-key", "k")], json!(lines)).await;
    assert_eq!(answer.body["accepted"], 1_000, "{answer:?}");
    assert_eq!(fixture.batch(&[("idempotency-key", "k")], json!(lines)).await.body, answer.body);
    for row in fixture.rows().await {
        assert_eq!((row.quantity, row.version), (90, 11), "{}", row.sku);
    }
    assert_eq!(fixture.adjustments().await.len(), 1_000);
    let events = fixture.events().await;
    assert_eq!(events.len(), 1_100);
    let mut last = BTreeMap::new();
    for event in &events {
        let before = last.insert(event.key.clone(), event.version);
        assert_eq!(event.version, before.unwrap_or(0) + 1, "ids must grow with versions");
    }
}

async fn has_one_to_a_thousand_lines(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    fixture.batch(&[], json!([])).await.assert_problem(422, "invalid", "lines");
    let many: Vec<Value> = (0..1_001).map(|_| line("A", 1)).collect();
    fixture.batch(&[], json!(many)).await.assert_problem(422, "invalid", "lines");
    assert!(fixture.adjustments().await.is_empty());
}

async fn with_an_unreadable_line_is_refused_whole(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    for (bad, field) in [
        (line("A", 0), "lines[1].delta"),
        (line("", 1), "lines[1].sku"),
        (line("a\nb", 1), "lines[1].sku"),
        (json!({"sku": "A", "delta": 1.5, "reason": "x"}), "lines[1].delta"),
        (json!({"sku": "A", "delta": 1, "reason": ""}), "lines[1].reason"),
        (json!({"sku": "A", "delta": 1, "reason": "x", "colour": 1}), "lines[1].colour"),
        (json!({"sku": "A", "delta": 1}), "lines[1].reason"),
        (json!(["A", 1, "sale", null]), "lines[1]"),
        (json!(null), "lines[1]"),
    ] {
        let answer = fixture.batch(&[], json!([line("A", -1), bad])).await;
        answer.assert_problem(422, "invalid", field);
    }
    assert_eq!(fixture.rows().await[0].version, 1);
}

async fn against_each_other_never_deadlock(fixture: &ProductFixture) {
    let skus: Vec<String> = (0..20).map(|n| format!("S{n:02}")).collect();
    for sku in &skus {
        fixture.stock(sku, 1_000).await;
    }
    let up: Vec<Value> = skus.iter().map(|sku| line(sku, -1)).collect();
    let down: Vec<Value> = skus.iter().rev().map(|sku| line(sku, -1)).collect();
    for _ in 0..10 {
        let (a, b, c, d) = tokio::join!(
            fixture.batch(&[], json!(up)),
            fixture.batch(&[], json!(down)),
            fixture.batch(&[], json!(up)),
            fixture.batch(&[], json!(down)),
        );
        for answer in [a, b, c, d] {
            assert_eq!(answer.body["accepted"], 20, "{answer:?}");
        }
    }
    for row in fixture.rows().await {
        assert_eq!((row.quantity, row.version), (960, 41));
    }
}

/// SQLite binds 32,766 values at the most.
async fn more_products_may_be_locked_than_a_statement_binds(fixture: &ProductFixture) {
    fixture.stock("S32999", 1).await;
    fixture.stock("S00000", 1).await;
    let lock = |conn: &mut Conn| {
        let skus: Vec<String> = (0..33_000).map(|n| format!("S{n:05}")).collect();
        let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
        lock_all(conn, &skus).map_err(DbError::from)
    };
    let locked = fixture.inventory.db.write(lock).await.unwrap();
    let locked: Vec<&str> = locked.iter().map(|product| product.sku.as_str()).collect();
    assert_eq!(locked, ["S00000", "S32999"]);
}

on_every_database!(&ProductFixture::new =>
    takes_its_lines_in_order_and_answers_each,
    of_refused_lines_only_writes_nothing,
    takes_a_thousand_lines,
    has_one_to_a_thousand_lines,
    with_an_unreadable_line_is_refused_whole,
    against_each_other_never_deadlock,
    more_products_may_be_locked_than_a_statement_binds,
);
