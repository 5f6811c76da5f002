//! Commands that can't be carried out, whatever happens.

use common::kafka::Verdict::{Failed, Success};
use serde_json::json;

use super::on_both_databases;
use super::store::Store;

async fn a_bad_command_fails_alone_and_for_good(store: &Store) {
    store.shop.stock("A", 100).await;
    let order = store.id();
    let placed = |lines: serde_json::Value| json!({"order_id": order, "customer": "c", "lines": lines, "placed_at": "2010-12-01T08:26:00Z"});
    let mut garbage = store.placed(order, &[("A", 1)]);
    garbage.data = b"\xff{".to_vec();
    let mut other_key = store.placed(order, &[("A", 1)]);
    other_key.key = store.id().to_string();
    for (command, word) in [
        (garbage, "carries"),
        (other_key, "key"),
        (store.command("shipped", order, json!({})), "stockloop.order.shipped"),
        (store.command("placed", order, json!([])), "object"),
        (store.command("placed", order, placed(json!([]))), "line"),
        (store.command("placed", order, placed(json!([{"sku": "A", "quantity": 0}]))), "quantity"),
        (
            store.command("placed", order, placed(json!([{"sku": " ", "quantity": 1}]))),
            "white space",
        ),
        (
            store.command(
                "placed",
                order,
                placed(json!([{"sku": "A", "quantity": i64::MAX}, {"sku": "A", "quantity": 1}])),
            ),
            "64 bits",
        ),
    ] {
        let good = [store.placed(store.id(), &[("A", 1)]), store.placed(store.id(), &[("A", 1)])];
        let [first, last] = good;
        let answers = store.arrive(vec![first, command, last]).await;
        let outcomes: Vec<_> = answers.iter().map(|ack| ack.outcome).collect();
        assert_eq!(outcomes, [Success, Failed, Success]);
        let error = answers[1].error.as_deref().unwrap();
        assert!(error.contains(word), "{error} does not tell of {word}");
        assert!(!answers[1].retryable);
    }
    assert_eq!(store.record(order).await, None);
    assert_eq!(store.stock("A").await.0, 84);
}

async fn what_later_senders_add_is_ignored(store: &Store) {
    store.shop.stock("A", 10).await;
    let order = store.id();
    let data = json!({"order_id": order, "customer": "c", "placed_at": "2010-12-01T08:26:00Z",
        "lines": [{"sku": "A", "quantity": 1, "gift": true}], "channel": "web"});
    assert_eq!(store.one(store.command("placed", order, data)).await.0, Success);
}

on_both_databases![a_bad_command_fails_alone_and_for_good, what_later_senders_add_is_ignored];
