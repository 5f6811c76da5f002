//! The catcher from outside: mails over SMTP, read from the store, the pages and the JSON list.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, test, web};
use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::store::{MAX_BYTES, MAX_MAILS};
use super::*;

fn started() -> Catcher {
    Catcher::start("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn sender(catcher: &Catcher) -> AsyncSmtpTransport<Tokio1Executor> {
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(catcher.smtp_addr().port())
        .build()
}

fn alert(subject: &str, text: &str, html: &str) -> Message {
    let mailbox = |address: &str| address.parse::<Mailbox>().unwrap();
    Message::builder()
        .from(mailbox("Stockloop <stockloop@example.com>"))
        .to(mailbox("Operator <operator@example.com>"))
        .bcc(mailbox("second@example.com"))
        .message_id(Some("<alert-1@example.com>".to_owned()))
        .subject(subject)
        .multipart(MultiPart::alternative_plain_html(text.to_owned(), html.to_owned()))
        .unwrap()
}

/// Status, content security policy and body of a page, mounted under a prefix.
async fn get(catcher: &Catcher, prefix: &str, path: &str) -> (StatusCode, String, String) {
    let app = App::new().service(web::scope(prefix).configure(catcher.configure()));
    let app = test::init_service(app).await;
    let uri = format!("{prefix}{path}");
    let response = test::call_service(&app, test::TestRequest::get().uri(&uri).to_request()).await;
    let policy = response.headers().get("content-security-policy");
    let policy = policy.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status();
    let body = test::read_body(response).await;
    (status, policy, String::from_utf8_lossy(&body).into_owned())
}

/// A client that speaks SMTP by hand.
struct RawSmtpClient {
    reader: BufReader<TcpStream>,
}

impl RawSmtpClient {
    async fn connect(catcher: &Catcher) -> Self {
        let stream = TcpStream::connect(catcher.smtp_addr()).await.unwrap();
        Self { reader: BufReader::new(stream) }
    }

    async fn answer(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn say(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, line: &str) -> String {
        self.say(&format!("{line}\r\n")).await;
        self.answer().await
    }

    async fn greeted(catcher: &Catcher) -> Self {
        let mut client = Self::connect(catcher).await;
        assert!(client.answer().await.starts_with("220 "));
        assert!(client.ask("HELO test").await.starts_with("250 "));
        client
    }

    async fn start_data(&mut self) {
        assert!(self.ask("MAIL FROM:<a@example.com>").await.starts_with("250 "));
        assert!(self.ask("RCPT TO:<b@example.com>").await.starts_with("250 "));
        assert!(self.ask("DATA").await.starts_with("354 "));
    }
}

#[actix_web::test]
async fn a_mail_with_text_and_html_is_caught_whole() {
    let catcher = started();
    let text = "3 events are exhausted: 85123A, ümlaut\n.a line that starts with a dot\n";
    let html = "<h1>3 events</h1><script>alert(1)</script>";
    sender(&catcher).send(alert("Grüße: 3 alerts", text, html)).await.unwrap();

    let mails = catcher.mails();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert_eq!((mail.id, mail.subject.as_str()), (1, "Grüße: 3 alerts"));
    assert_eq!(mail.from, "stockloop@example.com");
    assert_eq!(mail.to, ["operator@example.com", "second@example.com"]);
    assert_eq!(mail.message_id.as_deref(), Some("alert-1@example.com"));
    assert_eq!(mail.text.as_deref().unwrap().trim_end(), text.trim_end());
    assert_eq!(mail.html.as_deref().unwrap().trim_end(), html);
    assert!(
        mail.headers
            .iter()
            .any(|(name, value)| name == "Message-ID" && value == "<alert-1@example.com>")
    );

    let (status, policy, page) = get(&catcher, "/mail", "/mails/1/html").await;
    assert_eq!((status, policy.as_str()), (StatusCode::OK, page::MAIL_POLICY));
    assert!(page.starts_with("<base target=\"_blank\"><h1>3 events</h1>"), "{page}");
    let (_, policy, raw) = get(&catcher, "/mail", "/mails/1/raw").await;
    assert!(policy.contains("sandbox") && raw.contains("Message-ID: <alert-1@example.com>"));
}

#[actix_web::test]
async fn the_pages_link_to_each_other_under_any_prefix() {
    let catcher = started();
    sender(&catcher).send(alert("Hello", "text part", "<p>html</p>")).await.unwrap();
    for prefix in ["", "/tools/mail"] {
        let (status, policy, list) = get(&catcher, prefix, "/").await;
        assert_eq!((status, policy.as_str()), (StatusCode::OK, page::PAGE_POLICY));
        assert!(list.contains(&format!("<a href=\"{prefix}/mails/1\">Hello</a>")), "{list}");
        assert!(list.contains("to operator@example.com, second@example.com"));
        let (_, _, mail) = get(&catcher, prefix, "/mails/1").await;
        assert!(mail.contains("<iframe sandbox=\"allow-popups allow-popups-to-escape-sandbox\""));
        assert!(mail.contains(&format!("src=\"{prefix}/mails/1/html\"")), "{mail}");
        assert!(mail.contains(&format!("<a href=\"{prefix}/\">")), "{mail}");
        assert!(mail.contains("text part"));
    }
    let (status, _, _) = get(&catcher, "/tools/mail", "").await;
    assert_eq!(status, StatusCode::OK);
}

#[actix_web::test]
async fn an_empty_list_says_what_will_appear() {
    let (status, _, page) = get(&started(), "", "/").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("No mail yet") && page.contains("runs out of attempts"));
}

#[actix_web::test]
async fn a_script_in_a_mail_stays_text() {
    let catcher = started();
    let script = "<script>alert('x')</script>";
    sender(&catcher).send(alert(script, script, script)).await.unwrap();
    for path in ["/", "/mails/1"] {
        let (_, _, page) = get(&catcher, "", path).await;
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&#60;script&#62;"), "{page}");
    }
}

#[actix_web::test]
async fn programs_get_json() {
    let catcher = started();
    sender(&catcher).send(alert("One", "first", "<p>1</p>")).await.unwrap();
    sender(&catcher).send(alert("Two", "second", "<p>2</p>")).await.unwrap();
    let (status, _, body) = get(&catcher, "", "/api/mails").await;
    let mails: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(mails[0]["subject"], "Two");
    assert_eq!(mails[1]["id"], "1");
    assert_eq!(mails[1]["to"][0], "operator@example.com");
    assert_eq!(mails[1]["message_id"], "alert-1@example.com");
    assert_eq!(mails[1]["text"].as_str().unwrap().trim_end(), "first");
    assert!(mails[1]["received_at"].as_str().unwrap().ends_with('Z'));
}

#[actix_web::test]
async fn what_is_not_there_is_not_found() {
    let catcher = started();
    for path in
        ["/mails/1", "/mails/x", "/mails/1/html", "/mails/1/raw", "/mails/99999999999999999999"]
    {
        let (status, _, page) = get(&catcher, "", path).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(page.contains("There is no such mail"));
    }
}

#[actix_web::test]
async fn a_text_only_mail_has_no_html_and_garbage_is_kept_raw() {
    let catcher = started();
    let mut client = RawSmtpClient::greeted(&catcher).await;
    client.start_data().await;
    assert!(client.ask("Subject: plain\r\n\r\n..dot\r\n.").await.starts_with("250 "));
    client.start_data().await;
    assert!(client.ask("\u{1}\r\n.").await.starts_with("250 "));
    let mails = catcher.mails();
    assert_eq!(mails[1].text.as_deref(), Some(".dot\n"));
    assert_eq!(mails[1].html, None);
    assert_eq!(mails[0].raw, b"\x01\r\n");
    let (_, _, page) = get(&catcher, "", "/mails/1").await;
    assert!(!page.contains("<iframe"));
    let (_, _, page) = get(&catcher, "", "/mails/2").await;
    assert!(page.contains("(no subject)"));
}

#[actix_web::test]
async fn a_mail_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let catcher = started();
    let lines = "0123456789\r\n".repeat(500_000);
    // Sent as bytes: lettre takes a minute to build a message of this size in a debug build.
    let envelope = alert("Large", "", "").envelope().clone();
    let refused = sender(&catcher).send_raw(&envelope, lines.as_bytes()).await;
    let code = refused.unwrap_err().status().unwrap();
    assert_eq!(u16::from(code), 552);

    let mut client = RawSmtpClient::greeted(&catcher).await;
    client.start_data().await;
    let large = format!("{}\r\n", "x".repeat(60_000)).repeat(100);
    assert!(client.ask(&format!("{large}.")).await.starts_with("552 "));
    client.start_data().await;
    assert!(client.ask("Subject: small\r\n\r\nx\r\n.").await.starts_with("250 "));
    assert_eq!(catcher.mails().len(), 1);
    assert_eq!(catcher.mails()[0].subject, "small");
}

#[actix_web::test]
async fn an_endless_line_is_cut_off() {
    let catcher = started();
    let mut client = RawSmtpClient::greeted(&catcher).await;
    client.say(&"x".repeat(smtp::MAX_LINE as usize)).await;
    assert_eq!(client.answer().await, "500 Line too long");
    assert_eq!(client.answer().await, "");
}

#[actix_web::test]
async fn ten_thousand_mails_stay_bounded() {
    let catcher = started();
    let stream = TcpStream::connect(catcher.smtp_addr()).await.unwrap();
    let (mut answers, mut commands) = stream.into_split();
    let sending = tokio::spawn(async move {
        commands.write_all(b"HELO test\r\n").await.unwrap();
        for n in 1..=10_000 {
            let mail = format!(
                "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: mail {n}\r\n\r\nx\r\n.\r\n"
            );
            commands.write_all(mail.as_bytes()).await.unwrap();
        }
        commands.write_all(b"QUIT\r\n").await.unwrap();
    });
    let mut said = String::new();
    answers.read_to_string(&mut said).await.unwrap();
    sending.await.unwrap();
    assert!(said.ends_with("221 Goodbye\r\n"));

    let mails = catcher.mails();
    assert_eq!(mails.len(), MAX_MAILS);
    assert_eq!(mails[0].subject, "mail 10000");
    assert_eq!(mails[MAX_MAILS - 1].subject, "mail 9501");
    assert!(catcher.store.get(9_501).is_some() && catcher.store.get(9_500).is_none());
    let (_, _, page) = get(&catcher, "", "/").await;
    assert!(page.contains("10000 mails arrived in all"));
}

#[actix_web::test]
async fn large_mails_are_bounded_by_their_bytes() {
    let store = Store::default();
    for _ in 0..20 {
        store.add(mail::ReceivedMail {
            received_at: chrono::Utc::now(),
            from: String::new(),
            to: Vec::new(),
            raw: [b"Subject: x\r\n\r\n".as_slice(), &vec![b'x'; smtp::MAX_MAIL]].concat(),
        });
    }
    let bytes: usize = store.newest_first().iter().map(|mail| mail.size()).sum();
    assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES / 2);
    assert_eq!(store.newest_first()[0].id, 20);
}

#[actix_web::test]
async fn one_connection_too_many_is_told_to_come_again() {
    let catcher = started();
    let mut clients = Vec::new();
    for _ in 0..smtp::MAX_CONNECTIONS {
        clients.push(RawSmtpClient::greeted(&catcher).await);
    }
    let mut late = RawSmtpClient::connect(&catcher).await;
    assert!(late.answer().await.starts_with("421 Too many connections"));
    assert!(clients[0].ask("QUIT").await.starts_with("221 "));
}

#[actix_web::test]
async fn stopping_ends_open_connections_and_frees_the_port() {
    let catcher = started();
    let mut client = RawSmtpClient::greeted(&catcher).await;
    client.start_data().await;
    tokio::time::timeout(Duration::from_secs(5), catcher.stop()).await.unwrap();
    assert!(client.answer().await.starts_with("421 "));
    assert!(catcher.mails().is_empty());
    assert!(TcpStream::connect(catcher.smtp_addr()).await.is_err());
}

#[actix_web::test]
async fn it_stops_with_the_token_it_was_given() {
    let token = CancellationToken::new();
    let catcher = Catcher::start_until("127.0.0.1:0".parse().unwrap(), token.clone()).unwrap();
    token.cancel();
    tokio::time::timeout(Duration::from_secs(5), catcher.stop()).await.unwrap();
}

#[actix_web::test]
async fn it_says_why_it_cannot_start() {
    let outside = Catcher::start("0.0.0.0:0".parse().unwrap()).unwrap_err();
    assert!(outside.to_string().contains("only listens on loopback, not on 0.0.0.0:0"));
    let first = started();
    let taken = Catcher::start(first.smtp_addr()).unwrap_err().to_string();
    assert!(taken.contains(&first.smtp_addr().to_string()) && taken.contains("another port"));
}

#[::core::prelude::v1::test]
fn outside_a_runtime_it_does_not_panic() {
    let error = Catcher::start("127.0.0.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(error, CatcherError::NoRuntime));
}
