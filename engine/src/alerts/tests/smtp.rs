//! Mails through a real socket, into a small server.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::config::{MailTls, MailTransport};
use mailin::{Action, AuthMechanism, Handler, Response, Session, SessionBuilder, response};
use stockloop_tests::on_every_database;
use stockloop_tests::tls::{Authority, TlsAcceptor, TlsFront};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::{TcpListener, TcpStream};

use super::{Fixture, parsed};
use crate::alerts::{MailProgress, RecipientState};

on_every_database!(Fixture::new =>
    a_mail_goes_through_smtp,
    a_password_is_given,
    whoever_is_refused_for_good_keeps_it_from_nobody,
    whoever_is_refused_for_now_gets_it_later,
    a_mail_that_all_refuse_has_failed,
    a_session_that_is_refused_blames_no_recipient,
    no_tls_means_no_mail,
    only_who_is_certified_gets_mails,
    a_mail_goes_on_encrypted,
    a_server_that_says_nothing_is_left,
    a_server_that_is_not_there_is_waited_for,
);

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Received {
    mails: Vec<(String, Vec<String>, Vec<u8>)>,
    users: Vec<(String, String)>,
    /// Recipients that are refused, with the code of the reply.
    refused: Vec<(String, u16)>,
}

#[derive(Clone, Default)]
struct Sink {
    received: Arc<Mutex<Received>>,
    mail: (String, Vec<String>, Vec<u8>),
}

impl Sink {
    fn refusing(address: &str, code: u16) -> Self {
        let sink = Self::default();
        sink.received.lock().unwrap().refused.push((address.to_owned(), code));
        sink
    }

    fn mails(&self) -> Vec<(String, Vec<String>, Vec<u8>)> {
        self.received.lock().unwrap().mails.clone()
    }
}

impl Handler for Sink {
    fn rcpt(&mut self, to: &str) -> Response {
        let received = self.received.lock().unwrap();
        match received.refused.iter().find(|(refused, _)| refused == to) {
            Some((_, code)) => Response::custom(*code, "Not this one".to_owned()),
            None => response::OK,
        }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        self.mail = (from.to_owned(), to.to_vec(), Vec::new());
        response::OK
    }

    fn data(&mut self, buf: &[u8]) -> io::Result<()> {
        self.mail.2.extend_from_slice(buf);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        self.received.lock().unwrap().mails.push(std::mem::take(&mut self.mail));
        response::OK
    }

    fn auth_plain(&mut self, _: &str, user: &str, password: &str) -> Response {
        let user = (user.to_owned(), password.to_owned());
        self.received.lock().unwrap().users.push(user);
        response::AUTH_OK
    }
}

/// Serves until the test's runtime ends; returns the port.
async fn serve(sink: Sink, auth: bool) -> u16 {
    serve_by(sink, auth, None).await
}

/// The same, and the client may go on encrypted, where `tls` says how.
async fn serve_by(sink: Sink, auth: bool, tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, sink.clone(), auth, tls.clone()));
        }
    });
    port
}

async fn converse(
    socket: TcpStream,
    sink: Sink,
    auth: bool,
    tls: Option<TlsAcceptor>,
) -> io::Result<()> {
    let mut builder = SessionBuilder::new("sink");
    if tls.is_some() {
        builder.enable_start_tls();
    }
    if auth {
        builder.enable_auth(AuthMechanism::Plain).insecure_enable_plaintext_auth();
    }
    let mut session = builder.build(IpAddr::V4(Ipv4Addr::LOCALHOST), sink);
    let mut socket = BufReader::new(socket);
    say(&session.greeting(), &mut socket).await?;
    let ended = talk(&mut session, &mut socket).await?;
    if let (Action::UpgradeTls, Some(tls)) = (ended, tls) {
        session.tls_active();
        let mut socket = BufReader::new(tls.accept(socket.into_inner()).await?);
        talk(&mut session, &mut socket).await?;
    }
    Ok(())
}

/// Answers until the end, or until the client goes on encrypted.
async fn talk(
    session: &mut Session<Sink>,
    socket: &mut (impl AsyncBufRead + AsyncWrite + Unpin),
) -> io::Result<Action> {
    let mut line = Vec::new();
    while socket.read_until(b'\n', &mut line).await? > 0 {
        let answer = session.process(&line);
        line.clear();
        say(&answer, socket).await?;
        if matches!(answer.action, Action::Close | Action::UpgradeTls) {
            return Ok(answer.action);
        }
    }
    Ok(Action::Close)
}

async fn say(answer: &Response, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut out = Vec::new();
    answer.write_to(&mut out)?;
    socket.write_all(&out).await?;
    socket.flush().await
}

/// A fixture with one alert that is due, mailing to `port`.
async fn due(mut fixture: Fixture, port: u16) -> Fixture {
    fixture.mail.transport = MailTransport::Smtp;
    fixture.mail.port = port;
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    fixture
}

/// One step; the error kept with the mail, if it did not leave.
async fn step(fixture: &Fixture) -> Option<String> {
    let outcome = fixture.alerts().run_once(&fixture.db, &fixture.env).await.unwrap();
    let mail = fixture.list(Default::default()).await.remove(0).mail.unwrap();
    assert!(outcome.mails.sender.sent == 0 || mail.sent_at.is_some());
    mail.last_error
}

async fn a_mail_goes_through_smtp(fixture: Fixture) {
    let sink = Sink::default();
    let fixture = due(fixture, serve(sink.clone(), false).await).await;
    assert_eq!(step(&fixture).await, None);
    let received = sink.received.lock().unwrap();
    let (from, to, raw) = &received.mails[0];
    assert_eq!(from, "stockloop@shop.test");
    assert_eq!(to, &["ops@shop.test", "night@shop.test"]);
    let mail = parsed(raw);
    assert!(mail.subject().unwrap().ends_with("1 change has not arrived (SKU K0)"));
    assert!(mail.body_text(0).unwrap().contains("stockloop admin retry "));
    assert!(mail.body_html(0).unwrap().contains("<h1"));
}

async fn a_password_is_given(mut fixture: Fixture) {
    let sink = Sink::default();
    fixture.mail.username = "loop".to_owned();
    fixture.mail.password = "secret".to_owned().into();
    let fixture = due(fixture, serve(sink.clone(), true).await).await;
    assert_eq!(step(&fixture).await, None);
    let received = sink.received.lock().unwrap();
    assert_eq!(received.users, [("loop".to_owned(), "secret".to_owned())]);
    assert_eq!(received.mails.len(), 1);
}

async fn whoever_is_refused_for_good_keeps_it_from_nobody(mut fixture: Fixture) {
    let recipients = ["night@shop.test", "gone@shop.test", "boss@shop.test"];
    fixture.alerts.recipients = recipients.map(str::to_owned).to_vec();
    let sink = Sink::refusing("gone@shop.test", 550);
    let fixture = due(fixture, serve(sink.clone(), false).await).await;
    let error = step(&fixture).await.unwrap();
    assert!(error.starts_with("gone@shop.test: ") && error.contains("550"), "{error}");
    fixture.clock.advance(MINUTE * 60);
    step(&fixture).await;

    let received = sink.mails();
    assert_eq!(received.len(), 1, "nobody gets it twice, and who is gone is not asked again");
    assert_eq!(received[0].1, ["night@shop.test", "boss@shop.test"]);
    let to: Vec<_> = addressees(&received[0].2);
    assert_eq!(to, recipients, "the header names all");
    let mail = fixture.mail_of_alert().await;
    assert_eq!((mail.state, mail.due_at), (MailProgress::Partly, None));
    assert!(mail.sent_at.is_some());
    let states: Vec<_> = mail.recipient_states.iter().map(|one| one.state).collect();
    assert_eq!(states, [RecipientState::Sent, RecipientState::Refused, RecipientState::Sent]);
    let gone = &mail.recipient_states[1];
    assert!(gone.refused_at.is_some() && gone.last_error.as_ref().unwrap().contains("550"));
}

async fn whoever_is_refused_for_now_gets_it_later(fixture: Fixture) {
    let sink = Sink::refusing("night@shop.test", 451);
    let fixture = due(fixture, serve(sink.clone(), false).await).await;
    let error = step(&fixture).await.unwrap();
    assert!(error.contains("451"), "{error}");
    let mail = fixture.mail_of_alert().await;
    assert_eq!((mail.state, mail.tries), (MailProgress::Waiting, 1));
    assert_eq!(mail.recipient_states[0].state, RecipientState::Sent);
    assert_eq!(mail.recipient_states[1].tries, 1);
    assert!(mail.due_at.is_some());

    sink.received.lock().unwrap().refused.clear();
    fixture.clock.advance(MINUTE);
    assert_eq!(step(&fixture).await, None);
    let received = sink.mails();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].1, ["ops@shop.test"]);
    assert_eq!(received[1].1, ["night@shop.test"]);
    assert_eq!(received[0].2, received[1].2, "the same mail");
    assert_eq!(fixture.mail_of_alert().await.state, MailProgress::Sent);
}

async fn a_mail_that_all_refuse_has_failed(fixture: Fixture) {
    let sink = Sink::refusing("night@shop.test", 550);
    sink.received.lock().unwrap().refused.push(("ops@shop.test".to_owned(), 554));
    let fixture = due(fixture, serve(sink.clone(), false).await).await;
    let outcome = fixture.alerts().run_once(&fixture.db, &fixture.env).await.unwrap().mails.sender;
    assert_eq!((outcome.sent, outcome.failed, outcome.refused, outcome.waiting), (0, 0, 2, 0));
    let mail = fixture.mail_of_alert().await;
    assert_eq!((mail.state, mail.sent_at, mail.due_at), (MailProgress::Failed, None, None));
    let error = mail.last_error.unwrap();
    assert!(error.contains("ops@shop.test: ") && error.contains("night@shop.test"), "{error}");
    assert!(sink.mails().is_empty());
}

async fn a_session_that_is_refused_blames_no_recipient(fixture: Fixture) {
    let sink = Sink::refusing("night@shop.test", 530);
    sink.received.lock().unwrap().refused.push(("ops@shop.test".to_owned(), 530));
    let fixture = due(fixture, serve(sink.clone(), false).await).await;
    assert!(step(&fixture).await.unwrap().contains("530"));
    sink.received.lock().unwrap().refused.clear();
    fixture.clock.advance(MINUTE);
    assert_eq!(step(&fixture).await, None);
    assert_eq!(sink.mails().len(), 1);
}

/// The addresses in the header `To` of a raw mail.
fn addressees(raw: &[u8]) -> Vec<String> {
    let mail = parsed(raw);
    let to = mail.to().unwrap().iter().filter_map(|one| one.address().map(str::to_owned));
    to.collect()
}

async fn no_tls_means_no_mail(mut fixture: Fixture) {
    let sink = Sink::default();
    fixture.mail.tls = MailTls::Starttls;
    let fixture = due(fixture, serve(sink.clone(), false).await).await;
    let error = step(&fixture).await.unwrap();
    assert!(error.to_lowercase().contains("starttls"), "{error}");
    assert!(sink.received.lock().unwrap().mails.is_empty());
}

/// By the authority that is named, for this name, and now.
async fn only_who_is_certified_gets_mails(mut fixture: Fixture) {
    let [ours, another] = ["ours", "another"].map(|name| Authority::new(name).unwrap());
    let sink = Sink::default();
    let server = serve(sink.clone(), false).await;
    fixture.mail.tls = MailTls::Tls;
    fixture.mail.ca_file = ours.file();
    let mut fixture = due(fixture, server).await;
    for (identity, words) in [
        (another.certify("127.0.0.1"), "UnknownIssuer"),
        (ours.certify("elsewhere.test"), "not valid for name"),
        (ours.certify_once("127.0.0.1"), "certificate expired"),
    ] {
        let front = TlsFront::start(&identity.unwrap(), server).await.unwrap();
        fixture.mail.port = front.port();
        let error = step(&fixture).await.unwrap();
        assert!(error.contains(words), "{error}");
        fixture.clock.advance(MINUTE * 60);
    }
    assert!(sink.mails().is_empty());
    let front = TlsFront::start(&ours.certify("127.0.0.1").unwrap(), server).await.unwrap();
    fixture.mail.port = front.port();
    assert_eq!(step(&fixture).await, None);
    assert_eq!(sink.mails().len(), 1);
}

async fn a_mail_goes_on_encrypted(mut fixture: Fixture) {
    let [ours, another] = ["ours", "another"].map(|name| Authority::new(name).unwrap());
    let sink = Sink::default();
    let tls = ours.certify("127.0.0.1").unwrap().acceptor().unwrap();
    let port = serve_by(sink.clone(), false, Some(tls)).await;
    fixture.mail.tls = MailTls::Starttls;
    fixture.mail.ca_file = another.file();
    let mut fixture = due(fixture, port).await;
    let error = step(&fixture).await.unwrap();
    assert!(error.contains("UnknownIssuer") && sink.mails().is_empty(), "{error}");
    fixture.mail.ca_file = ours.file();
    fixture.clock.advance(MINUTE * 60);
    assert_eq!(step(&fixture).await, None);
    assert_eq!(sink.mails().len(), 1);
}

async fn a_server_that_says_nothing_is_left(mut fixture: Fixture) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    fixture.mail.timeout = Duration::from_millis(100);
    let fixture = due(fixture, port).await;
    let error = step(&fixture).await.unwrap();
    assert!(error.contains("within") || error.contains("timed out"), "{error}");
}

async fn a_server_that_is_not_there_is_waited_for(fixture: Fixture) {
    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let fixture = due(fixture, port).await;
    let error = step(&fixture).await.unwrap();
    assert!(error.to_lowercase().contains("connect"), "{error}");
}
