//! What becomes of a chunk when the service is away, busy, or does not take all of it.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::products::chunks::{Chunk, next_chunk};
use crate::products::reader::ProductReader;
use crate::products::sending::{ChunkOutcome, send};
use crate::products::service::{InventoryService, Mode, Sending, ServiceTarget};

/// A request as it came: its Idempotency-Key and its body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// A service that answers with a status and a body, or not at all.
struct FakeService {
    service: InventoryService,
    seen: Seen,
}

impl FakeService {
    fn start(
        mut answer: impl FnMut(usize, &Value) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Seen::default();
        let requests = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream);
                let mut requests = requests.lock().unwrap();
                if let Some((status, body)) = answer(requests.len(), &request.1) {
                    let body = body.to_string();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
                }
                requests.push(request);
            }
        });
        let service = InventoryService::new(&ServiceTarget::at(&url)).unwrap();
        Self { service, seen }
    }

    async fn send(&self, skus: &[&str]) -> anyhow::Result<ChunkOutcome> {
        let sending = Sending { mode: Mode::Replace, dry_run: false, salt: String::new() };
        send(&self.service, &sending, chunk(skus)).await
    }

    /// The keys of all requests, and the products in each.
    fn seen(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let seen = self.seen.lock().unwrap();
        let keys = seen.iter().map(|(key, _)| key.clone()).collect();
        (keys, seen.iter().map(|(_, body)| skus_of(body)).collect())
    }
}

fn read_request(stream: &TcpStream) -> (String, Value) {
    let mut input = BufReader::new(stream);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        match line.trim().split_once(": ") {
            Some(("idempotency-key", value)) => key = value.to_owned(),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            None if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).unwrap();
    (key, serde_json::from_slice(&body).unwrap())
}

fn skus_of(body: &Value) -> Vec<String> {
    let lines = body["lines"].as_array().unwrap();
    lines.iter().map(|line| line["sku"].as_str().unwrap().to_owned()).collect()
}

fn chunk(skus: &[&str]) -> Chunk {
    let lines: String = skus.iter().map(|sku| format!("{sku},,1,1\n")).collect();
    let text = format!("sku,description,quantity,unit_price\n{lines}");
    let mut reader = ProductReader::open(Cursor::new(text), "the file", None).unwrap();
    next_chunk(&mut reader).0
}

fn problem(status: u16, kind: &str, field: Value) -> (u16, Value) {
    let kind = format!("urn:stockloop:problem:{kind}");
    (
        status,
        json!({"type": kind, "title": "No", "status": status, "detail": "why", "field": field}),
    )
}

fn all_accepted(body: &Value) -> (u16, Value) {
    let lines = skus_of(body).len();
    (200, json!({"lines": vec![json!({"status": "accepted", "version": 1}); lines]}))
}

#[tokio::test]
async fn what_is_away_or_busy_is_asked_again_with_the_same_key() {
    let fake = FakeService::start(|nth, body| match nth {
        0 => Some(problem(503, "unavailable", Value::Null)),
        1 => None,
        2 => Some(problem(409, "idempotency-running", Value::Null)),
        3 => Some((502, json!("a proxy"))),
        _ => Some(all_accepted(body)),
    });
    let outcome = fake.send(&["A", "B"]).await.unwrap();
    assert_eq!((outcome.accepted, outcome.refused.len()), (2, 0));
    let (keys, skus) = fake.seen();
    assert!(keys.iter().all(|key| key.len() == 64 && *key == keys[0]), "{keys:?}");
    assert_eq!(skus, vec![vec!["A", "B"]; 5]);
    let again = FakeService::start(|nth, body| match nth {
        0 => Some(problem(408, "body-late", Value::Null)),
        _ => Some(all_accepted(body)),
    });
    again.send(&["A", "B"]).await.unwrap();
    again.send(&["B", "A"]).await.unwrap();
    let (later, _) = again.seen();
    assert_eq!(later[..2], [&*keys[0]; 2], "another run has the same keys");
    assert_ne!(later[2], keys[0]);
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_parts_and_in_order() {
    let fake = FakeService::start(|_, body| match &skus_of(body)[..] {
        [only] if only == "HUGE" => Some(problem(413, "too-large", Value::Null)),
        [_] | [_, _] => Some(all_accepted(body)),
        _ => Some(problem(413, "too-large", Value::Null)),
    });
    let outcome = fake.send(&["A", "B", "C", "D", "E"]).await.unwrap();
    assert_eq!(outcome.accepted, 5);
    let done: Vec<Vec<String>> = fake.seen().1.into_iter().filter(|skus| skus.len() < 3).collect();
    assert_eq!(done.concat(), ["A", "B", "C", "D", "E"]);
    let outcome = fake.send(&["HUGE"]).await.unwrap();
    assert_eq!((outcome.accepted, outcome.refused[0].line), (0, 2));
}

#[tokio::test]
async fn a_line_that_the_service_can_not_read_costs_only_itself() {
    let fake = FakeService::start(|_, body| {
        let bad = skus_of(body).iter().position(|sku| sku.starts_with("BAD"));
        Some(match bad {
            Some(place) => problem(422, "invalid", json!(format!("lines[{place}].sku"))),
            None => all_accepted(body),
        })
    });
    let outcome = fake.send(&["A", "BAD 1", "B", "BAD 2"]).await.unwrap();
    let refused: Vec<u64> = outcome.refused.iter().map(|refused| refused.line).collect();
    assert_eq!((outcome.accepted, refused), (2, vec![3, 5]));
}

#[tokio::test]
async fn what_is_no_line_s_fault_ends_the_run() {
    for (status, kind, field) in [
        (401, "unauthorized", Value::Null),
        (422, "invalid", json!("reason")),
        (405, "method-not-allowed", Value::Null),
        (500, "internal", Value::Null),
    ] {
        let fake = FakeService::start(move |_, _| Some(problem(status, kind, field.clone())));
        let error = fake.send(&["A"]).await.unwrap_err().to_string();
        assert!(error.contains(&format!("({status}): why")), "{error}");
        assert_eq!(fake.seen().1.len(), 1, "{error}");
    }
    let fake = FakeService::start(|_, _| Some((200, json!({"lines": []}))));
    let error = fake.send(&["A"]).await.unwrap_err().to_string();
    assert!(error.contains("another number of lines"), "{error}");
}
