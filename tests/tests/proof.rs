//! Whether the copy is what its owner has, asked from outside the loop, and what people do where it is not.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use stockloop_tests::program::{Program, assert_contains};

use crate::system::{DEADLINE, TestService, TestSystem, on_embedded_and_real};

on_embedded_and_real!(
    what_was_done_by_hand_is_found_and_mended as "proof_by_hand",
    what_a_copy_lacks_is_sent_again as "proof_lacks",
);

async fn what_was_done_by_hand_is_found_and_mended(system: TestSystem) {
    let (product, order) = (&system.product, &system.order);
    for n in 0..40 {
        product.put_product(&format!("P{n:02}"), 10).await;
    }
    assert_eq!(product.delete("/api/v1/inventory/P39").await.status, 204);
    order.wait_until_complete().await;
    system.wait_until_settled().await;
    order.place_order("P00", 3).await;
    system.wait_until_settled().await;
    let first = verify(product).await;
    assert_eq!((&first["state"], &first["keys"]), (&json!("equal"), &json!(40)), "{first}");

    order
        .execute(
            "DELETE FROM product_copy WHERE sku IN ('P01', 'P39'); \
             UPDATE product_copy SET quantity = 99 WHERE sku = 'P02'; \
             UPDATE product_copy SET version = 7 WHERE sku = 'P03'; \
             UPDATE product_copy SET version = 0 WHERE sku = 'P04'; \
             INSERT INTO product_copy (sku, description, quantity, unit_price_minor, epoch, version, updated_us, applied_us) \
             VALUES ('P04x', 'of nobody', 5, 100, 1, 3, 1, 1)",
        )
        .await;
    let found = verify(product).await;
    assert_eq!((&found["state"], &found["differences"]), (&json!("different"), &json!(6)));
    let kinds = [
        ("P01", "missing"),
        ("P02", "content"),
        ("P03", "newer"),
        ("P04", "older"),
        ("P04x", "unknown"),
        ("P39", "missing"),
    ];
    assert_eq!(differences(product, &found).await, of_text(kinds));
    let alert = open_alert(product, "drift").await.expect("people are told");
    assert!(alert["subject"].as_str().unwrap().contains("6 keys differ"), "{alert}");

    let number = &found["seq"];
    let repair = json!({"kind": "repair", "selection": {"differences": number}, "expected": 6});
    let job = resync(product, repair).await;
    assert_eq!((&job["done"], &job["skipped"]), (&json!(6), &json!(0)), "{job}");
    let again = ended(product, job["verification"].as_str().unwrap()).await;
    assert_eq!((&again["state"], &again["keys"]), (&json!("equal"), &json!(6)), "{again}");
    let whole = verify(product).await;
    assert_eq!((&whole["state"], &whole["keys"]), (&json!("equal"), &json!(41)), "{whole}");
    assert_eq!(open_alert(product, "drift").await, None, "it is over");
    system.wait_until_settled().await;
    assert_eq!(product.inventory().await, order.inventory().await);
    assert_eq!(order.get("/api/v1/inventory/P02").await.ok()["quantity"], 10);
    assert_eq!(order.get("/api/v1/inventory/P04x").await.status, 404);
    system.stop().await;
}

async fn what_a_copy_lacks_is_sent_again(system: TestSystem) {
    let (product, order) = (&system.product, &system.order);
    for n in 0..30 {
        product.put_product(&format!("P{n:02}"), n).await;
    }
    order.wait_until_complete().await;
    system.wait_until_settled().await;
    // Fewer than it leaves: a copy that loses most is filled without anybody asking.
    order.execute("DELETE FROM product_copy WHERE sku >= 'P16'").await;
    product.adjust("P20", 5).await;
    let job =
        resync(product, json!({"kind": "resync", "selection": {"where": {"prefix": "P1"}}})).await;
    assert_eq!(job["done"], 10, "{job}");
    let job =
        resync(product, json!({"kind": "resync", "selection": {"keys": ["P29", "gone", "P29"]}}))
            .await;
    assert_eq!((&job["done"], &job["skipped"]), (&json!(1), &json!(1)), "{job}");
    system.wait_until_settled().await;
    let found = verify(product).await;
    assert_eq!(found["differences"], 8, "all but those and the one that changed: {found}");
    let job = resync(product, json!({"kind": "resync", "selection": {"where": {}}})).await;
    assert_eq!(job["done"], 30, "{job}");
    system.wait_until_settled().await;
    assert_eq!(verify(product).await["state"], "equal");
    assert_eq!(product.inventory().await, order.inventory().await);
    system.stop().await;
}

/// As an operator and a script use it: a child process against services that run.
#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_what_was_found() {
    let system = TestSystem::embedded().await;
    for sku in ["TEA", "MUG", "POT"] {
        system.product.put_product(sku, 5).await;
    }
    system.order.wait_until_complete().await;
    system.wait_until_settled().await;
    let program = Program::built("stockloop");
    let url = system.product.base_url.get();
    let run = |args: &[&str]| {
        let env = [("STOCKLOOP_ADMIN_URL", url.as_str())];
        tokio::task::block_in_place(|| program.run(args, &env))
    };
    let equal = run(&["verify"]);
    assert_eq!(equal.code, Some(0), "{equal:?}");
    assert_contains(&equal.stdout, &["3 keys"]);
    system.order.execute("DELETE FROM product_copy WHERE sku = 'TEA'").await;
    let different = run(&["verify", "--json"]);
    assert_eq!(different.code, Some(3), "{different:?}");
    let line: Value = serde_json::from_str(different.stdout.trim()).expect("one line");
    assert_eq!((&line["key"], &line["kind"]), (&json!("TEA"), &json!("missing")), "{line}");
    assert!(line["consumer"].is_string(), "{line}");
    let unasked = run(&["repair"]);
    assert_eq!(unasked.code, Some(2), "{unasked:?}");
    let repaired = run(&["repair", "--yes", "--reason", "a trial"]);
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert_eq!(run(&["verify"]).code, Some(0));
    system.order.execute("DELETE FROM product_copy WHERE sku <> 'TEA'").await;
    let resent = run(&["resync", "--all", "--yes"]);
    assert_eq!(resent.code, Some(0), "{resent:?}");
    system.wait_until_settled().await;
    assert_eq!(run(&["verify", "--json"]).code, Some(0));
    system.stop().await;
}

/// Neither side is told anything wrong, whenever the other one is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_either_side_is_gone_on_from() {
    let Some(mut system) = TestSystem::real("proof_kills").await else { return };
    fill(&system).await;
    let resync = json!({"kind": "resync", "selection": {"where": {}}});
    let job = system.product.post("/api/admin/v1/resyncs", resync).await.ok();
    system.product.kill9();
    system.product.start();
    let seq = job["seq"].as_str().unwrap().to_owned();
    let done = eventually("the job to end", DEADLINE, async || {
        let job = system.product.get(&format!("/api/admin/v1/resyncs/{seq}")).await.ok();
        if job["state"] == "done" { Ok(job) } else { Err(job) }
    })
    .await;
    assert_eq!(done["done"], 5_000, "each once: {done}");

    let asked =
        system.product.post("/api/admin/v1/verifications", json!({"share": 0.2})).await.ok();
    system.order.kill9();
    system.order.start();
    system.product.kill9();
    system.product.start();
    let verified = ended(&system.product, asked["seq"].as_str().unwrap()).await;
    assert_eq!(
        (&verified["state"], &verified["keys"]),
        (&json!("equal"), &json!(5_000)),
        "{verified}"
    );
    system.stop().await;
}

/// 5,000 products on both sides, put there by the databases themselves.
async fn fill(system: &TestSystem) {
    system
        .product
        .execute(
            "INSERT INTO product (sku, description, quantity, unit_price_minor, version, updated_us) \
             SELECT 'P' || n, 'about ' || n, n, 100, 1, 1800000000000000 FROM generate_series(1, 5000) AS n",
        )
        .await;
    system
        .order
        .execute(
            "INSERT INTO product_copy (sku, description, quantity, unit_price_minor, epoch, version, updated_us, applied_us) \
             SELECT 'P' || n, 'about ' || n, n, 100, 1, 1, 1800000000000000, 1 FROM generate_series(1, 5000) AS n",
        )
        .await;
}

/// What a new verification of all keys came to.
async fn verify(product: &TestService) -> Value {
    let asked = product.post("/api/admin/v1/verifications", json!({})).await.ok();
    ended(product, asked["seq"].as_str().expect("a number")).await
}

async fn ended(product: &TestService, seq: &str) -> Value {
    product.wait_for_end(&format!("/api/admin/v1/verifications/{seq}")).await
}

async fn differences(product: &TestService, verification: &Value) -> BTreeMap<String, String> {
    let seq = verification["seq"].as_str().expect("a number");
    let page = product.get(&format!("/api/admin/v1/verifications/{seq}/differences")).await.ok();
    let items = page["items"].as_array().expect("a page").iter();
    of_text(items.map(|one| (one["key"].as_str().unwrap(), one["kind"].as_str().unwrap())))
}

fn of_text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, kind)| (key.to_owned(), kind.to_owned())).collect()
}

/// What a job that sends states again came to.
async fn resync(product: &TestService, job: Value) -> Value {
    let job = product.post("/api/admin/v1/resyncs", job).await.ok();
    let seq = job["seq"].as_str().expect("a number").to_owned();
    eventually("the job to end", DEADLINE, async || {
        let job = product.get(&format!("/api/admin/v1/resyncs/{seq}")).await.ok();
        if job["state"] == "done" { Ok(job) } else { Err(job) }
    })
    .await
}

async fn open_alert(product: &TestService, kind: &str) -> Option<Value> {
    let page = product.get(&format!("/api/admin/v1/alerts?state=open&kind={kind}")).await.ok();
    page["items"].as_array().and_then(|items| items.first().cloned())
}
