//! What nobody should send: it is put aside or answered FAILED, and blocks nothing behind it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use uuid::Uuid;

use crate::system::raw_produce::produce;
use crate::system::topics::{RawMessage, Topics};
use crate::system::{DEADLINE, PARTITIONS, TestSystem, on_embedded_and_real};

on_embedded_and_real!(
    poison_among_events as "poison",
    poison_among_acks as "poison_acks",
    an_odd_header_stops_nobody as "poison_headers",
);

/// A message, and what has to become of it.
struct Poison {
    message: RawMessage,
    /// Words of its dead letter's error, if it gets one.
    dead_letter: Option<&'static str>,
    /// Words of the FAILED answer's error, if one goes back for the id.
    answered: Option<(String, &'static str)>,
}

async fn poison_among_events(system: TestSystem) {
    let producer = system.topics.producer();
    let mut poisons = Vec::new();
    for partition in 0..PARTITIONS {
        // Good events before, between and after: a key of each partition, and more.
        put_products(&system, partition).await;
        for poison in poisons_of_events() {
            Topics::send(&producer, system.topics.events(), partition, &poison.message).await;
            poisons.push(poison);
        }
    }
    put_products(&system, PARTITIONS).await;
    system.wait_until_settled().await;
    assert_eq!(system.product.inventory().await, system.order.inventory().await);
    assert_dead_letters(&system, &poisons).await;
    assert_answered(&system, &poisons).await;
    system.assert_nothing_gave_up().await;
    system.assert_no_attempt_was_lost().await;
    system.stop().await;
}

async fn put_products(system: &TestSystem, round: i32) {
    for n in 0..12 {
        system.product.put_product(&format!("GOOD-{n:02}"), i64::from(round)).await;
    }
}

async fn assert_dead_letters(system: &TestSystem, poisons: &[Poison]) {
    let expected: Vec<&str> = poisons.iter().filter_map(|poison| poison.dead_letter).collect();
    let letters = eventually("all dead letters", DEADLINE, async || {
        let letters = system.order.dead_letters().await;
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
    assert!(letters.iter().all(|letter| letter.topic == system.topics.events()));
    let listed = system.order.get("/api/admin/v1/dead-letters?limit=1").await.ok();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
}

/// Each readable id has exactly one answer: FAILED, and not to be tried again.
async fn assert_answered(system: &TestSystem, poisons: &[Poison]) {
    let expected: Vec<_> = poisons.iter().filter_map(|poison| poison.answered.clone()).collect();
    let acks = eventually("an answer to each readable id", DEADLINE, async || {
        let acks = system.topics.all_acks();
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
fn event(id: &str, changes: &[(&str, Option<&str>)], payload: Option<Vec<u8>>) -> RawMessage {
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
    RawMessage { headers, payload }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    Some(value.to_string().into_bytes())
}

/// Whose envelope can't be read at all: nobody can be answered.
fn dead_letter(message: RawMessage, words: &'static str) -> Poison {
    Poison { message, dead_letter: Some(words), answered: None }
}

/// Whose envelope is wrong, but the id in it is not: put aside and answered.
fn dead_letter_and_answer(
    changes: &[(&str, Option<&str>)],
    payload: Option<Vec<u8>>,
    words: &'static str,
) -> Poison {
    Poison { dead_letter: Some(words), ..answer(changes, payload, words) }
}

/// Whose envelope is right and whose content is not: answered.
fn answer(
    changes: &[(&str, Option<&str>)],
    payload: Option<Vec<u8>>,
    words: &'static str,
) -> Poison {
    let id = Uuid::new_v4().to_string();
    let message = event(&id, changes, payload);
    Poison { message, dead_letter: None, answered: Some((id, words)) }
}

fn poisons_of_events() -> Vec<Poison> {
    let good = || bytes(&snapshot());
    let mut poisons = unreadable();
    poisons.extend([
        dead_letter_and_answer(&[("ce_type", None)], good(), "ce_type is missing"),
        dead_letter_and_answer(&[("ce_subject", None)], good(), "ce_subject is missing"),
        dead_letter_and_answer(&[("stockloopepoch", Some("x"))], good(), "stockloopepoch"),
        dead_letter_and_answer(&[("ce_time", Some("yesterday"))], good(), "ce_time"),
        dead_letter_and_answer(&[("ce_specversion", Some("2.0"))], good(), "version 2.0"),
        dead_letter_and_answer(&[], None, "no data"),
        answer(&[], Some(b"{not json".to_vec()), "not an inventory snapshot"),
        answer(&[], Some(b"[]".to_vec()), "not an inventory snapshot"),
        answer(&[], Some(vec![b'['; 100_000]), "not an inventory snapshot"),
        answer(&[], Some(vec![0xff; 900_000]), "not an inventory snapshot"),
        answer(&[("ce_type", Some("somebody.elses"))], good(), "somebody.elses"),
        answer(&[("ce_subject", Some("OTHER"))], good(), "EVIL"),
        answer(&[("ce_type", Some("stockloop.inventory.removed"))], good(), "removed"),
        answer(&[], bytes(&with(|s| s["version"] = json!(0))), "version 0"),
        answer(&[], bytes(&with(|s| s["version"] = json!(-7))), "version -7"),
        answer(&[], bytes(&with(|s| s["quantity"] = json!(1e30))), "not an inventory snapshot"),
        answer(&[], bytes(&with(|s| s["description"] = json!("a\0b"))), "U+0000"),
        answer(&[("ce_subject", Some("EVIL\0"))], good(), ""),
        answer(&[("ce_type", Some("nul\0"))], good(), ""),
    ]);
    poisons
}

fn unreadable() -> Vec<Poison> {
    let good = || bytes(&snapshot());
    let none = |payload| RawMessage { headers: Vec::new(), payload };
    let id = Uuid::new_v4().to_string();
    let mut not_utf8 = event(&id, &[], good());
    not_utf8.headers.retain(|(name, _)| name != "ce_id");
    not_utf8.headers.push(("ce_id".to_owned(), vec![0xff, 0xfe]));
    vec![
        dead_letter(none(Some(b"\x00\xff\xfegarbage".to_vec())), "ce_specversion is missing"),
        dead_letter(none(None), "ce_specversion is missing"),
        dead_letter(event("no-uuid", &[], good()), "ce_id can't be read"),
        dead_letter(event(&id, &[("ce_id", None)], good()), "ce_id is missing"),
        dead_letter(
            event(&id, &[("stockloopattempt", Some("99999999999"))], good()),
            "stockloopattempt",
        ),
        dead_letter(not_utf8, "ce_id is not UTF-8"),
    ]
}

async fn poison_among_acks(system: TestSystem) {
    system.order.quarantine("HELD", "so that events stay open").await;
    system.product.put_product("HELD", 1).await;
    let held = system.product.newest_event("HELD").await;
    let producer = system.topics.producer();
    let mut dead_letters = 0;
    for partition in 0..PARTITIONS {
        for (payload, is_unreadable) in poisons_of_acks(&held, system.topics.order()) {
            let message = RawMessage { headers: Vec::new(), payload };
            Topics::send(&producer, system.topics.acks(), partition, &message).await;
            dead_letters += usize::from(is_unreadable);
        }
        put_products(&system, partition).await;
    }
    eventually("all goods to be PROCESSED, and nothing else", DEADLINE, async || {
        let open = system.product.open_events().await.map_err(|error| error.to_string())?;
        if open == BTreeMap::from([("EXHAUSTED".to_owned(), 1)]) {
            return Ok(());
        }
        Err(format!("{open:?}, after {:?}", system.product.history().await))
    })
    .await;
    let letters = eventually("all dead letters", DEADLINE, async || {
        let letters = system.product.dead_letters().await;
        if letters.len() >= dead_letters { Ok(letters) } else { Err(letters) }
    })
    .await;
    assert_eq!(letters.len(), dead_letters, "{letters:#?}");
    assert!(letters.iter().all(|letter| letter.topic == system.topics.acks()));

    system.order.release("HELD").await;
    system.product.post(&format!("/api/admin/v1/events/{held}/retry"), json!({})).await.ok();
    system.wait_until_settled().await;
    system.assert_equal_at_rest().await;
    system.stop().await;
}

/// No client library makes a header whose name is not UTF-8, and the one that is used here panics at it.
async fn an_odd_header_stops_nobody(system: TestSystem) {
    let id = Uuid::new_v4().to_string();
    let message = event(&id, &[("ce_type", Some("somebody.elses"))], bytes(&snapshot()));
    let mut headers: Vec<(&[u8], &[u8])> = vec![(b"\xff\xfe", b"odd")];
    headers.extend(message.headers.iter().map(|(name, value)| (name.as_bytes(), &value[..])));
    let payload = message.payload.expect("a payload");
    for partition in 0..PARTITIONS {
        for topic in [system.topics.events(), system.topics.acks()] {
            produce(system.topics.brokers(), (topic, partition), &headers, &payload);
        }
    }
    put_products(&system, 1).await;
    system.wait_until_settled().await;
    eventually("an answer to each of them", DEADLINE, async || {
        let acks = system.topics.all_acks();
        let failed = answers(&acks, &id).iter().filter(|ack| ack["outcome"] == "FAILED").count();
        if failed >= usize::try_from(PARTITIONS).expect("few") { Ok(()) } else { Err(failed) }
    })
    .await;
    let letters = eventually("a dead letter of what is no ack", DEADLINE, async || {
        let letters = system.product.dead_letters().await;
        if letters.is_empty() { Err("there is none") } else { Ok(letters) }
    })
    .await;
    let told = letters.iter().all(|letter| letter.error.contains("not a batch of acks"));
    assert!(told, "{letters:#?}");
    assert!(system.order.dead_letters().await.is_empty(), "the envelope is readable");
    system.stop().await;
}

/// What is sent to the ack topic, and whether it can't even be read; `held` is an event that must not be settled.
fn poisons_of_acks(held: &str, order: &str) -> Vec<(Option<Vec<u8>>, bool)> {
    let ack = |consumer: &str, id: &str| {
        json!({
            "event_id": id,
            "attempt": 1,
            "outcome": "SUCCESS",
            "consumer": consumer,
            "processed_at": "2026-01-05T12:00:00Z",
        })
    };
    let unknown = Uuid::new_v4().to_string();
    let mut incomplete = ack("nobody", held);
    incomplete.as_object_mut().expect("an object").remove("outcome");
    let mut odd = ack("nobody", held);
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
        (batch(vec![ack("nobody", held)]), false),
        (batch(vec![ack(order, &unknown)]), false),
        (bytes(&json!({"acks": [], "of a newer version": true})), false),
    ]
}
