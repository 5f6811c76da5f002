use lettre::{Message, SmtpTransport, Transport};
use std::time::{Duration, Instant};
use stockloop_tests::smtp::{Manner, SmtpSink};

/// Long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

fn transport(sink: &SmtpSink) -> SmtpTransport {
    patient(sink, DEADLINE)
}

/// One that waits so long for each answer.
fn patient(sink: &SmtpSink, patience: Duration) -> SmtpTransport {
    SmtpTransport::builder_dangerous(sink.host()).port(sink.port()).timeout(Some(patience)).build()
}

fn mail(subject: &str) -> Message {
    Message::builder()
        .from("Stockloop <stockloop@example.test>".parse().unwrap())
        .to("operator@example.test".parse().unwrap())
        .subject(subject)
        .body(".starts with a dot\r\nends".to_owned())
        .unwrap()
}

#[test]
fn a_mail_arrives_as_it_was_sent() {
    let sink = SmtpSink::start().unwrap();
    transport(&sink).send(&mail("Two events")).unwrap();
    let mails = sink.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].from, "stockloop@example.test");
    assert_eq!(mails[0].to, ["operator@example.test"]);
    let text = mails[0].text();
    assert!(text.contains("Subject: Two events\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n.starts with a dot\r\nends\r\n"), "{text:?}");
}

#[test]
fn a_server_that_went_away_comes_back_on_the_same_port() {
    let sink = SmtpSink::start().unwrap();
    let transport = transport(&sink);
    transport.send(&mail("before")).unwrap();
    sink.be(Manner::Refuse).unwrap();
    assert!(transport.send(&mail("during")).is_err());
    assert!(std::net::TcpStream::connect((sink.host(), sink.port())).is_err());
    sink.be(Manner::Accept).unwrap();
    transport.send(&mail("after")).unwrap();
    assert_eq!(sink.mails().len(), 2);
}

#[test]
fn refusals_are_told_apart() {
    let sink = SmtpSink::start().unwrap();
    let transport = transport(&sink);
    sink.be(Manner::TryLater).unwrap();
    assert!(transport.send(&mail("later")).unwrap_err().is_transient());
    sink.be(Manner::Reject).unwrap();
    assert!(transport.send(&mail("never")).unwrap_err().is_permanent());
    sink.be(Manner::Accept).unwrap();
    transport.send(&mail("now")).unwrap();
    assert_eq!((sink.mails().len(), sink.tries()), (1, 3));
}

#[test]
fn one_recipient_is_refused() {
    let sink = SmtpSink::start().unwrap();
    sink.refuse_recipient("operator@example.test", 550);
    assert!(transport(&sink).send(&mail("gone")).unwrap_err().is_permanent());
    sink.refuse_recipient("operator@example.test", 451);
    assert!(transport(&sink).send(&mail("not now")).unwrap_err().is_transient());
    sink.refuse_no_recipient();
    transport(&sink).send(&mail("now")).unwrap();
    assert_eq!(sink.mails().len(), 1);
}

#[test]
fn a_lost_answer_leaves_the_mail_there() {
    let sink = SmtpSink::start().unwrap();
    sink.be(Manner::LoseAnswer).unwrap();
    assert!(transport(&sink).send(&mail("arrived?")).is_err());
    assert_eq!(sink.mails().len(), 1);
}

#[test]
fn a_held_mail_is_there_and_its_sender_waits_in_vain() {
    let sink = SmtpSink::start().unwrap();
    sink.be(Manner::Hold).unwrap();
    assert!(patient(&sink, Duration::from_secs(1)).send(&mail("taken?")).is_err());
    assert_eq!(sink.mails().len(), 1);
    sink.be(Manner::Accept).unwrap();
    transport(&sink).send(&mail("taken")).unwrap();
    assert_eq!(sink.mails().len(), 2);
}

#[test]
fn a_silent_server_is_given_up() {
    let sink = SmtpSink::start().unwrap();
    sink.be(Manner::Silent).unwrap();
    let (begun, patience) = (Instant::now(), Duration::from_secs(1));
    assert!(patient(&sink, patience).send(&mail("hello?")).is_err());
    assert!(begun.elapsed() >= patience, "it was not silence that ended it");
    assert!(sink.mails().is_empty());
}
