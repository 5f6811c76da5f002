use std::time::Duration;

use common::event::EventKind;
use lettre::message::Mailbox;

use super::{START, event_id, parsed};
use crate::alerts::groups::Group;
use crate::alerts::mail::MailRow;
use crate::alerts::message;
use crate::alerts::outgoing::{Gathered, News};
use crate::alerts::render::{self, Item, Mail, Place, test_mail};
use crate::alerts::text::one_line;

fn place() -> Place {
    Place {
        service: "product-service".to_owned(),
        public_url: "https://stock.example.org".to_owned(),
    }
}

fn item(n: u32, key: &str, error: &str) -> Item {
    Item {
        seq: i64::from(n),
        kind: "exhausted".to_owned(),
        subject: "has not arrived".to_owned(),
        event_id: Some(event_id(n)),
        event_kind: Some(EventKind::Snapshot),
        event_type: Some("stockloop.inventory.changed".to_owned()),
        key: Some(key.to_owned()),
        version: Some(17),
        attempt: Some(5),
        error: Some(error.to_owned()),
        raised: START,
        committed: Some(START.before(Duration::from_secs(300))),
        closed: None,
        closed_because: None,
    }
}

fn bare(kind: &str, subject: &str) -> Item {
    Item {
        seq: 9,
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        event_id: None,
        event_kind: None,
        event_type: None,
        key: None,
        version: None,
        attempt: None,
        error: None,
        committed: None,
        closed: None,
        closed_because: None,
        raised: START,
    }
}

fn group(kind: &str, cause: Option<&str>, alerts: usize) -> Group {
    let (kind, cause) = (kind.to_owned(), cause.map(str::to_owned));
    Group { kind, cause, alerts, snapshots: alerts, oldest: START }
}

/// A mail that lists all that it tells.
fn mail(place: &Place, news: News, listed: &[Item], further: i64) -> askama::Result<Mail> {
    let listed = listed.to_vec();
    render::mail(place, &Gathered { news, listed, counted: Vec::new(), further })
}

/// A mail that lists one alert and counts others.
fn counting(news: News, counted: Vec<Group>) -> Mail {
    let listed = vec![item(1, "85123A", "the SKU is in quarantine")];
    render::mail(&place(), &Gathered { news, listed, counted, further: 0 }).unwrap()
}

/// Things that a key or an error may hold and a mail must not do.
fn nasty() -> Vec<Item> {
    let mut command = item(2, "order\r\nBcc: thief@example.org", "");
    command.event_type = Some("stockloop.order.placed".to_owned());
    command.event_kind = Some(EventKind::Command);
    vec![
        item(
            1,
            "<script>alert('sku')</script>",
            "line one\r\n.\r\n   retry      curl evil.example\u{1b}[31m \u{202e}gnihton\u{2028}</td><img src=x onerror=\"x()\">",
        ),
        command,
        item(3, "Größe \u{1f4e6} ☃", &"long ".repeat(500)),
    ]
}

fn show(mail: &Mail) -> String {
    format!("{}\n\n{}", mail.subject, mail.text)
}

#[test]
fn a_digest_of_one() {
    let mail =
        mail(&place(), News::Raised, &[item(1, "85123A", "the SKU is in quarantine")], 0).unwrap();
    insta::assert_snapshot!("one_text", show(&mail));
    insta::assert_snapshot!("one_html", mail.html);
}

#[test]
fn a_digest_of_three_with_nasty_content() {
    let mail = mail(&place(), News::Raised, &nasty(), 12).unwrap();
    insta::assert_snapshot!("three_text", show(&mail));
    insta::assert_snapshot!("three_html", mail.html);
    for harmful in ["<script", "<img", "\u{1b}", "\u{202e}", "\r"] {
        assert!(!mail.html.contains(harmful), "{harmful:?}");
    }
    assert_eq!(mail.text.lines().filter(|line| line.trim_start().starts_with("retry")).count(), 3);
}

#[test]
fn a_digest_that_counts() {
    let mail = counting(
        News::Raised,
        vec![
            group("exhausted", Some("<b>'…'</b> is in quarantine & gone"), 9_000),
            group("version_above_source", None, 12),
        ],
    );
    insta::assert_snapshot!("counted_text", show(&mail));
    assert!(!mail.html.contains("<b>"), "{}", mail.html);
    for part in [
        "&#60;b&#62;&#39;…&#39;&#60;/b&#62; is in quarantine &#38; gone",
        "resolved=false&#38;error_class=%3Cb%3E%27%E2%80%A6%27%3C%2Fb%3E%20is",
        "<p style=\"margin-top: 1.5em\">9012 more alerts are told by this mail, by kind and cause:</p>",
    ] {
        assert!(mail.html.contains(part), "{part}: {}", mail.html);
    }
}

#[test]
fn a_digest_that_counts_what_is_over() {
    let mail = counting(News::Over, vec![group("exhausted", Some("processed"), 3)]);
    assert!(mail.subject.ends_with("4 alerts are over (SKU 85123A, …)"), "{}", mail.subject);
    let counted = "-  3 alerts of the kind exhausted: over\n\
                   \x20  because    processed\n\
                   \x20  closed     2010-12-01 08:26:00 UTC at first\n\
                   \x20  now        they are over; nothing is left to be done about them\n\
                   \x20  link       https://stock.example.org/admin/alerts?state=closed&kind=exhausted\n";
    assert!(mail.text.contains(counted), "{}", mail.text);
}

#[test]
fn what_counts_as_a_change_is_one() {
    let mut command = group("exhausted", Some("no shelf"), 1);
    command.snapshots = 0;
    let mail = counting(News::Raised, vec![group("silent", None, 2), command]);
    assert!(mail.subject.ends_with("2 events have not arrived (SKU 85123A, …); 2 silences"));
    let counted = "\n-  1 event has not arrived\n\
                   \x20  why        no shelf\n\
                   \x20  raised     2010-12-01 08:26:00 UTC\n";
    assert!(mail.text.contains(counted), "{}", mail.text);
}

#[test]
fn a_mail_names_so_many_causes_and_no_more() {
    let causes = |number: usize| -> Vec<Group> {
        (0..number).map(|n| group("exhausted", Some(&format!("{n:->120}")), 2)).collect()
    };
    let mail = counting(News::Raised, causes(50));
    assert_eq!(mail.text.matches("\n-  2 changes have not arrived\n").count(), 50);
    assert!(!mail.text.contains("\n… and "), "{}", mail.text);
    let text = counting(News::Raised, causes(51)).text;
    assert!(text.contains("\n\n… and 2 more, of another cause.\n\nAll alerts: "), "{text}");
    let mail = counting(News::Raised, causes(10_000));
    assert_eq!(mail.text.matches("\n-  2 changes have not arrived\n").count(), 50);
    assert!(mail.text.contains("\n… and 19900 more, of 9950 other causes.\n"));
    assert!(mail.text.contains("20000 more alerts are told by this mail"));
    assert!(mail.subject.contains("20001 changes have not arrived (SKU 85123A, …)"));
    assert!(mail.text.len() < 50_000 && mail.html.len() < 100_000, "{}", mail.html.len());
}

#[test]
fn other_kinds() {
    let silence = bare(
        "silent",
        "order-service has not answered since 2010-12-01 08:26:00 UTC (topic t, partitions 0, 3; 12 events wait)",
    );
    let mut above = item(1, "85123A", "");
    above.kind = "version_above_source".to_owned();
    above.subject = "the copy has version 19, its source only 17".to_owned();
    (above.error, above.attempt) = (None, None);
    let unknown = bare("moonphase", "the moon is full");
    let alone = mail(&place(), News::Raised, std::slice::from_ref(&silence), 0).unwrap();
    insta::assert_snapshot!("silent_text", show(&alone));
    let all = mail(&place(), News::Raised, &[silence, above, unknown], 1_001).unwrap();
    insta::assert_snapshot!("kinds_text", show(&all));
}

#[test]
fn a_view_that_is_not_answered() {
    let subject =
        "order-service can't answer the messages of the topic purchases on the topic acks";
    let mail = mail(&place(), News::Raised, &[bare("not_answered", subject)], 0).unwrap();
    assert_eq!(mail.subject, format!("[stockloop] product-service: {subject}"));
    assert!(mail.text.contains("takes no more of the view while answers wait"), "{}", mail.text);
}

#[test]
fn what_is_over() {
    let mut silence = bare("silent", "order-service has not answered since noon");
    silence.closed = Some(START);
    silence.closed_because = Some("answers come again".to_owned());
    let alone = mail(&place(), News::Over, std::slice::from_ref(&silence), 0).unwrap();
    assert_eq!(
        alone.subject,
        "[stockloop] product-service: 1 alert is over (order-service has not answered since noon)"
    );
    assert!(alone.text.contains("   because    answers come again\n"), "{}", alone.text);
    let two = mail(&place(), News::Over, &[silence.clone(), silence], 2).unwrap();
    assert!(two.subject.ends_with("2 alerts are over"), "{}", two.subject);
    assert!(two.text.contains("2 more alerts are over and come in the next mail."));
    let nasty = mail(&place(), News::Over, &nasty(), 0).unwrap();
    assert!(!nasty.html.contains("<script") && !nasty.subject.contains('\r'), "{}", nasty.subject);
}

#[test]
fn a_subject_names_a_few_keys_once() {
    let subject = |keys: &[&str]| {
        let items: Vec<_> = keys.iter().map(|key| item(1, key, "")).collect();
        let mail = mail(&place(), News::Raised, &items, 0).unwrap();
        mail.subject.split_once('(').unwrap().1.to_owned()
    };
    assert_eq!(subject(&["A", "A", "B"]), "SKU A, B)");
    assert_eq!(subject(&["A", "B", "C"]), "SKU A, B, C)");
    assert_eq!(subject(&["A", "B", "A", "C", "D", "E"]), "SKU A, B, C, …)");
    assert_eq!(subject(&[&"x".repeat(100)]), format!("SKU {}…)", "x".repeat(39)));
    assert_eq!(subject(&["TEA", "TEA\u{200b}"]), r"SKU TEA, TEA\u{200b})");
}

#[test]
fn a_script_stays_text_wherever_it_is() {
    let script = "<script>alert(1)</script>";
    let mut everywhere = item(1, script, script);
    everywhere.event_type = Some(script.to_owned());
    let mut other = bare("moonphase", script);
    other.key = Some(script.to_owned());
    let place = Place { service: script.to_owned(), ..place() };
    let html = mail(&place, News::Raised, &[everywhere, other], 0).unwrap().html;
    assert!(!html.contains("<script"), "{html}");
    assert_eq!(html.matches("&#60;script&#62;").count(), html.matches("&#60;/script&#62;").count());
    assert!(html.matches("&#60;script&#62;").count() >= 5);
    assert!(!test_mail(&place, script).unwrap().html.contains("<script"));
}

#[test]
fn a_test_mail_says_what_it_is() {
    let mail = test_mail(&place(), "anna\r\nBcc: thief@example.org").unwrap();
    insta::assert_snapshot!("test_text", show(&mail));
    insta::assert_snapshot!("test_html", mail.html);
}

#[test]
fn one_line_is_one_line() {
    assert_eq!(one_line(" a\r\n\tb\0c ", 10), "a b c");
    assert_eq!(one_line("abcdef", 6), "abcdef");
    assert_eq!(one_line("abcdefg", 6), "abcde…");
    assert_eq!(one_line("☃☃☃", 2), "☃…");
    assert_eq!(one_line("", 0), "");
}

#[test]
fn no_header_can_be_forged() {
    let content = mail(&place(), News::Raised, &nasty(), 0).unwrap();
    let row = MailRow {
        message_id: "<0190a000-0000-7000-8000-000000000001@shop.test>".to_owned(),
        recipients: r#"["ops@shop.test"]"#.to_owned(),
        // As if somebody had written it straight into the table.
        subject: format!("{}\r\nBcc: thief@example.org\r\n\r\nbody", content.subject),
        text: content.text,
        html: content.html,
        created_us: START,
    };
    let from: Mailbox = "Stockloop <stockloop@shop.test>".parse().unwrap();
    let message = message::build(&from, &row).unwrap();
    let raw = message.formatted();
    assert_eq!(raw, message::build(&from, &row).unwrap().formatted(), "the same bytes each time");
    assert_eq!(message.envelope().to().len(), 1);
    let read = parsed(&raw);
    let names: Vec<_> = read.headers_raw().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "From",
            "Subject",
            "Message-ID",
            "Date",
            "Auto-Submitted",
            "To",
            "MIME-Version",
            "Content-Type"
        ]
    );
    assert!(read.subject().unwrap().contains("<script>alert('sku')</script>"));
    assert!(read.body_html(0).unwrap().contains("&#60;script&#62;"));
    assert!(read.body_text(0).unwrap().contains("Größe \u{1f4e6} ☃"));
}
