//! Three services: an event is settled once both that are asked have answered, and each is asked for its own copy.

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::system::{DEADLINE, TestService, TestSystem};

#[tokio::test(flavor = "multi_thread")]
async fn a_third_service_is_waited_for_and_verified() {
    let Some((system, mut search, name)) = TestSystem::with_search("consumers_third").await else {
        return;
    };
    let product = &system.product;
    for n in 0..30 {
        product.put_product(&format!("P{n:02}"), 10).await;
    }
    product.put("/api/v1/inventory/MUG", described("Large RED mug, \"red\"")).await.ok();
    assert_eq!(product.delete("/api/v1/inventory/P29").await.status, 204);
    system.order.place_order("P00", 3).await;
    system.wait_until_settled().await;
    let found = search.get("/api/v1/search?q=red%20MUG").await.ok();
    assert_eq!(found["items"], json!([{"sku": "MUG", "description": "Large RED mug, \"red\""}]));
    for consumer in [None, Some(name.as_str())] {
        let verified = verify(product, consumer).await;
        assert_eq!((&verified["state"], &verified["keys"]), (&json!("equal"), &json!(31)));
    }

    // It is away: the event waits for it alone, and says so.
    search.kill9();
    product.put("/api/v1/inventory/MUG", described("Blue mug")).await.ok();
    let id = product.newest_event("MUG").await;
    eventually("the event to wait for the third alone", DEADLINE, async || {
        let event = product.event(&id).await;
        let answers = [&event["answers"][0]["outcome"], &event["answers"][1]["outcome"]];
        if answers == [&json!("SUCCESS"), &Value::Null] { Ok(()) } else { Err(event) }
    })
    .await;
    let alert = eventually("people to be told", DEADLINE, async || {
        let page = product.get("/api/admin/v1/alerts?state=open&kind=silent").await.ok();
        page["items"].as_array().and_then(|all| all.first().cloned()).ok_or(page)
    })
    .await;
    assert!(alert["subject"].as_str().unwrap().starts_with(&name), "{alert}");
    assert_eq!(product.event(&id).await["status"], "SENT");
    search.start();
    system.wait_until_settled().await;
    assert_eq!(search.get("/api/v1/search?q=red").await.ok()["items"], json!([]));

    // Somebody writes into its copy: its own verification finds that, and the other copy is as it was.
    search.execute("UPDATE copied_state SET content = '[\"a lie\"]' WHERE key = 'MUG'").await;
    let found = verify(product, Some(&name)).await;
    assert_eq!((&found["state"], &found["differences"]), (&json!("different"), &json!(1)));
    assert_eq!(verify(product, None).await["state"], "equal");
    let repair =
        json!({"kind": "repair", "selection": {"differences": found["seq"]}, "expected": 1});
    product.post("/api/admin/v1/resyncs", repair).await.ok();
    eventually("the copy to be mended", DEADLINE, async || {
        let verified = verify(product, Some(&name)).await;
        if verified["state"] == "equal" { Ok(()) } else { Err(verified) }
    })
    .await;
    search.stop().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_retired_is_not_waited_for() {
    let Some((system, mut search, name)) = TestSystem::with_search("consumers_retired").await
    else {
        return;
    };
    let product = &system.product;
    product.put_product("TEA", 10).await;
    system.wait_until_settled().await;
    search.kill9();
    for _ in 0..20 {
        product.adjust("TEA", 1).await;
    }
    let consumers = "/api/admin/v1/consumers";
    let first = product.get(consumers).await.ok()["items"][0]["name"].clone();
    let reason = json!({"reason": "it is switched off"});
    let gone = product.post(&format!("{consumers}/{name}/retire"), reason.clone()).await.ok();
    assert_eq!(gone["state"], "retired");
    system.wait_until_settled().await;
    let let_off = eventually("it to be let off", DEADLINE, async || {
        let one = product.get(&format!("{consumers}/{name}")).await.ok();
        if one["letting_off"] == false { Ok(one) } else { Err(one) }
    })
    .await;
    assert!(let_off["let_off"].as_i64().unwrap() > 0, "{let_off}");
    let first = first.as_str().unwrap();
    let refused = product.post(&format!("{consumers}/{first}/retire"), reason).await;
    assert_eq!(refused.status, 409, "without it nothing would arrive");
    let audit = product.get("/api/admin/v1/audit?action=consumer.retire").await.ok();
    assert_eq!(audit["items"][0]["subject"], json!(name), "{audit}");
    system.assert_equal_at_rest().await;
    system.stop().await;
}

/// Its kernel takes the connection and nobody answers: nothing that is asked of it ends before its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_keeps_no_other_from_being_filled() {
    let Some((mut system, mut search, _)) = TestSystem::with_search("consumers_hang").await else {
        return;
    };
    system.product.restart_with(&[("STOCKLOOP__VERIFY__TIMEOUT", "10m")]).await;
    for n in 0..30 {
        system.product.put_product(&format!("P{n:02}"), 10).await;
    }
    system.wait_until_settled().await;
    for service in [&system.order, &search] {
        service.wait_until_complete().await;
    }
    search.child().pause().expect("it can be frozen");
    search.execute("DELETE FROM copied_state").await;
    system.order.execute("DELETE FROM product_copy").await;
    system.order.wait_until_complete().await;
    assert_eq!(system.order.count("SELECT count(*) AS n FROM product_copy").await, 30);
    search.child().resume().expect("it can go on");
    search.wait_until_complete().await;
    system.wait_until_settled().await;
    search.stop().await;
    system.stop().await;
}

fn described(description: &str) -> Value {
    json!({"description": description, "quantity": 5, "unit_price_minor": 100})
}

/// What a new verification of all keys came to.
async fn verify(product: &TestService, consumer: Option<&str>) -> Value {
    let asked = json!({ "consumer": consumer });
    let asked = product.post("/api/admin/v1/verifications", asked).await.ok();
    let seq = asked["seq"].as_str().expect("a number");
    product.wait_for_end(&format!("/api/admin/v1/verifications/{seq}")).await
}
