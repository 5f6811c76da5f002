//! A database that came back from a backup: found by itself, on either side, and mended by a command.

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use stockloop_tests::program::{Outcome, Program};

use crate::system::{DEADLINE, TestService, TestSystem, on_embedded_and_real, text};

on_embedded_and_real!(
    the_owner_came_back as "restored_owner",
    the_copy_came_back as "restored_copy",
    both_came_back as "restored_both",
    orders_whose_deduction_was_lost_are_settled as "restored_lost",
);

async fn the_owner_came_back(mut system: TestSystem) {
    for n in 0..20 {
        system.product.put_product(&format!("P{n:02}"), 10).await;
    }
    system.wait_until_settled().await;
    system.order.place_order("P00", 1).await;
    system.wait_until_settled().await;
    let backup = system.product.back_up().await;
    let epoch = system.product.count("SELECT epoch AS n FROM service_state").await;

    // What the world sees, and the backup does not have.
    for _ in 0..3 {
        system.product.adjust("P01", 5).await;
    }
    system.product.put_product("NEW", 4).await;
    assert_eq!(system.product.delete("/api/v1/inventory/P02").await.status, 204);
    system.order.place_order("P03", 3).await;
    system.wait_until_settled().await;
    assert_eq!(open_alert(&system.product, "database_behind").await, None);

    system.product.come_back(&backup, &system.order.base_url.get()).await;
    let alert = behind(&system.product).await;
    let subject = text(&alert["subject"]);
    assert!(
        subject.contains("product-service is behind: it has taken nothing since 20"),
        "{alert}"
    );
    assert_eq!(open_alert(&system.order, "database_behind").await, None, "it is not the copy");

    // The loop goes on meanwhile.
    system.product.adjust("P04", 1).await;
    let done = run(&system.product, &["restored", "--yes", "--reason", "a trial"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let raised = system.product.count("SELECT epoch AS n FROM service_state").await;
    assert!(raised > epoch, "{raised}");
    assert_eq!(open_alert(&system.product, "database_behind").await, None, "it is over");
    system.wait_until_settled().await;
    assert_equal(&system).await;
    assert_eq!(system.order.get("/api/v1/inventory/NEW").await.status, 404, "it was never there");
    assert_eq!(system.order.get("/api/v1/inventory/P01").await.ok()["quantity"], 10);
    assert_eq!(system.order.get("/api/v1/inventory/P02").await.ok()["quantity"], 10);

    let again = run(&system.product, &["restored", "--yes"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("is not behind"), "{again:?}");
    assert_eq!(system.product.count("SELECT epoch AS n FROM service_state").await, raised);
    let refused = system.product.post("/api/admin/v1/restored", json!({})).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    // What changes from now on is newer than all that the copy has.
    system.product.adjust("P01", 1).await;
    system.order.place_order("P04", 2).await;
    system.wait_until_settled().await;
    assert_equal(&system).await;
    assert_eq!(system.order.get("/api/v1/inventory/P04").await.ok()["quantity"], 9);
    system.stop().await;
}

async fn the_copy_came_back(mut system: TestSystem) {
    for n in 0..20 {
        system.product.put_product(&format!("P{n:02}"), 10).await;
    }
    system.wait_until_settled().await;
    system.order.place_order("P00", 1).await;
    system.wait_until_settled().await;
    // A copy that is not complete would be filled by itself.
    system.order.wait_until_complete().await;
    let backup = system.order.back_up().await;

    for n in 0..10 {
        system.product.adjust(&format!("P{n:02}"), 5).await;
    }
    system.product.put_product("NEW", 4).await;
    assert_eq!(system.product.delete("/api/v1/inventory/P12").await.status, 204);
    system.wait_until_settled().await;

    system.order.come_back(&backup, &system.product.base_url.get()).await;
    let alert = behind(&system.order).await;
    assert!(text(&alert["subject"]).contains("order-service is behind"), "{alert}");
    assert_eq!(open_alert(&system.product, "database_behind").await, None, "it is not the owner");
    assert_eq!(system.order.get("/api/v1/inventory/P01").await.ok()["quantity"], 10);

    let epoch = system.product.count("SELECT epoch AS n FROM service_state").await;
    let done = run(&system.order, &["restored", "--order", "--yes", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let item: Value = serde_json::from_str(done.stdout.trim()).expect("one line");
    assert_eq!((&item["state"], &item["differences"]), (&json!("equal"), &json!(0)), "{item}");
    assert_eq!(open_alert(&system.order, "database_behind").await, None, "it is over");
    assert_equal(&system).await;
    assert_eq!(system.order.get("/api/v1/inventory/P01").await.ok()["quantity"], 15);
    assert_eq!(system.order.get("/api/v1/inventory/P12").await.status, 404);
    let same = system.product.count("SELECT epoch AS n FROM service_state").await;
    assert_eq!(same, epoch, "the owner is right, and needs no epoch");
    system.stop().await;
}

/// A whole machine did: each from its own backup, and the copy's is the older one.
async fn both_came_back(mut system: TestSystem) {
    for n in 0..10 {
        system.product.put_product(&format!("P{n:02}"), 10).await;
    }
    system.wait_until_settled().await;
    system.order.wait_until_complete().await;
    let copys = system.order.back_up().await;
    system.product.adjust("P01", 5).await;
    system.product.put_product("KEPT", 1).await;
    system.wait_until_settled().await;
    let owners = system.product.back_up().await;
    system.product.adjust("P01", 7).await;
    system.product.adjust("P02", 7).await;
    system.product.put_product("LOST", 1).await;
    system.wait_until_settled().await;

    system.product.come_back(&owners, &system.order.base_url.get()).await;
    system.order.come_back(&copys, &system.product.base_url.get()).await;
    system.product.restart_beside(&system.order.base_url.get()).await;
    system.order.restart_beside(&system.product.base_url.get()).await;
    behind(&system.product).await;
    behind(&system.order).await;
    // The owner first: it says what is true.
    let done = run(&system.product, &["restored", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = run(&system.order, &["restored", "--order", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for service in [&system.product, &system.order] {
        assert_eq!(open_alert(service, "database_behind").await, None, "it is over");
    }
    system.product.adjust("P02", 1).await;
    system.wait_until_settled().await;
    assert_equal(&system).await;
    for (sku, quantity) in [("P01", 15), ("P02", 11), ("KEPT", 1)] {
        let copy = system.order.get(&format!("/api/v1/inventory/{sku}")).await.ok();
        assert_eq!(copy["quantity"], quantity, "{copy}");
    }
    assert_eq!(system.order.get("/api/v1/inventory/LOST").await.status, 404, "it was never there");
    system.stop().await;
}

/// Orders and a cancellation that the owner's backup does not know: found, listed, and decided about by a person.
async fn orders_whose_deduction_was_lost_are_settled(mut system: TestSystem) {
    for n in 0..7 {
        system.product.put_product(&format!("P{n:02}"), 100).await;
    }
    system.wait_until_settled().await;
    let kept = placed(&system, "P00", 1).await;
    let returned = placed(&system, "P01", 2).await;
    system.wait_until_settled().await;
    let backup = system.product.back_up().await;

    // What the backup does not have.
    let again = placed(&system, "P02", 3).await;
    let by_hand = placed(&system, "P03", 4).await;
    let both = placed(&system, "P04", 5).await;
    let regretted = placed(&system, "P05", 6).await;
    let sold_out = placed(&system, "P06", 100).await;
    system.wait_until_settled().await;
    for order in [&returned, &both] {
        let path = format!("/api/v1/orders/{order}/cancel");
        assert_eq!(system.order.post(&path, json!({})).await.status, 202);
    }
    system.wait_until_settled().await;
    for order in [&again, &by_hand, &regretted, &sold_out] {
        assert_eq!(status(&system, order).await, "CONFIRMED");
    }

    system.product.come_back(&backup, &system.order.base_url.get()).await;
    system.order.restart_beside(&system.product.base_url.get()).await;
    behind(&system.product).await;
    let done = run(&system.product, &["restored", "--yes", "--reason", "a trial"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let check = eventually("the search for lost commands to end", DEADLINE, async || {
        let check = system.order.get("/api/admin/v1/lost-commands/check").await.ok();
        if check["newest"]["ended_at"].is_null() { Err(check) } else { Ok(check) }
    })
    .await;
    assert_eq!(check["newest"]["found"], 7, "{check}");
    assert!(open_alert(&system.order, "commands_lost").await.is_some());

    let open = lost(&system, "open");
    let keys: Vec<String> = open.iter().map(|item| text(&item["key"])).collect();
    assert_eq!(keys, [&again, &by_hand, &regretted, &sold_out, &returned].map(Clone::clone));
    let obsolete = lost(&system, "obsolete");
    assert!(obsolete.iter().all(|item| text(&item["key"]) == both), "{obsolete:?}");
    let event = |order: &String| {
        let item = open.iter().find(|item| text(&item["key"]) == *order).expect("it is open");
        text(&item["id"])
    };

    // A customer cancels one meanwhile; of another product, less is there than was sold.
    let path = format!("/api/v1/orders/{regretted}/cancel");
    assert_eq!(system.order.post(&path, json!({})).await.status, 202);
    system.product.adjust("P06", -50).await;
    system.product.adjust("P03", -4).await;
    let reason = ["--reason", "corrected by hand", "--yes"];
    let accept = [&["admin", "--order", "lost-commands", "accept", &event(&by_hand)], &reason[..]];
    let accepted = run(&system.order, &accept.concat());
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    let all = ["admin", "--order", "--json", "lost-commands", "again", "--all", "--yes"];
    let sent = run(&system.order, &all);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let counts: Value = serde_json::from_str(sent.stdout.trim()).expect("one line");
    assert_eq!((&counts["again"], &counts["skipped"]), (&json!(3), &json!(0)), "{counts}");
    let twice = ["admin", "--order", "lost-commands", "again", &event(&again), "--yes"];
    let twice = run(&system.order, &twice);
    assert_eq!(twice.code, Some(1), "{twice:?}");
    assert!(twice.stderr.contains("closed already: again"), "{twice:?}");

    system.wait_until_settled().await;
    for (order, wanted) in [
        (&kept, "CONFIRMED"),
        (&again, "CONFIRMED"),
        (&by_hand, "CONFIRMED"),
        (&sold_out, "REJECTED"),
        (&returned, "CANCELLED"),
        (&both, "CANCELLED"),
        (&regretted, "CANCELLED"),
    ] {
        assert_eq!(status(&system, order).await, wanted, "{order}");
    }
    assert_eq!(open_alert(&system.order, "commands_lost").await, None, "none is open");
    assert_equal(&system).await;
    // What was there, and adjusted, without what CONFIRMED orders took: no piece is lost or sold twice.
    for (sku, pieces) in [
        ("P00", 99),
        ("P01", 100),
        ("P02", 97),
        ("P03", 96),
        ("P04", 100),
        ("P05", 100),
        ("P06", 50),
    ] {
        let product = system.product.get(&format!("/api/v1/inventory/{sku}")).await.ok();
        assert_eq!(product["quantity"], pieces, "{product}");
        let copy = system.order.get(&format!("/api/v1/inventory/{sku}")).await.ok();
        assert_eq!((&copy["quantity"], &copy["reserved"]), (&json!(pieces), &json!(0)), "{copy}");
    }
    let audited = system.order.get("/api/admin/v1/audit?limit=100").await.ok().to_string();
    assert_eq!(audited.matches("lost_command.again").count(), 3, "{audited}");
    assert_eq!(audited.matches("lost_command.accept").count(), 1, "{audited}");
    system.stop().await;
}

async fn placed(system: &TestSystem, sku: &str, quantity: i64) -> String {
    text(&system.order.place_order(sku, quantity).await["id"])
}

async fn status(system: &TestSystem, order: &str) -> String {
    text(&system.order.get(&format!("/api/v1/orders/{order}")).await.ok()["status"])
}

/// The lost commands of a state, as the command line lists them.
fn lost(system: &TestSystem, state: &str) -> Vec<Value> {
    let args = ["admin", "--order", "--json", "lost-commands", "--state", state];
    let listed = run(&system.order, &args);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    listed.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A copy of another shape, beside one that is as it should be.
#[tokio::test(flavor = "multi_thread")]
async fn a_third_copy_came_back() {
    let Some((system, mut search, _)) = TestSystem::with_search("restored_third").await else {
        return;
    };
    for n in 0..20 {
        system.product.put_product(&format!("P{n:02}"), 10).await;
    }
    search.wait_until_complete().await;
    system.wait_until_settled().await;
    let backup = search.back_up().await;
    let described = json!({"description": "Blue mug", "quantity": 5, "unit_price_minor": 100});
    system.product.put("/api/v1/inventory/P03", described).await.ok();
    system.product.put_product("NEW", 4).await;
    assert_eq!(system.product.delete("/api/v1/inventory/P12").await.status, 204);
    system.wait_until_settled().await;

    search.come_back(&backup, &system.product.base_url.get()).await;
    let alert = behind(&search).await;
    assert!(text(&alert["subject"]).contains("search-service is behind"), "{alert}");
    for service in [&system.product, &system.order] {
        assert_eq!(open_alert(service, "database_behind").await, None, "it is the third");
    }
    assert_eq!(search.get("/api/v1/search?q=mug").await.ok()["items"], json!([]));
    let done = run(&search, &["restored", "--yes", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let item: Value = serde_json::from_str(done.stdout.trim()).expect("one line");
    assert_eq!((&item["state"], &item["differences"]), (&json!("equal"), &json!(0)), "{item}");
    assert_eq!(open_alert(&search, "database_behind").await, None, "it is over");
    let found = search.get("/api/v1/search?q=mug").await.ok();
    assert_eq!(found["items"], json!([{"sku": "P03", "description": "Blue mug"}]));
    system.wait_until_settled().await;
    assert_equal(&system).await;
    search.stop().await;
    system.stop().await;
}

/// Restarts of every kind are no restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_or_another_instance_is_no_restore() {
    let Some(mut system) = TestSystem::real("restored_kills").await else { return };
    for n in 0..50 {
        system.product.put_product(&format!("P{n:02}"), 10).await;
    }
    system.order.kill9();
    for n in 0..50 {
        system.product.adjust(&format!("P{n:02}"), 1).await;
    }
    system.order.start();
    let mut second = system.second_product();
    system.product.kill9();
    for n in 0..50 {
        second.adjust(&format!("P{n:02}"), 1).await;
    }
    system.product.start();
    second.stop().await;
    system.wait_until_settled().await;
    system.assert_nothing_came_back().await;
    for service in [&system.product, &system.order] {
        let positions = service.count("SELECT count(*) AS n FROM read_position").await;
        assert!(positions >= 4, "each partition has its row: {positions}");
    }
    system.stop().await;
}

/// Whoever began it may be gone before its end.
#[tokio::test(flavor = "multi_thread")]
async fn another_instance_goes_on_with_it_after_a_kill() {
    let Some(mut system) = TestSystem::real("restored_goes_on").await else { return };
    for n in 0..300 {
        system.product.put_product(&format!("P{n:03}"), 10).await;
    }
    system.order.wait_until_complete().await;
    system.wait_until_settled().await;
    system.order.execute("UPDATE product_copy SET version = version + 5, quantity = 1").await;
    system
        .order
        .execute(
            "INSERT INTO product_copy (sku, description, quantity, unit_price_minor, epoch, version, updated_us, applied_us) \
             VALUES ('LOST', 'of later', 5, 100, 1, 3, 1, 1)",
        )
        .await;
    let mut second = system.second_product();
    let begun = system.product.post("/api/admin/v1/restored", json!({"force": true})).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    system.product.kill9();
    system.order.kill9();
    system.order.start();
    let ended = eventually("the restoration to end", DEADLINE, async || {
        let status = second.get("/api/admin/v1/restored").await.ok();
        if status["newest"]["ended_at"].is_null() { Err(status) } else { Ok(status) }
    })
    .await;
    assert_eq!(ended["newest"]["state"], "equal", "{ended}");
    second.stop().await;
    system.product.start();
    assert_equal(&system).await;
    assert_eq!(system.order.get("/api/v1/inventory/LOST").await.status, 404);
    assert_eq!(open_alert(&system.order, "database_behind").await, None);
    system.stop().await;
}

/// A child process, as an operator runs it.
fn run(service: &TestService, args: &[&str]) -> Outcome {
    let url = service.base_url.get();
    let env = [("STOCKLOOP_ADMIN_URL", url.as_str()), ("STOCKLOOP_ADMIN_ORDER_URL", url.as_str())];
    tokio::task::block_in_place(|| Program::built("stockloop").run(args, &env))
}

/// The alert that nobody asked for.
async fn behind(service: &TestService) -> Value {
    eventually("the alert that the database is behind", DEADLINE, async || {
        open_alert(service, "database_behind").await.ok_or("there is none")
    })
    .await
}

async fn open_alert(service: &TestService, kind: &str) -> Option<Value> {
    let page = service.get(&format!("/api/admin/v1/alerts?state=open&kind={kind}")).await.ok();
    page["items"].as_array().and_then(|items| items.first().cloned())
}

/// The copy has what the owner has, by the verification and by the tables.
async fn assert_equal(system: &TestSystem) {
    let asked = system.product.post("/api/admin/v1/verifications", json!({})).await.ok();
    let path = format!("/api/admin/v1/verifications/{}", text(&asked["seq"]));
    let ended = system.product.wait_for_end(&path).await;
    assert_eq!(ended["state"], "equal", "{ended}");
    assert_eq!(system.product.inventory().await, system.order.inventory().await);
}
