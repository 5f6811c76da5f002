//! Reading: one order, and lists.

use engine::kafka::Verdict::Rejected;
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, refused};

async fn one_order(fixture: &OrdersFixture) {
    let nobody = "/orders/01890a5d-ac96-774b-bcce-b302099a8057";
    fixture.get(nobody).await.assert_problem(404, "not-found", "id");
    fixture.get("/orders/abc").await.assert_problem(422, "invalid", "id");
    fixture.send("DELETE", nobody, &[], Value::Null).await.assert_problem(
        405,
        "method-not-allowed",
        "",
    );
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 1)]).await;
    let order = fixture.order(&id).await;
    let step = json!({"at": "2010-12-01T08:26:00.000000Z", "status": "PENDING", "what": "placed"});
    assert_eq!(
        order,
        json!({"id": id, "status": "PENDING", "customer": "17850", "revision": 1,
            "placed_at": "2010-12-01T08:26:00.000000Z", "changed_at": "2010-12-01T08:26:00.000000Z",
            "lines": [{"sku": "A", "quantity": 1}], "timeline": [step]})
    );
}

async fn lists_are_cut_and_filtered(fixture: &OrdersFixture) {
    fixture.stock("A", 100).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let body =
            json!({"customer": format!("c{}", n % 2), "lines": [{"sku": "A", "quantity": 1}]});
        let placed = fixture.send("POST", "/orders", &[], body).await.body;
        ids.push(placed["id"].as_str().unwrap().to_owned());
    }
    fixture.answer(&fixture.commands().await[2], Rejected, refused("A")).await;
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/orders?limit=3".to_owned();
    loop {
        let page = fixture.get(&path).await.body;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/orders?limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let count = async |path: &str| fixture.get(path).await.body["items"].as_array().unwrap().len();
    assert_eq!(count("/orders?customer=c0").await, 4);
    assert_eq!(count("/orders?status=REJECTED").await, 1);
    assert_eq!(count("/orders?status=PENDING&customer=c0").await, 3);
    assert_eq!(count("/orders?customer=nobody").await, 0);
    fixture.get("/orders?status=ODD").await.assert_problem(422, "invalid", "status");
    fixture.get("/orders?after=x").await.assert_problem(422, "invalid", "after");
    fixture.get("/orders?limit=0").await.assert_problem(422, "invalid", "limit");
    fixture.get("/orders?odd=1").await.assert_problem(422, "invalid", "odd");
}

on_every_database!(&OrdersFixture::new => one_order, lists_are_cut_and_filtered);
