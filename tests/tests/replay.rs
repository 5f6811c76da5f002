//! A copy that was thrown away is made anew: by the filling, and from its source's history by a replay. And the history
//! goes into another topic, as it was sent.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::message::{Headers, Message, OwnedMessage};
use serde_json::{Value, json};
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually;
use stockloop_tests::program::{Outcome, Program, assert_contains};

use crate::system::load::Load;
use crate::system::random::Random;
use crate::system::{DEADLINE, InventoryRow, PARTITIONS, RealParts, TestService, TestSystem};

/// Nobody looks whether a copy is to be filled.
const NO_FILLING: [(&str, &str); 1] = [("STOCKLOOP__OUTBOX__WATCH_CRON", "0 0 0 1 1 *")];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_made_anew_by_the_filling_and_from_history() {
    let Some(parts) = RealParts::shared("replay") else { return };
    let mut system = TestSystem::on("replay", parts).await;
    for n in 0..20 {
        let sku = format!("P{n:02}");
        system.product.put_product(&sku, 10).await;
        system.product.adjust(&sku, -1).await;
    }
    for _ in 0..150 {
        system.product.adjust("P00", 1).await;
    }
    assert_eq!(system.product.delete("/api/v1/inventory/P19").await.status, 204);
    system.wait_until_settled().await;
    let whole = system.order.inventory().await;
    let page = system.product.get("/api/v1/inventory/P00/history?limit=1").await.ok();
    assert_eq!((&page["items"][0]["version"], &page["next"]), (&json!(152), &json!("152")));

    let shown = history(&system, 0, &["P00", "--limit", "2"]);
    assert_contains(&shown.stdout, &["VERSION", "152", "quantity 158 -> 159", "adjustment"]);
    assert_contains(&shown.stderr, &["There are more"]);
    let then = history(&system, 0, &["P00", "--version", "2", "--json"]);
    let then: Value = serde_json::from_str(&then.stdout).unwrap();
    assert_eq!((&then["version"], &then["quantity"]), (&json!(2), &json!(9)));
    let removed = history(&system, 1, &["P19", "--at", "0s"]);
    assert_contains(&removed.stderr, &["was removed at version 3"]);
    let none = history(&system, 1, &["NONE"]);
    assert_contains(&none.stderr, &["there is no product NONE"]);

    // (a) By the filling that comes by itself.
    system.order.wait_until_complete().await;
    system.order.execute("DELETE FROM product_copy").await;
    system.order.wait_until_complete().await;
    assert_equal(&system, &whole).await;

    // (b) From history, with nobody to fill it.
    system.product.restart_with(&NO_FILLING).await;
    system.order.execute("DELETE FROM product_copy").await;
    let replayed = replay(&system, &["--since", "1d"]).await;
    let job: Value = serde_json::from_str(&replayed).unwrap();
    let kept = system
        .product
        .count("SELECT count(*) AS n FROM (SELECT DISTINCT key, version FROM outbox_event) AS e");
    assert_eq!((&job["done"], &job["skipped"]), (&json!(kept.await), &json!(0)), "{job}");
    assert_equal(&system, &whole).await;
    assert_eq!(
        system.order.get("/health/ready").await.ok()["copy"],
        "not complete",
        "nobody filled it"
    );

    // To a copy that has all, it does nothing: each state is answered, and superseded.
    let applied = details(&system.product).await;
    replay(&system, &["--key", "P00", "--from-version", "100"]).await;
    assert_equal(&system, &whole).await;
    let after = details(&system.product).await;
    let more = |detail: &str| {
        after.get(detail).copied().unwrap_or(0) - applied.get(detail).copied().unwrap_or(0)
    };
    assert_eq!(more("applied"), 0, "{applied:?} {after:?}");
    assert_eq!(more("superseded") + more("duplicate"), 53, "{applied:?} {after:?}");
    a_preview_says_what_is_known(&system).await;
    system.stop().await;
}

async fn a_preview_says_what_is_known(system: &TestSystem) {
    let newest = async || system.product.get("/api/admin/v1/resyncs?limit=1").await.ok();
    let before = newest().await["items"][0]["seq"].clone();
    let old = said(system, 2, &["--since", "60d"]).await;
    assert_contains(&old, &["At most ", "States may be gone whose events were made and settled"]);
    let young = said(system, 2, &["--since", "1d"]).await;
    assert!(young.contains("At most ") && !young.contains("gone"), "{young}");
    let beyond = said(system, 2, &["--key", "P00", "--from-version", "999"]).await;
    assert_contains(&beyond, &["P00: its newest version is 152", "lift that first"]);
    let nothing = said(system, 0, &["--since", "0s"]).await;
    assert_contains(&nothing, &["Nothing changed since ", "nothing to send"]);
    let to_come = said(system, 1, &["--since", "2100-01-01T00:00:00Z"]).await;
    assert_contains(&to_come, &["is to come"]);
    assert_eq!(newest().await["items"][0]["seq"], before, "no job was made");
}

fn history(system: &TestSystem, code: i32, args: &[&str]) -> Outcome {
    let (program, url) = (Program::built("stockloop"), system.product.base_url.get());
    let env = [("STOCKLOOP_API_URL", url.as_str())];
    let args = [&["history"], args].concat();
    let outcome = tokio::task::block_in_place(|| program.run(&args, &env));
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    outcome
}

async fn replay(system: &TestSystem, args: &[&str]) -> String {
    let outcome = run_replay(system, &[&["--yes", "--json"], args].concat()).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_contains(&outcome.stdout, &["\"kind\":\"replay\"", "\"state\":\"done\""]);
    outcome.stdout
}

/// What people are told, where there is no terminal to answer on.
async fn said(system: &TestSystem, code: i32, args: &[&str]) -> String {
    let outcome = run_replay(system, args).await;
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    outcome.stderr
}

async fn run_replay(system: &TestSystem, args: &[&str]) -> Outcome {
    let consumers = system.product.get("/api/admin/v1/consumers").await.ok();
    let consumer = consumers["items"][0]["name"].as_str().unwrap();
    run_command(system, &[&["replay", "--consumer", consumer], args].concat())
}

fn run_command(system: &TestSystem, args: &[&str]) -> Outcome {
    let (program, url) = (Program::built("stockloop"), system.product.base_url.get());
    let env = [("STOCKLOOP_ADMIN_URL", url.as_str())];
    tokio::task::block_in_place(|| program.run(args, &env))
}

/// Answers of events, by what they say.
async fn details(product: &TestService) -> BTreeMap<&'static str, i64> {
    let mut details = BTreeMap::new();
    for detail in ["applied", "duplicate", "superseded"] {
        let sql = format!("SELECT count(*) AS n FROM outbox_settled WHERE detail = '{detail}'");
        details.insert(detail, product.count(&sql).await);
    }
    details
}

/// By the rows, and by a verification.
async fn assert_equal(system: &TestSystem, whole: &[InventoryRow]) {
    system.wait_until_settled().await;
    assert_eq!(system.order.inventory().await, whole);
    assert_eq!(system.product.inventory().await, whole);
    let (source, copy) = (
        system.product.product_rows("product").await,
        system.order.product_rows("product_copy").await,
    );
    assert_eq!(source, copy, "tombstones too");
    let asked = system.product.post("/api/admin/v1/verifications", json!({})).await.ok();
    let path = format!("/api/admin/v1/verifications/{}", asked["seq"].as_str().unwrap());
    let verdict = system.product.wait_for_end(&path).await;
    assert_eq!(verdict["state"], "equal", "{verdict}");
}

/// So many pages that a kill comes in the middle of them.
const CHANGES: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn history_goes_into_another_topic_as_it_was_and_a_kill_loses_nothing() {
    let Some(parts) = RealParts::shared("replay_into") else { return };
    let kafka = parts.kafka;
    let mut system = TestSystem::on("replay_into", parts).await;
    system.order.wait_until_complete().await;
    let base = system.product.base_url.clone();
    let mut load = Load::start(&mut Random::new(), &system.product, &[base], 20, CHANGES).await;
    load.assert_all_arrived(&system).await;
    assert_eq!(system.product.delete("/api/v1/inventory/SKU-019").await.status, 204);
    system.wait_until_settled().await;
    let whole = by_key(&system, system.topics.events());
    let events = "SELECT count(*) AS n FROM outbox_event";
    let before = system.product.count(events).await;

    let view = format!("{}.view", system.topics.events());
    let own = system.topics.acks().to_owned();
    for (topic, why) in [
        (own.as_str(), "is a topic of the loop"),
        ("a/b", "a topic's name has 1 to 249 characters"),
        (view.as_str(), "does not exist; make it first"),
    ] {
        let refused = run_command(&system, &["replay", "--into", topic, "--since", "1d", "--yes"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert_contains(&refused.stderr, &[why]);
    }

    kafka.create_topic(&view, PARTITIONS).await.unwrap();
    let asked = ["replay", "--into", view.as_str(), "--since", "1d", "--yes", "--json"];
    let outcome = run_command(&system, &asked);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let job: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&job["state"], &job["done"]), (&json!("done"), &json!(before)), "{job}");
    assert_eq!(system.topics.all_of(&view).len(), usize::try_from(before).unwrap(), "each once");
    assert_same(&by_key(&system, &view), &whole);

    let killed = format!("{view}.killed");
    kafka.create_topic(&killed, PARTITIONS).await.unwrap();
    let kept = json!({ "kept": { "into": killed, "since": "2020-01-01T00:00:00Z" } });
    let asked = json!({ "kind": "replay", "selection": kept });
    let job = system.product.post("/api/admin/v1/resyncs", asked).await.ok();
    let path = format!("/api/admin/v1/resyncs/{}", job["seq"].as_str().unwrap());
    kill_in_a_page(&mut system, job["seq"].as_str().unwrap()).await;
    system.product.start();
    let job = system.product.get(&path).await.ok();
    assert!(job["done"].as_i64() < Some(before), "it was killed in the middle: {job}");
    // What the killed one held is free again after a while.
    let done = eventually("the rest to be sent", 2 * DEADLINE, async || {
        let job = system.product.get(&path).await.ok();
        if job["ended_at"].is_null() { Err(job) } else { Ok(job) }
    });
    let done = done.await;
    assert_eq!((&done["state"], &done["done"]), (&json!("done"), &json!(before)), "{done}");
    assert_same(&by_key(&system, &killed), &whole);
    let sent = system.topics.all_of(&killed).len();
    let twice = sent - usize::try_from(before).unwrap();
    assert!(twice <= 100, "one page was sent twice at the most, not {twice} messages");
    assert_eq!(system.product.count(events).await, before, "no event was made");
    a_message_that_is_too_large_is_left_out(&mut system, kafka).await;
    system.stop().await;
}

/// Kills product-service while a page of the job is on its way, with others before and behind it.
async fn kill_in_a_page(system: &mut TestSystem, job: &str) {
    let held = format!(
        "SELECT count(*) AS n FROM resync_job \
         WHERE seq = {job} AND done >= 100 AND cursor LIKE '%\"held\"%'"
    );
    loop {
        let under_way = async { while system.product.count(&held).await == 0 {} };
        tokio::time::timeout(DEADLINE, under_way).await.expect("a page gets under way");
        system.product.kill9();
        // It may have ended just before.
        if system.product.count(&held).await == 1 {
            return;
        }
        system.product.start();
    }
}

async fn a_message_that_is_too_large_is_left_out(system: &mut TestSystem, kafka: &KafkaBroker) {
    let narrow = format!("{}.narrow", system.topics.events());
    // Smaller than any event.
    let bound = [("max.message.bytes", "100")];
    kafka.create_topic_with(&narrow, PARTITIONS, &bound).await.unwrap();
    system.product.put_product("LARGE", 1).await;
    let asked = ["replay", "--into", narrow.as_str(), "--key", "LARGE", "--yes"];
    let outcome = run_command(system, &asked);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let why = "version 1 of LARGE can't be sent into the topic";
    assert_contains(&outcome.stdout, &["has sent 0 states and skipped 1 key", why]);
}

/// A message, but for its topic, offset, time and attempt.
type Told = (i32, Vec<(String, Vec<u8>)>, Vec<u8>);

/// Each key's messages on a topic in their order, each event once.
fn by_key(system: &TestSystem, topic: &str) -> BTreeMap<Vec<u8>, Vec<Told>> {
    let (mut keys, mut seen) = (BTreeMap::<Vec<u8>, Vec<Told>>::new(), BTreeSet::new());
    for message in system.topics.all_of(topic) {
        let headers = headers(&message);
        let id = headers.iter().find(|(name, _)| name == "ce_id").unwrap().1.clone();
        if seen.insert(id) {
            let key = message.key().unwrap().to_vec();
            let told = (message.partition(), headers, message.payload().unwrap().to_vec());
            keys.entry(key).or_default().push(told);
        }
    }
    keys
}

fn assert_same(found: &BTreeMap<Vec<u8>, Vec<Told>>, wanted: &BTreeMap<Vec<u8>, Vec<Told>>) {
    let words = |told: &Told| String::from_utf8_lossy(&told.2).into_owned();
    assert!(found.keys().eq(wanted.keys()), "{} and {} keys", found.len(), wanted.len());
    for (key, wanted) in wanted {
        let pairs = found[key].iter().zip(wanted);
        if let Some((found, wanted)) = pairs.clone().find(|(found, wanted)| found != wanted) {
            panic!("{} instead of {}, or with other headers", words(found), words(wanted));
        }
        assert_eq!(found[key].len(), wanted.len(), "{}", String::from_utf8_lossy(key));
    }
}

fn headers(message: &OwnedMessage) -> Vec<(String, Vec<u8>)> {
    let headers = message.headers().unwrap().iter();
    let headers = headers.map(|one| (one.key.to_owned(), one.value.unwrap_or_default().to_vec()));
    headers.filter(|(name, _)| name != "stockloopattempt").collect()
}
