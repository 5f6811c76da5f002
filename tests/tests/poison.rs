//! What nobody should send: it is put aside or answered FAILED, and blocks nothing behind it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use uuid::Uuid;

use crate::stage::topics::{Raw, Topics};
use crate::stage::{PARTITIONS, PATIENCE, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn poison_among_events_embedded() {
    poison_among_events(Stage::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_among_events_on_real_parts() {
    if let Some(stage) = Stage::real("poison").await {
        poison_among_events(stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_among_acks_embedded() {
    poison_among_acks(Stage::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_among_acks_on_real_parts() {
    if let Some(stage) = Stage::real("poison_acks").await {
        poison_among_acks(stage).await;
    }
}

/// A message, and what has to become of it.
struct Poison {
    raw: Raw,
    /// Words of its dead letter's error, if it gets one.
    buried: Option<&'static str>,
    /// Words of the FAILED answer's error, if one goes back for the id.
    answered: Option<(String, &'static str)>,
}

async fn poison_among_events(stage: Stage) {
    let producer = stage.topics.producer();
    let mut poisons = Vec::new();
    for partition in 0..PARTITIONS {
        // Good events before, between and after: a key of each partition, and more.
        put_goods(&stage, partition).await;
        for poison in poisons_of_events() {
            Topics::send(&producer, stage.topics.events(), partition, &poison.raw).await;
            poisons.push(poison);
        }
    }
    put_goods(&stage, PARTITIONS).await;
    stage.settled().await;
    assert_eq!(stage.product.inventory().await, stage.order.inventory().await);
    assert_buried(&stage, &poisons).await;
    assert_answered(&stage, &poisons).await;
    stage.assert_nothing_gave_up().await;
    stage.assert_no_attempt_was_lost().await;
    stage.stop().await;
}

async fn put_goods(stage: &Stage, round: i32) {
    for n in 0..12 {
        stage.product.put_product(&format!("GOOD-{n:02}"), i64::from(round)).await;
    }
}

async fn assert_buried(stage: &Stage, poisons: &[Poison]) {
    let expected: Vec<&str> = poisons.iter().filter_map(|poison| poison.buried).collect();
    let letters = eventually("all dead letters", PATIENCE, async || {
        let letters = stage.order.dead_letters().await;
        if letters.len() >= expected.len() { Ok(letters) } else { Err(letters) }
    })
    .await;
    assert_eq!(letters.len(), expected.len(), "{letters:#?}");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for words in expected {
        *counts.entry(words).or_default() += 1;
    }
    for (words, count) in counts {
        let found = letters.iter().filter(|letter| letter.error.contains(words)).count();
        assert_eq!(found, count, "{words:?} in {letters:#?}");
    }
    assert!(letters.iter().all(|letter| letter.topic == stage.topics.events()));
    let listed = stage.order.get("/api/admin/v1/dead-letters?limit=1").await.ok();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
}

/// Each readable id has exactly one answer: FAILED, and not to be tried again.
async fn assert_answered(stage: &Stage, poisons: &[Poison]) {
    let expected: Vec<_> = poisons.iter().filter_map(|poison| poison.answered.clone()).collect();
    let acks = eventually("an answer to each readable id", PATIENCE, async || {
        let acks = stage.topics.all_acks();
        let missing: Vec<_> =
            expected.iter().filter(|(id, _)| answers(&acks, id).is_empty()).collect();
        if missing.is_empty() { Ok(acks.clone()) } else { Err(format!("{missing:?}")) }
    })
    .await;
    for (id, words) in &expected {
        let answers = answers(&acks, id);
        assert_eq!(answers.len(), 1, "{answers:?}");
        let answer = answers[0];
        assert_eq!((&answer["outcome"], &answer["retryable"]), (&json!("FAILED"), &json!(false)));
        let error = answer["error"].as_str().expect("an error");
        assert!(error.contains(words) && error.len() <= 2048, "{words:?} in {error:?}");
    }
}

fn answers<'a>(acks: &'a [Value], id: &str) -> Vec<&'a Value> {
    acks.iter().filter(|ack| ack["event_id"] == id).collect()
}

fn snapshot() -> Value {
    json!({
        "sku": "EVIL",
        "description": "About evil",
        "quantity": 1,
        "unit_price_minor": 1,
        "allow_backorder": false,
        "removed": false,
        "version": 1,
        "updated_at": "2026-01-05T12:00:00Z",
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut snapshot = snapshot();
    change(&mut snapshot);
    snapshot
}

/// A message with a right envelope, but for `changes` (a header's new value, or none of it).
fn event(id: &str, changes: &[(&str, Option<&str>)], payload: Option<Vec<u8>>) -> Raw {
    let mut headers: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        ("ce_specversion", b"1.0".to_vec()),
        ("ce_id", id.as_bytes().to_vec()),
        ("ce_source", b"/somebody".to_vec()),
        ("ce_type", b"stockloop.inventory.changed".to_vec()),
        ("ce_subject", b"EVIL".to_vec()),
        ("ce_time", b"2026-01-05T12:00:00Z".to_vec()),
        ("content-type", b"application/json".to_vec()),
        ("stockloopattempt", b"1".to_vec()),
        ("stockloopepoch", b"1".to_vec()),
    ]);
    for (name, value) in changes {
        match value {
            Some(value) => drop(headers.insert(name, value.as_bytes().to_vec())),
            None => drop(headers.remove(name)),
        }
    }
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Raw { headers, payload }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    Some(value.to_string().into_bytes())
}

/// Whose envelope can't be read at all: nobody can be answered.
fn buried(raw: Raw, words: &'static str) -> Poison {
    Poison { raw, buried: Some(words), answered: None }
}

/// Whose envelope is wrong, but the id in it is not: put aside and answered.
fn buried_and_answered(
    changes: &[(&str, Option<&str>)],
    payload: Option<Vec<u8>>,
    words: &'static str,
) -> Poison {
    let id = Uuid::new_v4().to_string();
    let raw = event(&id, changes, payload);
    Poison { raw, buried: Some(words), answered: Some((id, words)) }
}

/// Whose envelope is right and whose content is not: answered.
fn answered(
    changes: &[(&str, Option<&str>)],
    payload: Option<Vec<u8>>,
    words: &'static str,
) -> Poison {
    let id = Uuid::new_v4().to_string();
    let raw = event(&id, changes, payload);
    Poison { raw, buried: None, answered: Some((id, words)) }
}

fn poisons_of_events() -> Vec<Poison> {
    let good = || bytes(&snapshot());
    let mut poisons = unreadable();
    poisons.extend([
        buried_and_answered(&[("ce_type", None)], good(), "ce_type is missing"),
        buried_and_answered(&[("ce_subject", None)], good(), "ce_subject is missing"),
        buried_and_answered(&[("stockloopepoch", Some("x"))], good(), "stockloopepoch"),
        buried_and_answered(&[("ce_time", Some("yesterday"))], good(), "ce_time"),
        buried_and_answered(&[("ce_specversion", Some("2.0"))], good(), "version 2.0"),
        buried_and_answered(&[], None, "no data"),
        answered(&[], Some(b"{not json".to_vec()), "not an inventory snapshot"),
        answered(&[], Some(b"[]".to_vec()), "not an inventory snapshot"),
        answered(&[], Some(vec![b'['; 100_000]), "not an inventory snapshot"),
        answered(&[], Some(vec![0xff; 900_000]), "not an inventory snapshot"),
        answered(&[("ce_type", Some("somebody.elses"))], good(), "somebody.elses"),
        answered(&[("ce_subject", Some("OTHER"))], good(), "EVIL"),
        answered(&[("ce_type", Some("stockloop.inventory.removed"))], good(), "removed"),
        answered(&[], bytes(&with(|s| s["version"] = json!(0))), "version 0"),
        answered(&[], bytes(&with(|s| s["version"] = json!(-7))), "version -7"),
        answered(&[], bytes(&with(|s| s["quantity"] = json!(1e30))), "not an inventory snapshot"),
        answered(&[], bytes(&with(|s| s["description"] = json!("a\0b"))), "U+0000"),
        answered(&[("ce_subject", Some("EVIL\0"))], good(), ""),
        answered(&[("ce_type", Some("nul\0"))], good(), ""),
    ]);
    poisons
}

fn unreadable() -> Vec<Poison> {
    let good = || bytes(&snapshot());
    let none = |payload| Raw { headers: Vec::new(), payload };
    let id = Uuid::new_v4().to_string();
    let mut not_utf8 = event(&id, &[], good());
    not_utf8.headers.retain(|(name, _)| name != "ce_id");
    not_utf8.headers.push(("ce_id".to_owned(), vec![0xff, 0xfe]));
    vec![
        buried(none(Some(b"\x00\xff\xfegarbage".to_vec())), "ce_specversion is missing"),
        buried(none(None), "ce_specversion is missing"),
        buried(event("no-uuid", &[], good()), "ce_id can't be read"),
        buried(event(&id, &[("ce_id", None)], good()), "ce_id is missing"),
        buried(
            event(&id, &[("stockloopattempt", Some("99999999999"))], good()),
            "stockloopattempt",
        ),
        buried(not_utf8, "ce_id is not UTF-8"),
    ]
}

async fn poison_among_acks(stage: Stage) {
    let reason = json!({"reason": "so that events stay open"});
    stage.order.put("/api/admin/v1/quarantine/HELD", reason).await.ok();
    stage.product.put_product("HELD", 1).await;
    let held = event_of(&stage, "HELD").await;
    let producer = stage.topics.producer();
    let mut buried = 0;
    for partition in 0..PARTITIONS {
        for (payload, is_buried) in poisons_of_acks(&held, stage.topics.order()) {
            let raw = Raw { headers: Vec::new(), payload };
            Topics::send(&producer, stage.topics.acks(), partition, &raw).await;
            buried += usize::from(is_buried);
        }
        put_goods(&stage, partition).await;
    }
    eventually("all goods to be PROCESSED, and nothing else", PATIENCE, async || {
        let open = stage.product.open_events().await.map_err(|error| error.to_string())?;
        if open == BTreeMap::from([("EXHAUSTED".to_owned(), 1)]) {
            return Ok(());
        }
        Err(format!("{open:?}"))
    })
    .await;
    let letters = eventually("all dead letters", PATIENCE, async || {
        let letters = stage.product.dead_letters().await;
        if letters.len() >= buried { Ok(letters) } else { Err(letters) }
    })
    .await;
    assert_eq!(letters.len(), buried, "{letters:#?}");
    assert!(letters.iter().all(|letter| letter.topic == stage.topics.acks()));

    stage.order.delete("/api/admin/v1/quarantine/HELD").await;
    stage.product.post(&format!("/api/admin/v1/events/{held}/retry"), json!({})).await.ok();
    stage.settled().await;
    stage.assert_equal_at_rest().await;
    stage.stop().await;
}

async fn event_of(stage: &Stage, key: &str) -> String {
    let list = stage.product.get(&format!("/api/admin/v1/events?key={key}")).await.ok();
    list["items"][0]["id"].as_str().expect("an event").to_owned()
}

/// What lies on the ack topic, and whether it can't even be read; `held` is an event that must not be settled.
fn poisons_of_acks(held: &str, order: &str) -> Vec<(Option<Vec<u8>>, bool)> {
    let stranger = |consumer: &str, id: &str| {
        json!({
            "event_id": id,
            "attempt": 1,
            "outcome": "SUCCESS",
            "consumer": consumer,
            "processed_at": "2026-01-05T12:00:00Z",
        })
    };
    let unknown = Uuid::new_v4().to_string();
    let mut incomplete = stranger("nobody", held);
    incomplete.as_object_mut().expect("an object").remove("outcome");
    let mut odd = stranger("nobody", held);
    odd["outcome"] = json!("MAYBE");
    let batch = |acks: Vec<Value>| bytes(&json!({ "acks": acks }));
    vec![
        (Some(b"\x00\xffgarbage".to_vec()), true),
        (None, true),
        (Some(b"{}".to_vec()), true),
        (Some(vec![b'['; 100_000]), true),
        (bytes(&json!({"acks": "none"})), true),
        (batch(vec![incomplete]), true),
        (batch(vec![odd]), true),
        (batch(Vec::new()), false),
        (batch(vec![stranger("nobody", held)]), false),
        (batch(vec![stranger(order, &unknown)]), false),
        (bytes(&json!({"acks": [], "of a newer version": true})), false),
    ]
}
