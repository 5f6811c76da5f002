//! The judge, `stockloop-loadgen check`: it says nothing of a system that is well, and of each damage exactly what it is.

mod catcher;
mod damages;
mod judge;
mod work;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use self::damages::damages;
use self::judge::Judge;
use self::work::{change, fill, repair, replay, rest};
use crate::system::{TestService, TestSystem, on_embedded_and_real};

on_embedded_and_real!(
    every_damage_is_found_and_nothing_else as "check_damage",
    a_running_system_is_no_finding as "check_running",
);

async fn every_damage_is_found_and_nothing_else(mut system: TestSystem) {
    fill(&system).await;
    system.stop_both().await;
    let judge = Judge::new(&system);
    judge.assert_finds(&[], "what the services have left");
    let said = judge.run(&["--settled"]).stdout;
    assert!(said.contains("order-service: 1 keys are in quarantine"), "{said}");
    for damage in damages() {
        let at = if damage.at_order { &system.order } else { &system.product };
        run(at, &damage.harm).await;
        judge.assert_finds(damage.found, &damage.harm);
        run(at, &damage.undo).await;
    }
    judge.assert_finds(&[], "all is undone");
    // What it could not look at is no success.
    run(&system.order, "UPDATE copy_state SET complete_us = NULL").await;
    let outcome = judge.run(&["--settled"]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stdout.contains("the copy is not complete"), "{outcome:?}");
}

async fn a_running_system_is_no_finding(system: TestSystem) {
    repair(&system).await;
    fill(&system).await;
    let judge = Judge::new(&system);
    for round in 0..5 {
        let (has_ended, made) = (AtomicBool::new(false), AtomicUsize::new(0));
        let look = async {
            let judge = judge.clone();
            let look = tokio::task::spawn_blocking(move || judge.run(&["--patience", "3s"]));
            let outcome = look.await.expect("it ends");
            has_ended.store(true, Ordering::SeqCst);
            (outcome, made.load(Ordering::SeqCst))
        };
        let changes = async {
            for n in 0.. {
                change(&system, &format!("NEW-{round}-{n}"), &made).await;
                if has_ended.load(Ordering::SeqCst) {
                    break;
                }
            }
        };
        let ((outcome, made_meanwhile), (), ()) = tokio::join!(look, changes, replay(&system));
        assert!(made_meanwhile > 0, "nothing moved while it looked");
        let report: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
        assert_eq!(report["findings"], json!([]), "{report:#}");
        // A key or an order that moved at each look is no finding, but was not judged.
        let unchecked = report["unchecked"].to_string();
        let moved = ["have events on their way", "changed at each look"];
        let code = if moved.iter().any(|words| unchecked.contains(words)) { 2 } else { 0 };
        assert_eq!(outcome.code, Some(code), "{report:#}");
    }
    // Once nothing moves, all of it is judged.
    rest(&system).await;
    let quiet = tokio::task::spawn_blocking(move || judge.run(&["--patience", "3s"]));
    let quiet = quiet.await.expect("it ends");
    assert_eq!(quiet.code, Some(0), "{quiet:?}");
    system.stop().await;
}

async fn run(at: &TestService, sql: &str) {
    let (db, statements) = (at.database(), sql.to_owned());
    let done =
        db.write::<_, common::db::DbError>(move |conn| Ok(conn.batch_execute(&statements)?)).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
