//! Commands that can't be carried out, whatever happens.

use engine::kafka::Verdict::{Failed, Success};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::stock_fixture::StockFixture;

async fn a_bad_command_fails_alone_and_for_good(fixture: &StockFixture) {
    fixture.products.stock("A", 100).await;
    let order = fixture.id();
    let placed = |lines: serde_json::Value| json!({"order_id": order, "customer": "c", "lines": lines, "placed_at": "2010-12-01T08:26:00Z"});
    let mut garbage = fixture.placed(order, &[("A", 1)]);
    garbage.data = b"\xff{".to_vec();
    let mut other_key = fixture.placed(order, &[("A", 1)]);
    other_key.key = fixture.id().to_string();
    for (command, word) in [
        (garbage, "carries"),
        (other_key, "key"),
        (fixture.command("shipped", order, json!({})), "stockloop.order.shipped"),
        (fixture.command("placed", order, json!([])), "object"),
        (fixture.command("placed", order, placed(json!([]))), "line"),
        (
            fixture.command("placed", order, placed(json!([{"sku": "A", "quantity": 0}]))),
            "quantity",
        ),
        (
            fixture.command("placed", order, placed(json!([{"sku": " ", "quantity": 1}]))),
            "white space",
        ),
        (
            fixture.command(
                "placed",
                order,
                placed(json!([{"sku": "A", "quantity": i64::MAX}, {"sku": "A", "quantity": 1}])),
            ),
            "64 bits",
        ),
    ] {
        let good =
            [fixture.placed(fixture.id(), &[("A", 1)]), fixture.placed(fixture.id(), &[("A", 1)])];
        let [first, last] = good;
        let answers = fixture.arrive(vec![first, command, last]).await;
        let outcomes: Vec<_> = answers.iter().map(|ack| ack.outcome).collect();
        assert_eq!(outcomes, [Success, Failed, Success]);
        let error = answers[1].error.as_deref().unwrap();
        assert!(error.contains(word), "{error} does not tell of {word}");
        assert!(!answers[1].retryable);
    }
    assert_eq!(fixture.record(order).await, None);
    assert_eq!(fixture.stock("A").await.0, 84);
}

async fn what_later_senders_add_is_ignored(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    let order = fixture.id();
    let data = json!({"order_id": order, "customer": "c", "placed_at": "2010-12-01T08:26:00Z",
        "lines": [{"sku": "A", "quantity": 1, "gift": true}], "channel": "web"});
    assert_eq!(fixture.one(fixture.command("placed", order, data)).await.0, Success);
}

on_every_database!(&StockFixture::new =>
    a_bad_command_fails_alone_and_for_good,
    what_later_senders_add_is_ignored,
);
