//! Calls of a webhook through a real socket, into a small server that checks them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::clock::Timestamp;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use stockloop_tests::on_every_database;
use stockloop_tests::tls::{Authority, TlsFront};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Fixture, event};
use crate::alerts::{AlertError, AlertFilter, Delivery, SenderOutcome, close, webhook};
use crate::audit::{Actor, AuthMethod};

on_every_database!(Fixture::new =>
    alerts_are_called_with_a_signature,
    what_is_over_is_called_once,
    what_a_call_does_not_list_it_counts,
    a_receiver_that_fails_is_called_until_it_takes_it,
    gone_and_moved_are_failures_that_say_so,
    a_receiver_that_hangs_is_left,
    a_slow_receiver_is_waited_for,
    a_receiver_that_is_not_there_is_waited_for,
    only_who_is_certified_is_called,
    a_call_whose_end_was_not_noted_is_the_same_call_again,
    mails_do_not_wait_for_the_webhook,
    off_calls_nobody,
    a_test_call_goes_the_same_way,
);

const MINUTE: Duration = Duration::from_secs(60);
pub(super) const SECRET: &str = "whsec_c3RvY2tsb29wIHNpZ25zIHdoYXQgaXQgc2VuZHMh";

/// How the receiver answers a call.
#[derive(Debug, Clone, Copy)]
enum ReceiverReply {
    Status(u16),
    /// Reads, and says nothing any more.
    Hang,
    /// Answers 204 after this time.
    Slow(Duration),
}

#[derive(Debug, Clone)]
struct Call {
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Call {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("{name} of {self:?}")).1
    }

    /// Checks the signature as a receiver does, and returns what the body says.
    fn verified(&self) -> Value {
        let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let (id, timestamp) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        mac.update(format!("{id}.{timestamp}.{}", self.body).as_bytes());
        let signature = self.header("webhook-signature").strip_prefix("v1,").unwrap();
        mac.verify_slice(&STANDARD.decode(signature).unwrap()).unwrap();
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.body).unwrap()
    }

    fn seconds(&self) -> i64 {
        self.header("webhook-timestamp").parse().unwrap()
    }
}

/// A receiver: answers with what it was told, in order, then with 204.
#[derive(Clone)]
struct Receiver {
    port: u16,
    url: String,
    answers: Arc<Mutex<Vec<ReceiverReply>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self {
            port: address.port(),
            url: format!("http://{address}/hooks/stockloop?shop=1"),
            answers: Arc::default(),
            calls: Arc::default(),
        };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        receiver
    }

    fn answers(&self, answers: &[ReceiverReply]) {
        *self.answers.lock().unwrap() = answers.to_vec();
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some(call) = read(&mut stream).await else { return };
        self.calls.lock().unwrap().push(call);
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.is_empty() { ReceiverReply::Status(204) } else { answers.remove(0) }
        };
        let status = match answer {
            ReceiverReply::Status(status) => status,
            ReceiverReply::Hang => return std::future::pending().await,
            ReceiverReply::Slow(time) => {
                tokio::time::sleep(time).await;
                204
            }
        };
        let text = format!(
            "HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 4\r\n\r\nbody"
        );
        let text = if status == 204 { "HTTP/1.1 204 X\r\n\r\n".to_owned() } else { text };
        stream.write_all(text.as_bytes()).await.unwrap();
    }
}

async fn read(stream: &mut TcpStream) -> Option<Call> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: Vec<_> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let call = Call { path, headers, body: body.to_owned() };
            if call.header("content-length").parse::<usize>().ok()? == body.len() {
                return Some(call);
            }
        }
        let mut part = [0; 4_096];
        match stream.read(&mut part).await.ok()? {
            0 => return None,
            n => bytes.extend_from_slice(&part[..n]),
        }
    }
}

fn outcome(sent: usize, failed: usize, waiting: i64) -> SenderOutcome {
    SenderOutcome { sent, failed, refused: 0, waiting }
}

impl Fixture {
    async fn called(&mut self) -> Receiver {
        let receiver = Receiver::start().await;
        self.webhook.url.clone_from(&receiver.url);
        self.webhook.secret = SECRET.into();
        receiver
    }

    async fn call(&self) -> SenderOutcome {
        self.alerts().run_once(&self.db, &self.env).await.unwrap().webhooks.sender
    }

    async fn state(&self) -> Delivery {
        self.write(|conn| webhook::list(conn, None, None, 10)).await.remove(0).delivery
    }
}

async fn alerts_are_called_with_a_signature(mut fixture: Fixture) {
    let receiver = fixture.called().await;
    fixture.exhaust(&event(1, "85123A", 17)).await;
    fixture.exhaust(&event(2, "<script>\u{1f4e6}", 1)).await;
    fixture.exhaust(&event(3, "closed before", 1)).await;
    let now = fixture.env.now();
    fixture.write(move |conn| close(conn, now, &[super::event_id(3)], "processed")).await;
    assert_eq!(fixture.call().await, SenderOutcome::default(), "it waits as mails do");
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await, outcome(1, 0, 0));
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.sent, 0);

    let calls = receiver.calls();
    assert_eq!((calls.len(), calls[0].path.as_str()), (1, "/hooks/stockloop?shop=1"));
    assert_eq!(calls[0].seconds(), now.after(MINUTE).micros() / 1_000_000);
    let mut body = calls[0].verified();
    assert_eq!(body["data"]["alerts"][1]["key"], "<script>\u{1f4e6}");
    body["data"]["alerts"].as_array_mut().unwrap().truncate(1);
    insta::assert_json_snapshot!("webhook_body", body);

    let listed = fixture.list(AlertFilter::default()).await;
    let call = listed[2].webhook.clone().unwrap();
    assert_eq!(call.delivery_id, calls[0].header("webhook-id"));
    assert_eq!(call.sent_at, Some(now.after(MINUTE)));
    assert!(listed[0].webhook.is_none() && listed[2].mail.is_some());
    assert_eq!(fixture.state().await.alerts, 2);
}

async fn what_is_over_is_called_once(mut fixture: Fixture) {
    fixture.alerts.tell_when_over = true;
    let receiver = fixture.called().await;
    fixture.exhaust(&event(1, "85123A", 17)).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await, outcome(1, 0, 0));
    let now = fixture.env.now();
    fixture.write(move |conn| close(conn, now, &[super::event_id(1)], "processed")).await;
    assert_eq!(fixture.call().await.sent, 0, "it is gathered as well");
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.sent, 1);
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.sent, 0);

    let calls = receiver.calls();
    let raised = calls[0].verified();
    let over = calls[1].verified();
    assert_eq!(
        (&raised["type"], &over["type"]),
        (&json!("stockloop.alert"), &json!("stockloop.alert.closed"))
    );
    let alert = &over["data"]["alerts"][0];
    assert_eq!(alert["closed_at"], json!(now));
    assert_eq!(alert["closed_because"], "processed");
    assert_eq!((&alert["seq"], &alert["key"]), (&json!("1"), &json!("85123A")));
    assert!(raised["data"]["alerts"][0].get("closed_at").is_none());
}

async fn what_a_call_does_not_list_it_counts(mut fixture: Fixture) {
    fixture.alerts.tell_when_over = true;
    fixture.alerts.digest_size = 1;
    let receiver = fixture.called().await;
    fixture.exhaust_many(0, 4).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await, outcome(1, 0, 0));
    assert_eq!(fixture.state().await.alerts, 4);
    let now = fixture.env.now();
    let events = [0, 1, 2, 3].map(super::event_id);
    fixture.write(move |conn| close(conn, now, &events, "processed")).await;
    fixture.call().await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.sent, 1);

    let [raised, over] = [0, 1].map(|n| receiver.calls()[n].verified()["data"].clone());
    for data in [&raised, &over] {
        let listed = data["alerts"].as_array().unwrap();
        assert_eq!((listed.len(), &listed[0]["key"]), (1, &json!("K0")));
        assert_eq!((&data["counted"], &data["further"]), (&json!(3), &json!(0)));
    }
    let page = "http://shop.test/admin";
    assert_eq!(
        raised["groups"],
        json!([{
            "kind": "exhausted",
            "count": 3,
            "error_class": "the SKU is in quarantine",
            "oldest_at": super::START,
            "url": format!(
                "{page}/events?status=EXHAUSTED&resolved=false\
                 &error_class=the%20SKU%20is%20in%20quarantine"
            ),
        }])
    );
    assert_eq!(
        over["groups"],
        json!([{
            "kind": "exhausted",
            "count": 3,
            "closed_because": "processed",
            "oldest_at": now,
            "url": format!("{page}/alerts?state=closed&kind=exhausted"),
        }])
    );
}

async fn a_receiver_that_fails_is_called_until_it_takes_it(mut fixture: Fixture) {
    let receiver = fixture.called().await;
    receiver.answers(&[
        ReceiverReply::Status(500),
        ReceiverReply::Status(429),
        ReceiverReply::Status(404),
    ]);
    fixture.exhaust_many(0, 1).await;
    for _ in 0..30 {
        fixture.clock.advance(MINUTE);
        fixture.call().await;
    }
    let calls = receiver.calls();
    assert_eq!(calls.len(), 4);
    for call in &calls {
        call.verified();
        assert_eq!(call.header("webhook-id"), calls[0].header("webhook-id"));
        assert_eq!(call.body, calls[0].body);
    }
    assert!(calls[3].seconds() > calls[0].seconds(), "each try has its own time");
    let state = fixture.state().await;
    assert_eq!((state.tries, state.last_error), (3, None));
    assert!(state.sent_at.is_some() && state.due_at.is_none());
}

async fn gone_and_moved_are_failures_that_say_so(mut fixture: Fixture) {
    let receiver = fixture.called().await;
    receiver.answers(&[ReceiverReply::Status(410), ReceiverReply::Status(307)]);
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.failed, 1);
    assert!(fixture.state().await.last_error.unwrap().contains("HTTP 410: the receiver wants no"));
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.failed, 1);
    assert!(fixture.state().await.last_error.unwrap().contains("redirects are not followed"));
    assert_eq!(receiver.calls().len(), 2);
}

async fn a_receiver_that_hangs_is_left(mut fixture: Fixture) {
    let receiver = fixture.called().await;
    receiver.answers(&[ReceiverReply::Hang]);
    fixture.webhook.timeout = Duration::from_millis(300);
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.failed, 1);
    assert_eq!(fixture.state().await.last_error.unwrap(), "no result within 300ms");
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.sent, 1);
}

async fn a_slow_receiver_is_waited_for(mut fixture: Fixture) {
    let receiver = fixture.called().await;
    receiver.answers(&[ReceiverReply::Slow(Duration::from_millis(500))]);
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.sent, 1);
}

async fn a_receiver_that_is_not_there_is_waited_for(mut fixture: Fixture) {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    fixture.called().await;
    fixture.webhook.url = format!("http://{free}/");
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.failed, 1);
    let error = fixture.state().await.last_error.unwrap();
    assert!(error.starts_with("the receiver can't be reached: "), "{error}");
    // What speaks no TLS is a failure too, of this call and not of the program.
    fixture.webhook.url = Receiver::start().await.url.replace("http://", "https://");
    fixture.webhook.timeout = Duration::from_millis(500);
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.failed, 1);
    assert_eq!(fixture.state().await.tries, 2);
}

/// By the authority that is named, for this name, and now.
async fn only_who_is_certified_is_called(mut fixture: Fixture) {
    let [ours, another] = ["ours", "another"].map(|name| Authority::new(name).unwrap());
    let receiver = fixture.called().await;
    fixture.exhaust_many(0, 1).await;
    fixture.webhook.ca_file = ours.file();
    for (identity, refused) in [
        (another.certify("127.0.0.1"), Some("UnknownIssuer")),
        (ours.certify("elsewhere.test"), Some("not valid for name")),
        (ours.certify_once("127.0.0.1"), Some("certificate expired")),
        (ours.certify("127.0.0.1"), None),
    ] {
        let front = TlsFront::start(&identity.unwrap(), receiver.port).await.unwrap();
        fixture.webhook.url = format!("https://127.0.0.1:{}/", front.port());
        fixture.clock.advance(MINUTE * 60);
        fixture.call().await;
        let error = fixture.state().await.last_error;
        let fits = refused.map_or(error.is_none(), |words| {
            error.as_ref().is_some_and(|error| error.contains(words))
        });
        assert!(fits, "{refused:?}: {error:?}");
        assert_eq!(receiver.calls().is_empty(), refused.is_some());
    }
}

async fn a_call_whose_end_was_not_noted_is_the_same_call_again(mut fixture: Fixture) {
    let receiver = fixture.called().await;
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    alerts.webhooks.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    let claimed = alerts.webhooks.sender.claim(&fixture.db, &fixture.env).await.unwrap();
    alerts.webhooks.sender.send(&claimed.unwrap().1, &fixture.env).await.unwrap();
    // Here the instance dies. While its claim lasts, nobody else calls.
    assert_eq!(fixture.call().await, outcome(0, 0, 1));
    fixture.clock.advance(MINUTE * 2);
    assert_eq!(fixture.call().await.sent, 1);
    let calls = receiver.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
    assert_eq!(calls[0].verified(), calls[1].verified());
}

async fn mails_do_not_wait_for_the_webhook(mut fixture: Fixture) {
    let receiver = fixture.called().await;
    receiver.answers(&[ReceiverReply::Hang]);
    fixture.webhook.timeout = Duration::from_secs(5);
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    let alerts = fixture.alerts();
    let mails = alerts.memory().unwrap();
    let step = tokio::spawn({
        let (db, env) = (fixture.db.clone(), fixture.env.clone());
        async move { alerts.run_once(&db, &env).await }
    });
    let left = async {
        while mails.all().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), left).await.unwrap();
    step.abort();
}

async fn off_calls_nobody(mut fixture: Fixture) {
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await, SenderOutcome::default());
    assert!(fixture.list(AlertFilter::default()).await[0].webhook.is_none());
    // Told once there is somebody.
    let receiver = fixture.called().await;
    assert_eq!(fixture.call().await.sent, 1);
    assert_eq!(receiver.calls().len(), 1);
}

async fn a_test_call_goes_the_same_way(mut fixture: Fixture) {
    let anna = Actor { name: "anna".to_owned(), method: AuthMethod::Session };
    let (alerts, env, by) = (fixture.alerts(), fixture.env.clone(), anna.clone());
    let refused = fixture.db.write(move |conn| alerts.test_webhook(conn, &env, &by)).await;
    assert!(matches!(refused, Err(AlertError::WebhookOff)));

    let receiver = fixture.called().await;
    receiver.answers(&[ReceiverReply::Status(503)]);
    let (alerts, env) = (fixture.alerts(), fixture.env.clone());
    let queued = fixture.db.write(move |conn| alerts.test_webhook(conn, &env, &anna)).await;
    let queued = queued.unwrap();
    assert_eq!(fixture.call().await, outcome(0, 1, 1));
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.call().await.sent, 1);
    let calls = receiver.calls();
    assert_eq!(calls[1].header("webhook-id"), queued.delivery_id);
    let body = calls[1].verified();
    assert_eq!(body["type"], "stockloop.test");
    assert_eq!(body["data"], json!({ "service": "product-service", "by": "anna" }));
    let made: Timestamp = body["timestamp"].as_str().unwrap().parse().unwrap();
    assert_eq!(made, super::START);
    assert_eq!(fixture.state().await.alerts, 0);
}
