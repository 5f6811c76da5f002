//! What a product was: its history, and its state as of a version or a moment.

use std::time::Duration;

use common::db::DbError;
use common::on;
use common::schema::{outbox_event, outbox_pending, service_state};
use diesel::prelude::*;
use engine::resync::{Resend, ResendKey, ResyncKind};
use engine::verify::Owner;
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, START, delta};
use crate::inventory::OwnedInventory;
use crate::schema::product;

on_every_database!(&ProductFixture::new =>
    each_version_is_told_with_what_it_was_before,
    pages_follow_each_other_down_to_the_first_version,
    what_is_sent_again_is_no_version_more,
    what_is_gone_is_told_and_never_made_up,
    a_state_whose_event_is_gone_is_the_products_row,
    a_version_is_read_as_it_was,
    a_moment_is_answered_by_the_last_change_up_to_it,
    a_gap_in_the_middle_answers_for_nobody,
    a_removal_and_what_came_after_it_are_versions_like_others,
    versions_go_on_in_the_epoch_after_a_restore,
    what_can_not_be_asked_is_refused,
    many_versions_are_found_by_halving,
);

const SECOND: Duration = Duration::from_secs(1);

/// Puts A in at 5 pieces, then takes one each second: versions 1 to `versions`.
async fn changed(fixture: &ProductFixture, versions: i64) {
    fixture.stock("A", 5 + versions).await;
    for _ in 1..versions {
        fixture.clock.advance(SECOND);
        fixture.adjust("A", &[], delta(-1)).await.ok();
    }
}

/// Deletes the events of these versions, as retention does.
async fn forget(fixture: &ProductFixture, versions: &'static [i64]) {
    let done = fixture.inventory.db.write::<_, DbError>(move |conn| {
        let gone = outbox_event::table.filter(outbox_event::version.eq_any(versions));
        let ids = outbox_event::table
            .filter(outbox_event::version.eq_any(versions))
            .select(outbox_event::id);
        let ids: Vec<common::ids::EventId> = on!(&mut *conn, c => ids.load(c))?;
        let open = outbox_pending::table.filter(outbox_pending::id.eq_any(ids));
        on!(&mut *conn, c => diesel::delete(open).execute(c))?;
        Ok(on!(conn, c => diesel::delete(gone).execute(c))?)
    });
    assert!(done.await.unwrap() > 0);
}

/// Sends the present state of A again.
async fn resend(fixture: &ProductFixture, kind: ResyncKind, above: Option<i64>) {
    let outbox = fixture.inventory.outbox.clone();
    let done = fixture.inventory.db.write::<_, DbError>(move |conn| {
        let keys = [ResendKey { key: "A".to_owned(), above }];
        let resend = Resend { keys: &keys, kind, reason: None, now: START };
        let resent = OwnedInventory.resend(conn, &resend)?;
        Ok(outbox.append(conn, resent.events)?.len())
    });
    assert_eq!(done.await.unwrap(), 1);
}

async fn history(fixture: &ProductFixture, query: &str) -> Value {
    fixture.get(&format!("/inventory/A/history{query}")).await.ok()
}

fn versions(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|item| item["version"].as_i64().unwrap()).collect()
}

fn after(seconds: u64) -> String {
    START.after(SECOND * u32::try_from(seconds).unwrap()).to_string()
}

async fn each_version_is_told_with_what_it_was_before(fixture: &ProductFixture) {
    fixture.get("/inventory/A/history").await.assert_problem(404, "not-found", "sku");
    changed(fixture, 2).await;
    let page = history(fixture, "").await;
    assert_eq!((&page["next"], &page["gone_before"]), (&Value::Null, &Value::Null));
    let state = |quantity: i64| {
        json!({
            "description": "HEART", "quantity": quantity, "unit_price_minor": 255,
            "allow_backorder": false, "removed": false,
        })
    };
    let events = fixture.events().await;
    assert_eq!(
        page["items"],
        json!([
            {
                "version": 2, "at": after(1), "before": state(7), "after": state(6), "epoch": 1,
                "cause": {"kind": "adjustment", "reason": "sale"}, "event_id": events[1].id,
            },
            {
                "version": 1, "at": after(0), "after": state(7), "epoch": 1,
                "cause": {"kind": "put"}, "event_id": events[0].id,
            },
        ])
    );
}

async fn pages_follow_each_other_down_to_the_first_version(fixture: &ProductFixture) {
    changed(fixture, 5).await;
    fixture.stock("B", 1).await;
    let first = history(fixture, "?limit=2").await;
    assert_eq!((versions(&first), &first["next"]), (vec![5, 4], &json!("4")));
    assert_eq!(first["items"][1]["before"]["quantity"], 8, "the page after it has that version");
    let second = history(fixture, "?limit=2&before_version=4").await;
    assert_eq!((versions(&second), &second["next"]), (vec![3, 2], &json!("2")));
    let last = history(fixture, "?limit=2&before_version=2").await;
    assert_eq!((versions(&last), &last["next"]), (vec![1], &Value::Null));
    assert_eq!(last["gone_before"], Value::Null);
    assert_eq!(versions(&history(fixture, "?before_version=1").await), [0; 0]);
}

async fn what_is_sent_again_is_no_version_more(fixture: &ProductFixture) {
    changed(fixture, 2).await;
    for kind in [ResyncKind::Resync, ResyncKind::Repair, ResyncKind::Bootstrap] {
        resend(fixture, kind, None).await;
    }
    fixture.adjust("A", &[], delta(-1)).await.ok();
    let page = history(fixture, "").await;
    assert_eq!(versions(&page), [3, 2, 1]);
    assert_eq!(page["items"][1]["cause"]["kind"], "adjustment", "not what sent it again");
    assert_eq!(versions(&history(fixture, "?limit=1&before_version=3").await), [2]);
    // A copy that is ahead has its owner raise the version: that is one more, though nothing else changed.
    resend(fixture, ResyncKind::Repair, Some(6)).await;
    let page = history(fixture, "").await;
    assert_eq!(versions(&page), [7, 3, 2, 1]);
    assert_eq!(page["items"][0]["cause"]["kind"], "repair");
    assert_eq!(page["items"][0]["gap"], json!({"from": 4, "to": 6}));
    assert_eq!(page["items"][0]["at"], page["items"][1]["at"]);
    let now = fixture.get(&format!("/inventory/A?at={}", after(1))).await;
    assert_eq!(now.ok()["version"], 7, "the last of those that began in the same microsecond");
}

async fn what_is_gone_is_told_and_never_made_up(fixture: &ProductFixture) {
    changed(fixture, 6).await;
    forget(fixture, &[1, 2]).await;
    let page = history(fixture, "").await;
    assert_eq!((versions(&page), &page["gone_before"]), (vec![6, 5, 4, 3], &json!(3)));
    assert_eq!(page["items"][3]["before"], Value::Null);
    assert_eq!(history(fixture, "?limit=2").await["gone_before"], Value::Null, "more follows");
    let below = history(fixture, "?before_version=3").await;
    assert_eq!((versions(&below), &below["gone_before"]), (vec![], &json!(3)));
    for query in ["version=2".to_owned(), "version=1".to_owned(), format!("at={}", after(1))] {
        let gone = fixture.get(&format!("/inventory/A?{query}")).await;
        gone.assert_problem(410, "history-gone", "");
        let oldest = (&gone.body["oldest_version"], &gone.body["oldest_at"]);
        assert_eq!(oldest, (&json!(3), &json!(after(2))), "{query}");
        let detail = gone.body["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("version 3 of {}", after(2))), "{detail}");
    }
    assert_eq!(fixture.get("/inventory/A?version=3").await.ok()["quantity"], 9);
}

async fn a_state_whose_event_is_gone_is_the_products_row(fixture: &ProductFixture) {
    changed(fixture, 3).await;
    forget(fixture, &[1, 2, 3]).await;
    let page = history(fixture, "").await;
    assert_eq!((versions(&page), &page["gone_before"]), (vec![3], &json!(3)));
    let item = &page["items"][0];
    assert_eq!(
        (&item["cause"], &item["epoch"], &item["event_id"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&item["after"]["quantity"], &item["at"]), (&json!(6), &json!(after(2))));
    assert_eq!(fixture.get("/inventory/A?version=3").await.ok()["quantity"], 6);
    assert_eq!(fixture.get(&format!("/inventory/A?at={}", after(2))).await.ok()["version"], 3);
    let gone = fixture.get(&format!("/inventory/A?at={}", after(1))).await;
    gone.assert_problem(410, "history-gone", "");
    assert_eq!(gone.body["oldest_version"], 3);
    // Only an event that sent it again is left: it does not pass for the change.
    resend(fixture, ResyncKind::Resync, None).await;
    assert_eq!(history(fixture, "").await["items"][0]["cause"]["kind"], "resync");
}

async fn a_version_is_read_as_it_was(fixture: &ProductFixture) {
    changed(fixture, 3).await;
    let then = fixture.get("/inventory/A?version=2").await;
    assert_eq!(then.header("etag"), "\"2\"");
    assert_eq!(
        then.ok(),
        json!({
            "sku": "A", "description": "HEART", "quantity": 7, "unit_price_minor": 255,
            "allow_backorder": false, "version": 2, "updated_at": after(1),
        })
    );
    let known = fixture
        .send("GET", "/inventory/A?version=2", &[("if-none-match", "\"2\"")], Value::Null)
        .await;
    assert_eq!(known.status, 304);
    assert_eq!(
        fixture.get("/inventory/A?version=3").await.ok(),
        fixture.get("/inventory/A").await.ok()
    );
    let to_come = fixture.get("/inventory/A?version=4").await;
    to_come.assert_problem(404, "not-found", "version");
    assert!(to_come.body["detail"].as_str().unwrap().contains("newest is 3"));
    fixture.get("/inventory/NONE?version=1").await.assert_problem(404, "not-found", "sku");
}

async fn a_moment_is_answered_by_the_last_change_up_to_it(fixture: &ProductFixture) {
    changed(fixture, 3).await;
    // Two more within one microsecond.
    fixture.clock.advance(SECOND);
    fixture.adjust("A", &[], delta(-1)).await.ok();
    fixture.adjust("A", &[], delta(-1)).await.ok();
    // A clock that was set back makes no version older than the one before it.
    fixture.clock.set_back(SECOND * 2);
    fixture.adjust("A", &[], delta(-1)).await.ok();
    fixture.clock.advance(SECOND * 10);
    for (moment, version) in [
        (after(0), 1),
        ("2010-12-01T08:26:00.999999Z".to_owned(), 1),
        (after(1), 2),
        ("2010-12-01T09:26:01.5%2B01:00".to_owned(), 2),
        (after(2), 3),
        (after(3), 6),
        (after(9), 6),
    ] {
        let then = fixture.get(&format!("/inventory/A?at={moment}")).await;
        assert_eq!(then.header("etag"), format!("\"{version}\""), "{moment}");
        assert_eq!(then.ok()["version"], version, "{moment}");
    }
    let before = fixture.get("/inventory/A?at=2010-12-01T08:25:59.999999Z").await;
    before.assert_problem(404, "not-found", "at");
    let detail = before.body["detail"].as_str().unwrap();
    assert!(detail.contains(&after(0)), "{detail}");
    let none = fixture.get(&format!("/inventory/NONE?at={}", after(0))).await;
    none.assert_problem(404, "not-found", "sku");
}

async fn a_gap_in_the_middle_answers_for_nobody(fixture: &ProductFixture) {
    changed(fixture, 6).await;
    forget(fixture, &[3, 4]).await;
    let page = history(fixture, "").await;
    assert_eq!((versions(&page), &page["gone_before"]), (vec![6, 5, 2, 1], &Value::Null));
    let (five, two) = (&page["items"][1], &page["items"][2]);
    assert_eq!((&five["gap"], &five["before"]), (&json!({"from": 3, "to": 4}), &Value::Null));
    assert_eq!((&two["gap"], &two["before"]["quantity"]), (&Value::Null, &json!(11)));
    let cut = history(fixture, "?limit=2").await;
    assert_eq!(cut["items"][1]["gap"], json!({"from": 3, "to": 4}), "also at a page's end");
    // Version 2 began one second after the start, but nobody knows how long it held.
    for query in ["version=3".to_owned(), format!("at={}", after(1)), format!("at={}", after(3))] {
        let gone = fixture.get(&format!("/inventory/A?{query}")).await;
        gone.assert_problem(410, "history-gone", "");
        assert_eq!(gone.body["oldest_version"], 1);
        let detail = gone.body["detail"].as_str().unwrap();
        assert!(
            detail.contains("version 2 of") && detail.contains("then version 5 of"),
            "{detail}"
        );
    }
    assert_eq!(fixture.get(&format!("/inventory/A?at={}", after(0))).await.ok()["version"], 1);
    assert_eq!(fixture.get("/inventory/A?version=2").await.ok()["version"], 2);
}

async fn a_removal_and_what_came_after_it_are_versions_like_others(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    fixture.clock.advance(SECOND);
    fixture.delete("A", &[]).await;
    fixture.clock.advance(SECOND);
    let removed = fixture.get(&format!("/inventory/A?at={}", after(2))).await;
    removed.assert_problem(404, "not-found", "sku");
    fixture.stock("A", 9).await;
    let page = history(fixture, "").await;
    assert_eq!(versions(&page), [3, 2, 1]);
    assert_eq!(page["items"][0]["before"]["removed"], true);
    assert_eq!(page["items"][1]["after"]["removed"], true);
    assert_eq!(page["items"][1]["cause"]["kind"], "removal");
    for query in ["version=2".to_owned(), format!("at={}", after(1))] {
        let then = fixture.get(&format!("/inventory/A?{query}")).await;
        then.assert_problem(404, "not-found", "sku");
        let detail = then.body["detail"].as_str().unwrap();
        assert!(
            detail.contains("was removed at version 2") && detail.contains(&after(1)),
            "{detail}"
        );
    }
    assert_eq!(fixture.get(&format!("/inventory/A?at={}", after(0))).await.ok()["quantity"], 5);
    fixture.delete("A", &[]).await;
    assert_eq!(versions(&history(fixture, "").await), [4, 3, 2, 1], "a removed one has a history");
    // Its tombstone goes as well: events say what it was, but not what it is since.
    let forgotten = fixture.inventory.db.write::<_, DbError>(|conn| {
        Ok(on!(conn, c => diesel::delete(product::table.find("A")).execute(c))?)
    });
    assert_eq!(forgotten.await.unwrap(), 1);
    assert_eq!(versions(&history(fixture, "").await), [4, 3, 2, 1]);
    assert_eq!(fixture.get("/inventory/A?version=3").await.ok()["quantity"], 9);
    let since = fixture.get(&format!("/inventory/A?at={}", after(2))).await;
    since.assert_problem(410, "history-gone", "");
    assert!(
        since.body["detail"].as_str().unwrap().contains("the newest that is kept is version 4")
    );
}

async fn versions_go_on_in_the_epoch_after_a_restore(fixture: &ProductFixture) {
    changed(fixture, 2).await;
    let raised = fixture.inventory.db.write::<_, DbError>(|conn| {
        Ok(on!(conn, c => diesel::update(service_state::table)
            .set(service_state::epoch.eq(7_i64))
            .execute(c))?)
    });
    assert_eq!(raised.await.unwrap(), 1);
    // All states are sent again in the new epoch: the same version, in two of them.
    resend(fixture, ResyncKind::Restored, None).await;
    fixture.clock.advance(SECOND);
    fixture.adjust("A", &[], delta(-1)).await.ok();
    let page = history(fixture, "").await;
    let told: Vec<_> = page["items"].as_array().unwrap().iter().collect();
    let told: Vec<_> =
        told.iter().map(|item| (item["version"].as_i64(), item["epoch"].as_i64())).collect();
    assert_eq!(told, [(Some(3), Some(7)), (Some(2), Some(1)), (Some(1), Some(1))]);
    assert_eq!(page["items"][1]["cause"]["kind"], "adjustment");
    assert_eq!(fixture.get(&format!("/inventory/A?at={}", after(1))).await.ok()["version"], 2);
}

async fn what_can_not_be_asked_is_refused(fixture: &ProductFixture) {
    changed(fixture, 1).await;
    for (query, field) in [
        ("version=1&at=2010-12-01T08:26:00Z", "at"),
        ("version=0", "version"),
        ("version=-1", "version"),
        ("version=x", "version"),
        ("version=", "version"),
        ("version=1&version=2", "version"),
        ("at=yesterday", "at"),
        ("at=", "at"),
        ("at=2010-12-01T08:26:00.000001Z", "at"),
        ("when=now", "when"),
    ] {
        let answer = fixture.get(&format!("/inventory/A?{query}")).await;
        answer.assert_problem(422, "invalid", field);
    }
    let odd = fixture.get("/inventory/A?at=2010").await;
    let detail = odd.body["detail"].as_str().unwrap();
    assert!(detail.starts_with("\"2010\" is not a moment such as "), "{detail}");
    for (query, field) in [
        ("before_version=0", "before_version"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("before_version=x", "before_version"),
        ("before_version=", "before_version"),
        ("after=1", "after"),
    ] {
        let answer = fixture.get(&format!("/inventory/A/history?{query}")).await;
        answer.assert_problem(422, "invalid", field);
    }
    let posted = fixture.send("POST", "/inventory/A/history", &[], Value::Null).await;
    posted.assert_problem(405, "method-not-allowed", "");
}

async fn many_versions_are_found_by_halving(fixture: &ProductFixture) {
    changed(fixture, 40).await;
    forget(fixture, &[9, 17, 33]).await;
    for second in 0..40 {
        let version = i64::try_from(second).unwrap() + 1;
        let then = fixture.get(&format!("/inventory/A?at={}", after(second))).await;
        // A version that is gone, and the one before it, whose end is not known.
        if [8, 9, 16, 17, 32, 33].contains(&version) {
            then.assert_problem(410, "history-gone", "");
        } else {
            assert_eq!(then.ok()["version"], version);
        }
    }
}
