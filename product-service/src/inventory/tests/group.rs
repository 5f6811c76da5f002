//! Single adjustments that share a transaction: each is answered as if it had come alone.

use std::sync::mpsc;

use common::db::{Backend, Conn, DbError};
use common::on;
use diesel::prelude::*;
use futures::future::join_all;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, delta};
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

async fn a_failure_is_of_one_alone(fixture: &ProductFixture) {
    for sku in ["A", "B", "C"] {
        fixture.stock(sku, 20).await;
    }
    let refuse = |conn: &mut Conn| {
        let sql = match conn.backend() {
            Backend::Postgres => {
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE 'no' USING ERRCODE = '23514'; END $$; \
                 CREATE TRIGGER refuse BEFORE INSERT ON adjustment FOR EACH ROW \
                 WHEN (NEW.reason = 'poison') EXECUTE FUNCTION refuse()"
            }
            Backend::Sqlite => {
                "CREATE TRIGGER refuse BEFORE INSERT ON adjustment WHEN NEW.reason = 'poison' \
                 BEGIN SELECT RAISE(ABORT, 'no'); END"
            }
        };
        conn.batch_execute(sql).map_err(DbError::from)
    };
    fixture.inventory.db.write(refuse).await.unwrap();
    let poison = json!({"delta": -1, "reason": "poison"});
    for _ in 0..3 {
        let (well, broken, also_well) = tokio::join!(
            join_all((0..5).map(|_| fixture.adjust("A", &[], delta(-1)))),
            join_all(["A", "B", "C"].map(|sku| fixture.adjust(sku, &[], poison.clone()))),
            join_all(["B", "C"].map(|sku| fixture.adjust(sku, &[], delta(-1)))),
        );
        for answer in well.iter().chain(&also_well) {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for answer in broken {
            assert_eq!(answer.status, 500, "{answer:?}");
        }
    }
    let left: Vec<i64> = fixture.rows().await.iter().map(|row| row.quantity).collect();
    assert_eq!(left, [5, 17, 17]);
}

async fn none_waits_for_what_another_writer_holds(fixture: &ProductFixture) {
    if fixture.inventory.db.backend() == Backend::Sqlite {
        // There is one writer.
        return;
    }
    for sku in ["A", "B"] {
        fixture.stock(sku, 10).await;
    }
    let ((held, is_held), (give_back, may_give_back)) = (mpsc::channel(), mpsc::channel());
    let db = fixture.inventory.db.clone();
    let holder = tokio::spawn(async move {
        let hold = move |conn: &mut Conn| {
            on!(conn, c => diesel::update(product::table.find("A"))
                .set(product::description.eq("HELD"))
                .execute(c))?;
            held.send(()).unwrap();
            may_give_back.recv().unwrap();
            Ok::<_, DbError>(())
        };
        db.write(hold).await
    });
    tokio::task::spawn_blocking(move || is_held.recv().unwrap()).await.unwrap();
    let at_a = join_all((0..4).map(|_| fixture.adjust("A", &[], delta(-1))));
    let others = async {
        for _ in 0..3 {
            let both = join_all((0..4).map(|_| fixture.adjust("B", &[], delta(-1)))).await;
            assert!(both.iter().all(|one| one.status != 503), "{both:?}");
        }
        give_back.send(()).unwrap();
    };
    let (at_a, ()) = tokio::join!(at_a, others);
    for answer in at_a {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    holder.await.unwrap().unwrap();
    let rows = fixture.rows().await;
    assert_eq!((rows[0].quantity, rows[0].description.as_str()), (6, "HELD"));
    assert_eq!(rows[1].quantity, 0);
}

on_every_database!(&ProductFixture::new =>
    each_is_decided_after_those_before_it,
    each_keeps_its_own_answer,
    a_failure_is_of_one_alone,
    none_waits_for_what_another_writer_holds,
);
