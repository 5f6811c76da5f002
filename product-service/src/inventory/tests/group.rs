//! Single changes that share a transaction: each is answered as if it had come alone.

use actix_web::FromRequest;
use common::db::{Backend, Conn, DbError};
use common::http::{GroupedChange, Precondition, Problem};
use common::inventory::Sku;
use common::on;
use diesel::prelude::*;
use futures::future::join_all;
use serde_json::json;
use stockloop_tests::database::refuse_poison;
use stockloop_tests::http::{self, TestResponse};
use stockloop_tests::locks::{keep_open, until_waiting};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, START, content, delta, line};
use crate::inventory::{ChangeKind, ChangeOutcome, ProductChange, WriteContext, change_group};
use crate::schema::product;

async fn each_is_decided_after_those_before_it(fixture: &ProductFixture) {
    fixture.stock("A", 10).await;
    fixture.stock("B", 10).await;
    let stale = [("if-match", "\"1\"")];
    let sales = (0..30).map(|_| fixture.adjust("A", &[], delta(-1)));
    let (sales, unknown, stale, other) = tokio::join!(
        join_all(sales),
        fixture.adjust("C", &[], delta(1)),
        join_all([fixture.adjust("B", &stale, delta(1)), fixture.adjust("B", &stale, delta(1))]),
        fixture.adjust("B", &[], delta(i64::MAX)),
    );
    let (sold, refused): (Vec<_>, Vec<_>) = sales.iter().partition(|one| one.status == 200);
    assert_eq!((sold.len(), refused.len()), (10, 20));
    for refused in refused {
        refused.assert_problem(409, "insufficient-stock", "delta");
    }
    let mut versions: Vec<String> = sold.iter().map(|one| one.header("etag").to_owned()).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 10, "each has a version of its own");
    unknown.assert_problem(404, "not-found", "sku");
    assert_eq!(stale[0].status, 200);
    stale[1].assert_problem(412, "precondition-failed", "");
    other.assert_problem(422, "invalid", "delta");
    let rows = fixture.rows().await;
    assert_eq!((rows[0].quantity, rows[0].version), (0, 11));
    assert_eq!((rows[1].quantity, rows[1].version), (11, 2));
    let events = fixture.events().await;
    let versions: Vec<i64> = events.iter().filter(|e| e.key == "A").map(|e| e.version).collect();
    assert_eq!(versions, (1..=11).collect::<Vec<_>>(), "ids must grow with versions");
    assert_eq!(fixture.adjustments().await.len(), 11);
}

async fn all_kinds_of_changes_are_one_after_the_other(fixture: &ProductFixture) {
    let done = |answers: &[TestResponse]| answers.iter().filter(|a| a.status.is_success()).count();
    let mut changes = 0;
    for round in 0..5 {
        let news: Vec<String> = (0..4).map(|n| format!("N{round}{n}")).collect();
        let (puts, adjustments, removals, created, stale) = tokio::join!(
            join_all((1..5).map(|n| fixture.put("A", &[], content(n)))),
            join_all((0..4).map(|_| fixture.adjust("A", &[], delta(-1)))),
            join_all((0..2).map(|_| fixture.delete("A", &[]))),
            join_all(news.iter().map(|sku| fixture.put(sku, &[], content(1)))),
            fixture.put("A", &[("if-match", "\"0\"")], content(9)),
        );
        assert_eq!(done(&puts), 4, "{puts:?}");
        assert!(created.iter().all(|one| one.status == 201), "{created:?}");
        stale.assert_problem(412, "precondition-failed", "");
        changes += done(&puts) + done(&adjustments) + done(&removals);
    }
    let events = fixture.events().await;
    let versions: Vec<i64> = events.iter().filter(|e| e.key == "A").map(|e| e.version).collect();
    let last = i64::try_from(changes).unwrap();
    assert_eq!(versions, (1..=last).collect::<Vec<_>>(), "each is a version of its own");
    let row = fixture.rows().await.remove(0);
    assert_eq!(row.version, last);
    let payloads = fixture.payloads().await;
    let told = payloads.iter().rfind(|payload| payload["sku"] == "A").unwrap();
    assert_eq!((&told["quantity"], &told["removed"]), (&json!(row.quantity), &json!(row.removed)));
    assert_eq!(fixture.rows().await.len(), 21);
}

fn change_of_a(header: (&str, &str), kind: ChangeKind) -> ProductChange {
    let request = http::request("PUT", "/", &[header]).to_http_request();
    let precondition = Precondition::extract(&request).into_inner().unwrap();
    ProductChange { sku: Sku::parse("A").unwrap(), precondition, kind }
}

/// What became of a change, with the version or the status.
fn became(outcome: ChangeOutcome) -> (&'static str, i64) {
    match outcome {
        ChangeOutcome::Created(product) => ("created", product.version),
        ChangeOutcome::Changed(product) => ("changed", product.version),
        ChangeOutcome::Removed => ("removed", 0),
        ChangeOutcome::Refused(refusal) => ("refused", Problem::from(&refusal).status.into()),
        ChangeOutcome::Held => ("held", 0),
    }
}

async fn a_product_comes_and_goes_in_one_group(fixture: &ProductFixture) {
    let put = |quantity| ChangeKind::Put(serde_json::from_value(content(quantity)).unwrap());
    let adjust = |pieces| ChangeKind::Adjust(serde_json::from_value(delta(pieces)).unwrap());
    let changes = [
        change_of_a(("if-none-match", "*"), put(5)),
        change_of_a(("if-match", "\"1\""), ChangeKind::Remove),
        change_of_a(("if-match", "\"2\""), adjust(-1)),
        change_of_a(("if-none-match", "*"), put(7)),
        change_of_a(("if-match", "\"2\""), adjust(-1)),
        change_of_a(("if-match", "\"3\""), adjust(-2)),
        change_of_a(("if-match", "\"3\""), put(9)),
        change_of_a(("if-match", "\"4\""), ChangeKind::Remove),
        change_of_a(("if-none-match", "\"5\""), put(1)),
    ];
    let outbox = fixture.inventory.outbox.clone();
    let context = WriteContext { outbox, now: START, traceparent: None };
    let write = move |conn: &mut Conn| {
        let grouped = |change| GroupedChange { change, traceparent: None };
        let group: Vec<_> = changes.iter().map(grouped).collect();
        Ok::<_, DbError>(change_group(conn, &context, &group).unwrap())
    };
    let outcomes = fixture.inventory.db.write(write).await.unwrap();
    let became: Vec<_> = outcomes.into_iter().map(became).collect();
    let wanted = [
        ("created", 1),
        ("removed", 0),
        ("refused", 404),
        ("created", 3),
        ("refused", 412),
        ("changed", 4),
        ("refused", 412),
        ("removed", 0),
        ("created", 6),
    ];
    assert_eq!(became, wanted);
    let row = fixture.rows().await.remove(0);
    assert_eq!((row.quantity, row.version, row.removed), (1, 6, false));
    let versions: Vec<i64> = fixture.events().await.iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
    let kept = ("A".to_owned(), -2, 5, 4, "sale".to_owned(), None);
    assert_eq!(fixture.adjustments().await, [kept]);
}

async fn a_removal_takes_the_texts_along_whatever_comes_after(fixture: &ProductFixture) {
    let details = json!({"long_description": "A heart.", "supplier": "ACME"});
    for sku in ["A", "B", "C"] {
        fixture.stock(sku, 1).await;
        let path = format!("/inventory/{sku}/details");
        assert_eq!(fixture.send("PUT", &path, &[], details.clone()).await.status, 200);
    }
    let (removed, kept) = tokio::join!(
        join_all(["A", "B"].map(|sku| fixture.delete(sku, &[]))),
        fixture.put("C", &[], content(5)),
    );
    assert!(removed.iter().all(|one| one.status == 204), "{removed:?}");
    assert_eq!(kept.status, 200);
    join_all(["A", "B"].map(|sku| fixture.put(sku, &[], content(1)))).await;
    for (sku, supplier) in [("A", json!(null)), ("B", json!(null)), ("C", json!("ACME"))] {
        let details = fixture.get(&format!("/inventory/{sku}/details")).await.ok();
        assert_eq!(details["supplier"], supplier, "{sku}");
    }
}

/// What is not there can't be locked: the insert waits, and finds that it is.
async fn what_another_one_puts_in_meanwhile_is_replaced(fixture: &ProductFixture) {
    if fixture.inventory.db.backend() == Backend::Sqlite {
        // There is one writer.
        return;
    }
    let (inserted, is_inserted) = tokio::sync::oneshot::channel();
    let db = fixture.inventory.db.clone();
    let other = tokio::spawn(async move {
        let put_in = move |conn: &mut Conn| {
            conn.batch_execute(
                "INSERT INTO product (sku, description, quantity, unit_price_minor, allow_backorder, removed, \
                 version, updated_us) VALUES ('A', 'THEIRS', 5, 1, false, false, 1, 1)",
            )?;
            let _ = inserted.send(());
            // Until the other one waits for it.
            until_waiting(conn, 1).map_err(DbError::from)
        };
        db.write(put_in).await
    });
    is_inserted.await.unwrap();
    let (put, new) =
        tokio::join!(fixture.put("A", &[], content(7)), fixture.put("B", &[], content(1)));
    other.await.unwrap().unwrap();
    assert_eq!((put.status.as_u16(), put.header("etag")), (200, "\"2\""));
    assert_eq!(new.status, 201);
    let events = fixture.events().await;
    assert_eq!(events.len(), 2, "what was rolled back left no event");
}

async fn what_a_deadlock_undid_is_tried_again(fixture: &ProductFixture) {
    if fixture.inventory.db.backend() == Backend::Sqlite {
        // There is one writer.
        return;
    }
    for sku in ["A", "B"] {
        fixture.stock(sku, 10).await;
    }
    let choose = |conn: &mut Conn| {
        // Numbers that were taken are not given back.
        conn.batch_execute(
            "CREATE SEQUENCE victims; CREATE FUNCTION choose() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF nextval('victims') <= 3 THEN RAISE 'deadlock' USING ERRCODE = '40P01'; END IF; \
             RETURN NEW; END $$; \
             CREATE TRIGGER choose BEFORE INSERT ON adjustment FOR EACH ROW EXECUTE FUNCTION choose()",
        )
        .map_err(DbError::from)
    };
    fixture.inventory.db.write(choose).await.unwrap();
    let sales = ["A", "A", "B", "A", "B"].map(|sku| fixture.adjust(sku, &[], delta(-1)));
    for sold in join_all(sales).await {
        assert_eq!(sold.status, 200, "{sold:?}");
    }
    let left: Vec<i64> = fixture.rows().await.iter().map(|row| row.quantity).collect();
    assert_eq!(left, [7, 8]);
    assert_eq!(fixture.events().await.len(), 7);
}

async fn each_keeps_its_own_answer(fixture: &ProductFixture) {
    fixture.stock("A", 100).await;
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let send = async |pieces: i64| {
        let headers = keys.iter().map(|key| [("idempotency-key", key.as_str())]);
        let headers: Vec<_> = headers.collect();
        join_all(headers.iter().map(|key| fixture.adjust("A", key, delta(pieces)))).await
    };
    let first = send(-1).await;
    let second = send(-1).await;
    for (first, second) in first.iter().zip(&second) {
        assert_eq!((first.status.as_u16(), &first.body), (200, &second.body));
        assert_eq!(first.header("etag"), second.header("etag"));
        assert_eq!(second.header("idempotent-replayed"), "true");
    }
    for other in send(-2).await {
        other.assert_problem(422, "invalid", "Idempotency-Key");
    }
    assert_eq!(fixture.rows().await[0].quantity, 80);
    assert_eq!(fixture.adjustments().await.len(), 20);
}

async fn a_key_that_is_in_use_elsewhere_stops_one_alone(fixture: &ProductFixture) {
    if fixture.inventory.db.backend() == Backend::Sqlite {
        // There is one instance.
        return;
    }
    fixture.stock("A", 10).await;
    let lock = |conn: &mut Conn| {
        // As another instance locks the key.
        conn.batch_execute(
            "SELECT pg_advisory_xact_lock(('x' || left(encode(sha256(convert_to( \
             E'anonymous\\nPOST /api/v1/inventory/A/adjustments\\nk1', 'UTF8')), 'hex'), 16))::bit(64)::bigint)",
        )
        .map_err(DbError::from)
    };
    let elsewhere = keep_open(&fixture.inventory.db, lock).await;
    let (key, other_key) = ([("idempotency-key", "k1")], [("idempotency-key", "k2")]);
    let (others, in_use, keyed) = tokio::join!(
        join_all((0..3).map(|_| fixture.adjust("A", &[], delta(-1)))),
        fixture.adjust("A", &key, delta(-1)),
        fixture.adjust("A", &other_key, delta(-1)),
    );
    in_use.assert_problem(409, "idempotency-running", "");
    for answer in others.iter().chain([&keyed]) {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    elsewhere.commit().await;
    assert_eq!(fixture.adjust("A", &key, delta(-1)).await.status, 200);
    assert_eq!(fixture.rows().await[0].quantity, 5);
}

async fn a_failure_is_of_one_alone(fixture: &ProductFixture) {
    for sku in ["A", "B", "C"] {
        fixture.stock(sku, 20).await;
    }
    let refuse =
        |conn: &mut Conn| refuse_poison(conn, "adjustment", "reason").map_err(DbError::from);
    fixture.inventory.db.write(refuse).await.unwrap();
    let poison = json!({"delta": -1, "reason": "poison"});
    for _ in 0..3 {
        let (well, broken, also_well) = tokio::join!(
            join_all((0..5).map(|_| fixture.adjust("A", &[], delta(-1)))),
            join_all(["A", "B", "C"].map(|sku| fixture.adjust(sku, &[], poison.clone()))),
            join_all(["B", "C"].map(|sku| fixture.adjust(sku, &[], delta(-1)))),
        );
        let (put, broken_too, gone) = tokio::join!(
            fixture.put("D", &[], content(1)),
            fixture.adjust("A", &[], poison.clone()),
            fixture.delete("E", &[]),
        );
        assert!(put.status.is_success(), "{put:?}");
        assert_eq!((broken_too.status.as_u16(), gone.status.as_u16()), (500, 404));
        for answer in well.iter().chain(&also_well) {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for answer in broken {
            assert_eq!(answer.status, 500, "{answer:?}");
        }
    }
    let left: Vec<i64> = fixture.rows().await.iter().map(|row| row.quantity).collect();
    assert_eq!(left, [5, 17, 17, 1]);
}

/// What a commit meets names nobody, and all of it is undone.
async fn a_failed_commit_is_of_one_alone(fixture: &ProductFixture) {
    if fixture.inventory.db.backend() == Backend::Sqlite {
        // It has no such triggers.
        return;
    }
    fixture.stock("A", 10).await;
    let refuse = |conn: &mut Conn| {
        conn.batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE 'no' USING ERRCODE = '23514'; END $$; \
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON adjustment DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW WHEN (NEW.reason = 'poison') EXECUTE FUNCTION refuse()",
        )
        .map_err(DbError::from)
    };
    fixture.inventory.db.write(refuse).await.unwrap();
    let (before, broken, after) = tokio::join!(
        join_all((0..3).map(|_| fixture.adjust("A", &[], delta(-1)))),
        fixture.adjust("A", &[], json!({"delta": -1, "reason": "poison"})),
        join_all((0..3).map(|_| fixture.adjust("A", &[], delta(-1)))),
    );
    assert_eq!(broken.status, 500, "{broken:?}");
    for answer in before.iter().chain(&after) {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(fixture.rows().await[0].quantity, 4);
}

async fn whoever_may_be_done_is_told_so(fixture: &ProductFixture) {
    if fixture.inventory.db.backend() == Backend::Sqlite {
        // Nothing cuts it off.
        return;
    }
    fixture.stock("A", 10).await;
    let cut_off = |conn: &mut Conn| {
        conn.batch_execute(
            "CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER cut_off AFTER INSERT ON adjustment DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION cut_off()",
        )
        .map_err(DbError::from)
    };
    fixture.inventory.db.write(cut_off).await.unwrap();
    let key = [("idempotency-key", "k1")];
    for answer in [
        fixture.adjust("A", &[], delta(-1)).await,
        fixture.adjust("A", &key, delta(-1)).await,
        fixture.batch(&[], json!([line("A", -1)])).await,
        fixture.batch(&key, json!([line("A", -1)])).await,
    ] {
        answer.assert_problem(503, "outcome-not-known", "");
        assert_eq!(answer.header("retry-after"), "");
    }
    let mend = |conn: &mut Conn| {
        conn.batch_execute("DROP TRIGGER cut_off ON adjustment").map_err(DbError::from)
    };
    fixture.inventory.db.write(mend).await.unwrap();
    assert_eq!(fixture.adjust("A", &key, delta(-1)).await.status, 200, "its key finds out");
    assert_eq!(fixture.rows().await[0].quantity, 9);
}

async fn none_waits_for_what_another_writer_holds(fixture: &ProductFixture) {
    if fixture.inventory.db.backend() == Backend::Sqlite {
        // There is one writer.
        return;
    }
    for sku in ["A", "B"] {
        fixture.stock(sku, 10).await;
    }
    let hold = |conn: &mut Conn| {
        on!(conn, c => diesel::update(product::table.find("A"))
            .set(product::description.eq("HELD"))
            .execute(c))?;
        Ok::<_, DbError>(())
    };
    let held = keep_open(&fixture.inventory.db, hold).await;
    let at_a = join_all((0..4).map(|_| fixture.adjust("A", &[], delta(-1))));
    let others = async {
        for _ in 0..3 {
            let both = join_all((0..4).map(|_| fixture.adjust("B", &[], delta(-1)))).await;
            assert!(both.iter().all(|one| one.status != 503), "{both:?}");
        }
        held.commit().await;
    };
    let (at_a, stale, ()) =
        tokio::join!(at_a, fixture.put("A", &[("if-match", "\"9\"")], content(1)), others);
    stale.assert_problem(412, "precondition-failed", "");
    for answer in at_a {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let rows = fixture.rows().await;
    assert_eq!((rows[0].quantity, rows[0].description.as_str()), (6, "HELD"));
    assert_eq!(rows[1].quantity, 0);
}

on_every_database!(&ProductFixture::new =>
    each_is_decided_after_those_before_it,
    all_kinds_of_changes_are_one_after_the_other,
    a_product_comes_and_goes_in_one_group,
    a_removal_takes_the_texts_along_whatever_comes_after,
    what_another_one_puts_in_meanwhile_is_replaced,
    what_a_deadlock_undid_is_tried_again,
    each_keeps_its_own_answer,
    a_key_that_is_in_use_elsewhere_stops_one_alone,
    a_failure_is_of_one_alone,
    a_failed_commit_is_of_one_alone,
    whoever_may_be_done_is_told_so,
    none_waits_for_what_another_writer_holds,
);
