//! Every command that no other suite runs, as people run it and on both databases: `stockloop dev` with all of
//! `stockloop admin` on it, and the tools that measure.

use std::path::Path;

use common::db::DbError;
use reqwest::Method;
use serde_json::{Value, json};
use stockloop_tests::database::{self, TestDatabase};
use stockloop_tests::on_every_database;
use stockloop_tests::poll::eventually;
use stockloop_tests::process::{Child, Launch, built_binary};
use stockloop_tests::program::{Outcome, Program, assert_contains};

use crate::system::{DEADLINE, http_client};

on_every_database!(std::convert::identity =>
    what_looks_and_what_acts_on_a_service,
    what_measures,
);

/// Every list, by the names of its command and of its file.
const LISTS: [&str; 12] = [
    "events",
    "alerts",
    "silences",
    "mails",
    "webhooks",
    "dead-letters",
    "quarantine",
    "pauses",
    "jobs",
    "audit",
    "users",
    "tokens",
];

/// `stockloop dev`, and the program once more beside it.
struct Dev {
    process: Child,
    program: Program,
    product: String,
    order: String,
    order_database: TestDatabase,
    _product_database: TestDatabase,
}

impl Dev {
    fn start(database: TestDatabase) -> Self {
        let other = match database.url().starts_with("sqlite:") {
            true => TestDatabase::sqlite(),
            false => TestDatabase::postgres().expect("there is one"),
        };
        let program = Program::built("stockloop");
        let mut process = launch(program.folder(), &database.url(), &other.url());
        process.wait_for_line("Ctrl-C stops.", DEADLINE).expect("it starts");
        let address = |name: &str| {
            let line = process.line(&format!("{name}  http://")).expect("its address");
            let (_, address) = line.split_once("http://").expect("just found");
            format!("http://{}", address.trim().trim_end_matches("/admin"))
        };
        let (product, order) = (address("product-service"), address("order-service  "));
        let (order_database, _product_database) = (other, database);
        Self { product, order, process, program, order_database, _product_database }
    }

    fn run(&self, input: &str, args: &[&str]) -> Outcome {
        let env = [
            ("STOCKLOOP_ADMIN_URL", self.product.as_str()),
            ("STOCKLOOP_ADMIN_ORDER_URL", self.order.as_str()),
        ];
        self.program.run_on(input, &[&["admin"], args].concat(), &env)
    }

    /// What it prints; it has to succeed.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let outcome = self.run("", args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
        outcome.stdout
    }

    /// What it prints for programs, line by line.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let lines = self.ok(&[args, &["--json"]].concat());
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// It has to end with `code` and say `words` on standard error.
    #[track_caller]
    fn refused(&self, code: i32, args: &[&str], words: &[&str]) {
        let outcome = self.run("", args);
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        assert_contains(&outcome.stderr, words);
    }

    /// A request to product-service's own routes.
    async fn send(&self, method: Method, path: &str, body: Value) {
        let address = format!("{}/api/v1/inventory/{path}", self.product);
        let answer = http_client(1).request(method, address).json(&body).send().await;
        assert!(answer.expect("an answer").status().is_success());
    }

    /// Has a product's change give up; the event's id.
    async fn exhaust(&self, sku: &str) -> String {
        let body = json!({"description": "Tea", "quantity": 12, "unit_price_minor": 255});
        self.send(Method::PUT, sku, body).await;
        eventually("the product to arrive", DEADLINE, async || {
            let arrived = self.json(&["events", "--key", sku, "--status", "PROCESSED"]).len();
            if arrived == 1 { Ok(()) } else { Err(arrived) }
        })
        .await;
        self.ok(&["--order", "quarantine", "put", sku, "--reason", "the shelf is counted"]);
        let body = json!({"delta": -1, "reason": "sale"});
        self.send(Method::POST, &format!("{sku}/adjustments"), body).await;
        eventually("an event that gave up", DEADLINE, async || {
            let found = self.json(&["events", "--key", sku, "--status", "EXHAUSTED"]);
            found.first().and_then(|event| event["id"].as_str().map(str::to_owned)).ok_or("none")
        })
        .await
    }

    async fn add_dead_letter(&self) {
        let url = self.order_database.url();
        let bytes = if url.starts_with("sqlite:") { "X'7b'" } else { r"'\x7b'" };
        let insert = format!(
            "INSERT INTO dead_letter (topic, partition, \"offset\", hash, bytes, error, at_us) \
             VALUES ('stockloop.inventory.v1', 0, 7, 'none', {bytes}, 'no JSON', 0)"
        );
        let added = database::open(&url)
            .write::<_, DbError>(move |conn| Ok(conn.batch_execute(&insert)?))
            .await;
        added.expect("a row can be added");
    }
}

fn launch(folder: &Path, product: &str, order: &str) -> Child {
    Launch::new(built_binary("stockloop").expect("the programs are built"))
        .args(["dev", "--product-port", "0", "--order-port", "0", "--mail-port", "0"])
        .args(["--product-database-url", product, "--order-database-url", order])
        .folder(folder)
        // Nobody listens there: calls wait.
        .env("STOCKLOOP__WEBHOOK__URL", "http://127.0.0.1:1/")
        .env("STOCKLOOP__WEBHOOK__SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nw==")
        .spawn()
        .expect("it starts")
}

async fn what_looks_and_what_acts_on_a_service(database: TestDatabase) {
    let mut dev = Dev::start(database);
    look_around(&dev);
    people_and_scripts(&dev);
    messages(&dev);
    dead_letters(&dev).await;
    let event = dev.exhaust("TEA").await;
    alerts(&dev);
    events_and_jobs(&dev, &event);
    dev.ok(&["--order", "quarantine", "release", "TEA"]);
    for list in LISTS {
        let csv = dev.ok(&["export", list]);
        let lines = dev.ok(&["export", list, "--format", "ndjson"]).lines().count();
        // The header, unless this export's own line of the audit log came after it.
        assert!(csv.lines().count() >= lines.max(1), "{list}: {csv}");
    }
    assert_eq!(
        dev.ok(&["export", "job-items", "--job", "1", "--format", "ndjson"]).lines().count(),
        1
    );
    let ended = dev.process.terminate(DEADLINE).expect("it ends");
    assert!(ended.success(), "{ended}\n{}", dev.process.log());
}

/// Every list and every view, of both services, for people and for programs.
fn look_around(dev: &Dev) {
    let looks = ["overview", "events", "errors", "jobs", "alerts", "relay", "audit", "whoami"];
    let lists = ["silences", "mails", "webhooks", "dead-letters", "quarantine", "users", "tokens"];
    for service in [&[][..], &["--order"][..]] {
        for look in looks {
            dev.ok(&[service, &[look]].concat());
            dev.json(&[service, &[look]].concat());
        }
        for list in lists {
            dev.ok(&[service, &[list]].concat());
            dev.json(&[service, &[list, "list"]].concat());
        }
    }
}

fn people_and_scripts(dev: &Dev) {
    let on = |input: &str, args: &[&str]| {
        let outcome = dev.run(input, args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
    };
    let password = "correct horse battery";
    on(password, &["users", "add", "ada", "--role", "admin", "--password-stdin"]);
    on(password, &["users", "add", "bob", "--role", "viewer", "--password-stdin"]);
    on("another password", &["users", "change", "bob", "--password-stdin"]);
    dev.ok(&["users", "change", "bob", "--role", "operator"]);
    dev.ok(&["users", "disable", "bob"]);
    dev.ok(&["users", "enable", "bob"]);
    assert_contains(&dev.ok(&["users"]), &["ada", "bob", "operator"]);
    dev.ok(&["tokens", "add", "nightly", "--role", "viewer", "--areas", "events"]);
    dev.ok(&["tokens", "revoke", "1"]);
    assert_contains(&dev.ok(&["audit", "--action", "token."]), &["token.add", "token.revoke"]);
}

fn messages(dev: &Dev) {
    assert_contains(&dev.ok(&["mails", "test"]), &["is on its way"]);
    assert_contains(&dev.ok(&["webhooks", "test"]), &["is on its way"]);
    assert_eq!(dev.json(&["webhooks", "list", "--waiting", "true"]).len(), 1);
    dev.ok(&["silences", "add", "--key", "MUG", "--for", "2h", "--reason", "a count"]);
    dev.ok(&["silences", "end", "1"]);
    dev.ok(&["pause", "MUG", "--reason", "a count"]);
    dev.ok(&["resume", "MUG"]);
    dev.ok(&["pause", "--reason", "a move"]);
    dev.ok(&["resume"]);
}

async fn dead_letters(dev: &Dev) {
    dev.add_dead_letter().await;
    assert_contains(&dev.ok(&["--order", "dead-letters", "show", "1"]), &["no JSON", "7b"]);
    dev.refused(1, &["--order", "dead-letters", "replay", "1"], &["(422)"]);
    dev.ok(&["--order", "dead-letters", "discard", "1", "--reason", "a test"]);
    assert_eq!(dev.json(&["--order", "dead-letters", "--state", "discarded"]).len(), 1);
}

fn alerts(dev: &Dev) {
    let seq = dev.json(&["alerts", "--key", "TEA"])[0]["seq"].as_str().expect("one").to_owned();
    assert_contains(&dev.ok(&["alert", "show", &seq]), &["TEA"]);
    dev.ok(&["alert", "ack", &seq]);
    dev.ok(&["alert", "silence", &seq, "--for", "1h", "--reason", "noon"]);
}

/// The key stays in quarantine, so that what is sent again does not arrive.
fn events_and_jobs(dev: &Dev, event: &str) {
    assert_contains(
        &dev.ok(&["event", event, "--peer"]),
        &["TEA", "FAILED", "What order-service says:"],
    );
    assert_contains(&dev.ok(&["errors"]), &["quarantine"]);
    dev.ok(&["resolve", event, "--reason", "counted by hand"]);
    let all = ["--all-matching", "--status", "EXHAUSTED", "--key", "TEA", "--yes"];
    let begun = ["retry", "--attempts", "1", "--no-wait"];
    assert_eq!(dev.json(&[&begun[..], &all].concat())[0]["expected"], 1);
    dev.ok(&["job", "1", "--follow"]);
    assert_contains(&dev.ok(&["job", "1"]), &["retry", "done"]);
    assert_eq!(dev.json(&["job", "1", "--items"]).len(), 1);
    assert_eq!(dev.json(&["job", "1", "--skipped"]).len(), 0);
    dev.refused(1, &["job", "1", "--cancel"], &["(409)", "already done"]);
    assert_eq!(dev.json(&["events", "--job", "1"]).len(), 1);
    dev.refused(1, &["retry", "no-id"], &["(422)"]);
}

async fn what_measures(database: TestDatabase) {
    let url = database.url();
    let program = Program::built("stockloop-loadgen");
    let fill = ["fill", "--database-url", &url, "--events", "300", "--open", "100"];
    assert_contains(&program.output(&fill, &[]), &["filled with 300 events, 100 of them open"]);
    program.refusal(&fill, &[], &["has events already"]);
    let small = ["storage", "--rows", "2000", "--batch", "100", "--json", "results.json"];
    let place = match url.starts_with("sqlite:") {
        true => ["--sqlite-dir", "."],
        false => ["--postgres-url", &url],
    };
    assert!(!program.output(&[&small[..], &place].concat(), &[]).is_empty());
    assert!(program.folder().join("results.json").is_file());
    if url.starts_with("sqlite:") {
        let grouped = ["storage", "--sqlite-dir", ".", "--group-commit", "--rows", "200"];
        assert!(!program.output(&grouped, &[]).is_empty());
    }
}
