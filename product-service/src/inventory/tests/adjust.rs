//! Single adjustments.

use serde_json::json;
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, backorders, content, delta};

async fn changes_the_stock_and_says_why(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let body = json!({"delta": -3, "reason": "sale", "reference": "536365"});
    let answer = fixture.adjust("A", &[], body).await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, "\"2\""));
    assert_eq!((&answer.body["quantity"], &answer.body["version"]), (&json!(2), &json!(2)));
    let kept = ("A".to_owned(), -3, 2, 2, "sale".to_owned(), Some("536365".to_owned()));
    assert_eq!(fixture.adjustments().await, [kept]);
    let payload = &fixture.payloads().await[1];
    assert_eq!(payload["quantity"], 2);
    assert_eq!(
        payload["cause"],
        json!({"kind": "adjustment", "reason": "sale", "reference": "536365"})
    );
}

async fn refuses_to_go_below_zero_without_backorders(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let answer = fixture.adjust("A", &[], delta(-6)).await;
    answer.assert_problem(409, "insufficient-stock", "delta");
    assert_eq!(fixture.rows().await[0].version, 1);
    assert!(fixture.adjustments().await.is_empty());
    assert_eq!(fixture.events().await.len(), 1);
    assert_eq!(fixture.adjust("A", &[], delta(-5)).await.body["quantity"], 0);
    fixture.put("A", &[], backorders(0)).await;
    assert_eq!(fixture.adjust("A", &[], delta(-6)).await.body["quantity"], -6);
}

async fn refuses_to_leave_the_range_of_numbers(fixture: &ProductFixture) {
    fixture.stock("A", i64::MAX).await;
    fixture.put("B", &[], backorders(i64::MIN)).await;
    fixture.adjust("A", &[], delta(1)).await.assert_problem(422, "invalid", "delta");
    fixture.adjust("B", &[], delta(-1)).await.assert_problem(422, "invalid", "delta");
    let answer = fixture.adjust("A", &[], delta(-i64::MAX)).await;
    assert_eq!(answer.body["quantity"], 0);
    fixture.adjust("A", &[], delta(i64::MIN)).await.assert_problem(
        409,
        "insufficient-stock",
        "delta",
    );
    assert_eq!(fixture.rows().await[1].quantity, i64::MIN);
}

async fn keeps_to_preconditions(fixture: &ProductFixture) {
    let matching = [("if-match", "\"1\"")];
    fixture.adjust("A", &matching, delta(1)).await.assert_problem(404, "not-found", "sku");
    fixture.stock("A", 5).await;
    assert_eq!(fixture.adjust("A", &matching, delta(1)).await.status, 200);
    let stale = fixture.adjust("A", &matching, delta(1)).await;
    stale.assert_problem(412, "precondition-failed", "");
    assert_eq!(fixture.adjustments().await.len(), 1);
}

async fn loses_no_adjustment_when_many_come_at_once(fixture: &ProductFixture) {
    fixture.stock("A", 1_000).await;
    for _ in 0..10 {
        let (a, b, c, d) = tokio::join!(
            fixture.adjust("A", &[], delta(-1)),
            fixture.adjust("A", &[], delta(-2)),
            fixture.adjust("A", &[], delta(-3)),
            fixture.put("B", &[], content(1)),
        );
        for answer in [a, b, c, d] {
            assert!(answer.status.is_success(), "{answer:?}");
        }
    }
    let row = fixture.rows().await.remove(0);
    assert_eq!((row.quantity, row.version), (940, 31));
    let events = fixture.events().await;
    let versions: Vec<i64> = events.iter().filter(|e| e.key == "A").map(|e| e.version).collect();
    assert_eq!(versions, (1..=31).collect::<Vec<_>>(), "ids must grow with versions");
}

on_every_database!(&ProductFixture::new =>
    changes_the_stock_and_says_why,
    refuses_to_go_below_zero_without_backorders,
    refuses_to_leave_the_range_of_numbers,
    keeps_to_preconditions,
    loses_no_adjustment_when_many_come_at_once,
);
