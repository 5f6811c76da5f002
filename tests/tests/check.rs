//! The judge, `stockloop-loadgen check`: it says nothing of a system that is well, and of each damage exactly what it is.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::env::Env;
use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use stockloop_tests::program::{Outcome, Program};
use stockloop_tests::smtp::Mail;

use crate::system::{DEADLINE, TestService, TestSystem, on_embedded_and_real, text};

on_embedded_and_real!(
    every_damage_is_found_and_nothing_else as "check_damage",
    a_running_system_is_no_finding as "check_running",
);

/// What is done to a database, how it is undone, and what has to be found.
struct Damage {
    at_order: bool,
    harm: String,
    undo: String,
    found: &'static [&'static str],
}

impl Damage {
    fn new(harm: &str, undo: &str, found: &'static [&'static str]) -> Self {
        let (harm, undo) = (harm.to_owned(), undo.to_owned());
        Self { at_order: false, harm, undo, found }
    }

    /// One at order-service.
    fn at_order(harm: &str, undo: &str, found: &'static [&'static str]) -> Self {
        Self { at_order: true, ..Self::new(harm, undo, found) }
    }

    /// Rows of `table` are gone.
    fn gone(table: &str, which: &str, found: &'static [&'static str]) -> Self {
        let harm = format!(
            "CREATE TABLE saved AS SELECT * FROM {table} WHERE {which}; DELETE FROM {table} WHERE {which}"
        );
        Self::new(
            &harm,
            &format!("INSERT INTO {table} SELECT * FROM saved; DROP TABLE saved"),
            found,
        )
    }
}

/// An id that no event has, below all that were made.
const OLD_ID: &str = "00000000-0000-7000-8000-000000000001";

fn damages() -> Vec<Damage> {
    let first_of_a =
        "id = (SELECT e.id FROM outbox_event e WHERE e.key = 'A' ORDER BY e.id LIMIT 1)";
    let new_id = Env::system().event_id();
    let mut all = at_product(first_of_a);
    all.extend(at_order(&new_id.to_string()));
    all.extend(of_orders());
    all.extend(of_reservations(&new_id.to_string()));
    all.extend(of_alerts());
    all
}

fn at_product(first_of_a: &str) -> Vec<Damage> {
    let pending = "INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size)";
    let of_event =
        format!("SELECT e.id, 0, 3, e.created_us, 1 FROM outbox_event e WHERE e.{first_of_a}");
    let moved = Damage::gone("outbox_settled", first_of_a, &["still_open"]);
    let price = "replace(payload, '\"unit_price_minor\":255', '\"unit_price_minor\":256')";
    vec![
        Damage::gone("outbox_settled", first_of_a, &["event_lost"]),
        Damage {
            harm: format!("{}; {pending} {of_event}", moved.harm),
            undo: format!("{}; DELETE FROM outbox_pending", moved.undo),
            ..moved
        },
        Damage::new(
            &format!("{pending} {of_event}"),
            "DELETE FROM outbox_pending",
            &["event_in_two_places"],
        ),
        Damage::new(
            &format!("{pending} VALUES ('{OLD_ID}', 0, 3, 0, 1)"),
            "DELETE FROM outbox_pending",
            &["event_without_body"],
        ),
        Damage::new(
            "UPDATE product SET version = version + 1 WHERE sku = 'E'",
            "UPDATE product SET version = version - 1 WHERE sku = 'E'",
            &["change_untold", "copy_older"],
        ),
        Damage::new(
            "UPDATE product SET quantity = quantity + 1 WHERE sku = 'E'",
            "UPDATE product SET quantity = quantity - 1 WHERE sku = 'E'",
            &["change_untold", "copy_content"],
        ),
        Damage::new(
            "UPDATE product SET version = version - 1 WHERE sku = 'A'",
            "UPDATE product SET version = version + 1 WHERE sku = 'A'",
            &["version_down", "copy_newer"],
        ),
        Damage::new(
            &format!(
                "INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us) \
                 SELECT '{OLD_ID}', kind, event_type, key, epoch, version, {price}, created_us \
                 FROM outbox_event WHERE key = 'E' AND version = 1"
            ),
            &format!("DELETE FROM outbox_event WHERE id = '{OLD_ID}'"),
            &["event_lost", "two_contents"],
        ),
        Damage::new(
            "UPDATE outbox_history SET what = 'LATE' WHERE attempt = 3",
            "UPDATE outbox_history SET what = 'FAILED' WHERE attempt = 3",
            &["illegal_attempt"],
        ),
        Damage::new(
            "UPDATE outbox_history SET attempt = -2 WHERE attempt = 2",
            "UPDATE outbox_history SET attempt = 2 WHERE attempt = -2",
            &["illegal_history"],
        ),
        Damage::new(
            "UPDATE adjustment SET delta = delta - 1 WHERE sku = 'A'",
            "UPDATE adjustment SET delta = delta + 1 WHERE sku = 'A'",
            &["stock_unexplained"],
        ),
        Damage::new(
            "UPDATE adjustment SET sku = 'ZZ' WHERE sku = 'A'",
            "UPDATE adjustment SET sku = 'A' WHERE sku = 'ZZ'",
            &["cause_missing", "adjustment_without_change"],
        ),
        Damage::new(
            "UPDATE order_deduction SET version = version + 50 WHERE sku = 'A'",
            "UPDATE order_deduction SET version = version - 50 WHERE sku = 'A'",
            &["deducted_twice", "deduction_without_change", "order_lines_differ"],
        ),
        Damage::new(
            "UPDATE order_deduction SET quantity = quantity + 1 WHERE sku = 'A'",
            "UPDATE order_deduction SET quantity = quantity - 1 WHERE sku = 'A'",
            &["stock_unexplained", "order_lines_differ"],
        ),
    ]
}

fn at_order(new_id: &str) -> Vec<Damage> {
    let effect = format!(
        "INSERT INTO inbox (event_id, outcome, event_type, key, processed_us) \
         SELECT '{new_id}', 0, 'stockloop.inventory.changed', 'E', max(processed_us) FROM inbox"
    );
    let at_order = |damage: Damage| Damage { at_order: true, ..damage };
    vec![
        Damage::at_order(
            "UPDATE product_copy SET quantity = quantity + 1 WHERE sku = 'E'",
            "UPDATE product_copy SET quantity = quantity - 1 WHERE sku = 'E'",
            &["copy_content"],
        ),
        Damage::at_order(
            "UPDATE product_copy SET version = version - 1 WHERE sku = 'E'",
            "UPDATE product_copy SET version = version + 1 WHERE sku = 'E'",
            &["copy_older"],
        ),
        Damage::at_order(
            "UPDATE product_copy SET version = version + 1 WHERE sku = 'E'",
            "UPDATE product_copy SET version = version - 1 WHERE sku = 'E'",
            &["copy_newer"],
        ),
        at_order(Damage::gone("product_copy", "sku = 'E'", &["copy_missing"])),
        Damage::at_order(
            "INSERT INTO product_copy (sku, description, quantity, unit_price_minor, epoch, version, updated_us, applied_us) \
             VALUES ('X', 'nobody put it in', 1, 1, 1, 1, 1, 1)",
            "DELETE FROM product_copy WHERE sku = 'X'",
            &["copy_unknown"],
        ),
        Damage::at_order(
            "UPDATE product_copy SET reserved = reserved + 1 WHERE sku = 'E'",
            "UPDATE product_copy SET reserved = reserved - 1 WHERE sku = 'E'",
            &["reserved_wrong"],
        ),
        at_order(Damage::gone("inbox", "key = 'E'", &["effect_missing"])),
        Damage::at_order(
            &effect,
            &format!("DELETE FROM inbox WHERE event_id = '{new_id}'"),
            &["effect_unknown"],
        ),
        Damage::at_order(
            "UPDATE inbox SET key = 'ZZ' WHERE key = 'E'",
            "UPDATE inbox SET key = 'E' WHERE key = 'ZZ'",
            &["effect_of_another"],
        ),
        Damage::at_order(
            "UPDATE inbox SET outcome = 1 WHERE key = 'E'",
            "UPDATE inbox SET outcome = 0 WHERE key = 'E'",
            &["answers_differ"],
        ),
    ]
}

/// The order that is confirmed is said to have ended another way, or this one.
fn status(to: &str) -> String {
    format!("UPDATE orders SET status = '{to}', placement = '{to}' WHERE cancellation IS NULL")
}

fn of_orders() -> Vec<Damage> {
    vec![
        Damage::new(
            "UPDATE order_record SET state = 'REFUSED' WHERE state = 'DEDUCTED'",
            "UPDATE order_record SET state = 'DEDUCTED' WHERE state = 'REFUSED'",
            &["confirmed_not_deducted"],
        ),
        Damage::new(
            "UPDATE order_record SET state = 'DEDUCTED' WHERE state = 'RETURNED'",
            "UPDATE order_record SET state = 'RETURNED' WHERE cancelled_us IS NOT NULL",
            &["cancelled_not_returned"],
        ),
        Damage::new(
            "UPDATE order_record SET state = 'RETURNED' WHERE state = 'DEDUCTED'",
            "UPDATE order_record SET state = 'DEDUCTED' WHERE cancelled_us IS NULL",
            &["order_contradicted"],
        ),
        Damage::at_order(
            "UPDATE orders SET placement = 'REJECTED' WHERE cancellation IS NULL",
            "UPDATE orders SET placement = 'CONFIRMED' WHERE cancellation IS NULL",
            &["illegal_order"],
        ),
        Damage::at_order(
            &status("REJECTED"),
            &status("CONFIRMED"),
            &["illegal_order", "rejected_but_deducted"],
        ),
        Damage::at_order(
            "UPDATE orders SET status = 'PENDING' WHERE cancellation IS NULL",
            "UPDATE orders SET status = 'CONFIRMED' WHERE cancellation IS NULL",
            &["illegal_order", "order_undecided"],
        ),
        Damage {
            at_order: true,
            ..Damage::gone("orders", "cancellation IS NULL", &["order_unknown"])
        },
    ]
}

fn of_reservations(new_id: &str) -> Vec<Damage> {
    let order = format!(
        "INSERT INTO orders (id, customer, status, placement, revision, placed_us, changed_us) \
           VALUES ('{new_id}', 'me', 'PENDING', 'OPEN', 1, 1, 1); \
         INSERT INTO order_line (order_id, sku, quantity) VALUES ('{new_id}', 'A', 2); \
         INSERT INTO order_step (order_id, revision, at_us, status, what) \
           VALUES ('{new_id}', 1, 1, 'PENDING', 'placed')"
    );
    let no_order = ["orders WHERE id", "order_line WHERE order_id", "order_step WHERE order_id"]
        .map(|rows| format!("DELETE FROM {rows} = '{new_id}'"))
        .join("; ");
    let promised = |which: &str| {
        format!(
            "INSERT INTO reservation (order_id, sku, quantity, epoch, version) \
               SELECT o.id, 'A', 2, epoch, version FROM product_copy, orders o WHERE sku = 'A' AND {which}; \
             UPDATE product_copy SET reserved = reserved + 2 WHERE sku = 'A'"
        )
    };
    let none = "DELETE FROM reservation; UPDATE product_copy SET reserved = 0";
    let of_new = format!("o.id = '{new_id}'");
    vec![
        Damage::at_order(&order, &no_order, &["order_undecided", "reservation_missing"]),
        Damage::at_order(
            &format!("{order}; {}", promised(&of_new)),
            &format!("{no_order}; {none}"),
            &["order_undecided"],
        ),
        Damage::at_order(&promised("o.cancellation IS NULL"), none, &["reservation_left"]),
        Damage::at_order(
            &format!(
                "{}; UPDATE reservation SET epoch = NULL, version = NULL",
                promised("o.cancellation IS NULL")
            ),
            none,
            &["reservation_left"],
        ),
        // Whatever version it waits for.
        Damage::at_order(
            &format!(
                "{}; UPDATE reservation SET version = version + 50; {}",
                promised("o.cancellation IS NULL"),
                status("REJECTED")
            ),
            &format!("{}; {none}", status("CONFIRMED")),
            &["illegal_order", "rejected_but_deducted", "reservation_left"],
        ),
        Damage::at_order(
            &format!(
                "INSERT INTO reservation (order_id, sku, quantity) VALUES ('{new_id}', 'A', 2); \
                 UPDATE product_copy SET reserved = reserved + 2 WHERE sku = 'A'"
            ),
            none,
            &["reservation_left"],
        ),
    ]
}

fn of_alerts() -> Vec<Damage> {
    let alert = "INSERT INTO alert (kind, subject, event_id, attempt, created_us) \
                 SELECT 'exhausted', 'by hand', id";
    let undo = "DELETE FROM alert WHERE subject = 'by hand'";
    vec![
        Damage::new(
            "UPDATE alert SET closed_us = 1 WHERE kind = 'exhausted'",
            "UPDATE alert SET closed_us = NULL WHERE kind = 'exhausted'",
            &["exhausted_without_alert"],
        ),
        Damage::new(
            &format!("{alert}, 1, created_us FROM outbox_event WHERE key = 'A' AND version = 1"),
            undo,
            &["alert_for_nothing", "alert_untold"],
        ),
        Damage::new(
            &format!("{alert}, attempt + 5, due_us FROM outbox_failed"),
            undo,
            &["alert_of_another_attempt", "alert_untold"],
        ),
        Damage::new(
            "UPDATE alert SET mail_seq = -mail_seq",
            "UPDATE alert SET mail_seq = -mail_seq",
            &["alert_untold"],
        ),
        Damage::new(
            "UPDATE mail SET sent_us = NULL",
            "UPDATE mail SET sent_us = created_us",
            &["mail_unsent"],
        ),
        Damage::new(
            "UPDATE mail SET message_id = 'another-' || message_id",
            "UPDATE mail SET message_id = replace(message_id, 'another-', '')",
            &["mail_lost"],
        ),
        Damage::new(
            // In its own partition: one without messages may have been made anew since.
            "UPDATE outbox_failed SET sent_offset = sent_offset + 1000000",
            "UPDATE outbox_failed SET sent_offset = sent_offset - 1000000",
            &["place_wrong"],
        ),
    ]
}

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
    system.stop().await;
}

/// One change of each kind, with `sku` for a product that is new; counts them.
async fn change(system: &TestSystem, sku: &str, made: &AtomicUsize) {
    let (product, order) = (&system.product, &system.order);
    let count = || _ = made.fetch_add(1, Ordering::SeqCst);
    product.adjust("E", 1).await;
    count();
    product.put_product(sku, 1).await;
    count();
    product.put_product("B", 1_000).await;
    count();
    order.place_order("B", 2).await;
    count();
    let regretted = text(&order.place_order("B", 1).await["id"]);
    let path = format!("/api/v1/orders/{regretted}/cancel");
    order.post(&path, json!({ "reason": "changed their mind" })).await.ok();
    count();
    assert_eq!(product.delete("/api/v1/inventory/C").await.status, 204);
    product.put_product("C", 5).await;
    count();
    let lines = |quantity: i64| {
        [sku, "C"].map(|sku| {
            json!({ "sku": sku, "description": sku, "quantity": quantity, "unit_price_minor": 3 })
        })
    };
    let replaced = json!({ "mode": "replace", "lines": lines(7) });
    product.post("/api/v1/inventory", replaced).await.ok();
    count();
    let counted = json!({ "mode": "adjust_to", "reason": "counted", "lines": lines(8) });
    product.post("/api/v1/inventory", counted).await.ok();
    count();
}

/// Sends all that is kept of two products again.
async fn replay(system: &TestSystem) {
    let kept = json!({ "kept": { "consumer": system.topics.order(), "keys": ["C", "E"] } });
    job(&system.product, json!({ "kind": "replay", "selection": kept })).await;
}

/// Takes a product from its copy, has that found, and repairs it.
async fn repair(system: &TestSystem) {
    let (product, order) = (&system.product, &system.order);
    order.wait_until_complete().await;
    for sku in ["R", "S"] {
        product.put_product(sku, 10).await;
    }
    system.wait_until_settled().await;
    order.execute("DELETE FROM product_copy WHERE sku = 'R'").await;
    let asked = product.post("/api/admin/v1/verifications", json!({})).await.ok();
    let path = format!("/api/admin/v1/verifications/{}", text(&asked["seq"]));
    let found = ended(product, &path).await;
    assert_eq!(found["state"], "different", "{found}");
    let selection = json!({ "differences": found["seq"] });
    job(product, json!({ "kind": "repair", "selection": selection, "expected": 1 })).await;
    system.wait_until_settled().await;
}

/// Asks for a job and waits for its end.
async fn job(product: &TestService, asked: Value) {
    let job = product.post("/api/admin/v1/resyncs", asked).await.ok();
    let done = ended(product, &format!("/api/admin/v1/resyncs/{}", text(&job["seq"]))).await;
    assert_eq!(done["state"], "done", "{done}");
}

async fn ended(product: &TestService, path: &str) -> Value {
    eventually("it to end", DEADLINE, async || {
        let item = product.get(path).await.ok();
        if item["ended_at"].is_null() { Err(item) } else { Ok(item) }
    })
    .await
}

/// Products, adjustments, an order that is confirmed and one that is cancelled, and an event that gave up and was told.
async fn fill(system: &TestSystem) {
    // A copy that is not complete would be filled by itself, with events more.
    system.order.wait_until_complete().await;
    for sku in ["A", "B", "C", "D", "E"] {
        system.product.put_product(sku, 1_000).await;
    }
    system.wait_until_settled().await;
    system.product.adjust("A", -3).await;
    system.product.adjust("B", 5).await;
    system.wait_until_settled().await;
    system.order.place_order("A", 2).await;
    let regretted = text(&system.order.place_order("B", 1).await["id"]);
    system.wait_until_settled().await;
    let path = format!("/api/v1/orders/{regretted}/cancel");
    system.order.post(&path, json!({ "reason": "changed their mind" })).await.ok();
    system.wait_until_settled().await;
    system.order.quarantine("D", "it is counted").await;
    system.product.adjust("D", 1).await;
    system.product.wait_for_exhausted_key("D").await;
    let told = "SELECT count(*) AS n FROM alert a JOIN mail m ON m.seq = a.mail_seq \
                WHERE a.kind = 'exhausted' AND a.key = 'D' AND m.sent_us IS NOT NULL";
    eventually("the mail to be noted as sent", DEADLINE, async || {
        match system.product.count(told).await {
            0 => Err(0),
            n => Ok(n),
        }
    })
    .await;
}

async fn run(at: &TestService, sql: &str) {
    let (db, statements) = (at.database(), sql.to_owned());
    let done =
        db.write::<_, common::db::DbError>(move |conn| Ok(conn.batch_execute(&statements)?)).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The program, and what it is told of the system.
#[derive(Clone)]
struct Judge {
    args: Vec<String>,
}

impl Judge {
    fn new(system: &TestSystem) -> Self {
        let catcher = serve(system.mails.later_mails());
        let args = [
            ("--product-database", system.product.database_url()),
            ("--order-database", system.order.database_url()),
            ("--product-name", system.topics.product()),
            ("--order-name", system.topics.order()),
            ("--product-topic", system.topics.events()),
            ("--order-topic", system.topics.orders()),
            ("--brokers", system.topics.brokers()),
            ("--mail", catcher.as_str()),
            ("--json", "check.json"),
        ];
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]);
        Self { args: args.collect() }
    }

    fn run(&self, more: &[&str]) -> Outcome {
        let args = self.args.iter().map(String::as_str);
        let args: Vec<&str> =
            std::iter::once("check").chain(args).chain(more.iter().copied()).collect();
        let program = Program::built("stockloop-loadgen");
        let outcome = program.run(&args, &[]);
        let written = fs::read(program.folder().join("check.json"));
        let stdout = written.map_or_else(
            |_| outcome.stdout.clone(),
            |json| String::from_utf8_lossy(&json).into_owned(),
        );
        Outcome { stdout, ..outcome }
    }

    /// Whether it finds exactly the kinds `expected`, at rest.
    #[track_caller]
    fn assert_finds(&self, expected: &[&str], what: &str) {
        let outcome = self.run(&["--settled"]);
        let report: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{what}: {error}: {outcome:?}"));
        let findings = report["findings"].as_array().expect("a list");
        let kinds: BTreeSet<&str> =
            findings.iter().filter_map(|finding| finding["kind"].as_str()).collect();
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        assert_eq!(kinds, expected, "{what}: {report:#}");
        assert_eq!(report["whole"], true, "{what}: {report:#}");
        let code = i32::from(!expected.is_empty());
        assert_eq!(outcome.code, Some(code), "{what}: {}", outcome.stderr);
    }
}

fn message_ids(mails: &[Mail]) -> Vec<String> {
    let id = |mail: &Mail| {
        let text = mail.text();
        let line = text.lines().find(|line| line.to_lowercase().starts_with("message-id:"));
        let (_, id) = line.expect("each mail has one").split_once(':').expect("just found");
        id.trim().trim_matches(['<', '>']).to_owned()
    };
    mails.iter().map(id).collect()
}

/// Lists the mails as the mail catcher of `stockloop dev` does, until the tests end.
fn serve(mails: impl Fn() -> Vec<Mail> + Send + 'static) -> String {
    let mail = |(n, message_id): (usize, String)| {
        json!({
            "id": n.to_string(), "message_id": message_id, "received_at": "2026-01-05T12:00:00Z",
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let list: Vec<Value> = (1..).zip(message_ids(&mails())).map(mail).collect();
            let body = Value::Array(list).to_string();
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}
