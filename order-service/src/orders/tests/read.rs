//! Reading: one order, and lists.

use common::kafka::Verdict::Rejected;
use serde_json::{Value, json};

use super::desk::{Desk, refused};
use super::on_both_databases;

async fn one_order(desk: &Desk) {
    let nobody = "/orders/01890a5d-ac96-774b-bcce-b302099a8057";
    desk.get(nobody).await.assert_problem(404, "not-found", "id");
    desk.get("/orders/abc").await.assert_problem(422, "invalid", "id");
    desk.send("DELETE", nobody, &[], Value::Null).await.assert_problem(
        405,
        "method-not-allowed",
        "",
    );
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 1)]).await;
    let order = desk.order(&id).await;
    let step = json!({"at": "2010-12-01T08:26:00.000000Z", "status": "PENDING", "what": "placed"});
    assert_eq!(
        order,
        json!({"id": id, "status": "PENDING", "customer": "17850", "revision": 1,
            "placed_at": "2010-12-01T08:26:00.000000Z", "changed_at": "2010-12-01T08:26:00.000000Z",
            "lines": [{"sku": "A", "quantity": 1}], "timeline": [step]})
    );
}

async fn lists_are_cut_and_filtered(desk: &Desk) {
    desk.stock("A", 100).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let body =
            json!({"customer": format!("c{}", n % 2), "lines": [{"sku": "A", "quantity": 1}]});
        let placed = desk.send("POST", "/orders", &[], body).await.body;
        ids.push(placed["id"].as_str().unwrap().to_owned());
    }
    desk.answer(&desk.commands().await[2], Rejected, refused("A")).await;
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/orders?limit=3".to_owned();
    loop {
        let page = desk.get(&path).await.body;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/orders?limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let count = async |path: &str| desk.get(path).await.body["items"].as_array().unwrap().len();
    assert_eq!(count("/orders?customer=c0").await, 4);
    assert_eq!(count("/orders?status=REJECTED").await, 1);
    assert_eq!(count("/orders?status=PENDING&customer=c0").await, 3);
    assert_eq!(count("/orders?customer=nobody").await, 0);
    desk.get("/orders?status=ODD").await.assert_problem(422, "invalid", "status");
    desk.get("/orders?after=x").await.assert_problem(422, "invalid", "after");
    desk.get("/orders?limit=0").await.assert_problem(422, "invalid", "limit");
    desk.get("/orders?odd=1").await.assert_problem(422, "invalid", "odd");
}

on_both_databases![one_order, lists_are_cut_and_filtered];
