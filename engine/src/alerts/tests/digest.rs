use std::collections::BTreeMap;
use std::time::Duration;

use common::on;
use common::schema::{alert, outbox_history};
use diesel::prelude::*;
use stockloop_tests::on_every_database;

use super::{Fixture, START, event, event_id, parsed};
use crate::alerts::{AlertFilter, DigestOutcome, NewAlert, close, raise};
use crate::outbox::{HistoryKind, HistoryRow, NO_ANSWER};

on_every_database!(Fixture::new =>
    one_alert_gets_one_mail,
    waits_for_others,
    a_clock_that_ran_ahead_keeps_no_alert_waiting,
    what_was_closed_is_not_mailed,
    what_is_not_listed_is_counted,
    causes_are_counted_apart,
    what_hinders_many_is_listed_first,
    ten_thousand_alerts_are_one_mail,
    what_does_not_fit_follows_in_the_next_mail,
    nobody_to_mail_to,
    two_at_once_put_no_alert_into_two_mails,
);

const MINUTE: Duration = Duration::from_secs(60);

impl Fixture {
    /// Notes what went wrong at an attempt of event number `n`.
    async fn note_class(&self, n: u32, attempt: i32, class: &str) {
        let line = HistoryRow {
            event_id: event_id(n),
            at_us: START,
            attempt,
            sent_us: None,
            what: HistoryKind::Overdue,
            error: None,
            by_whom: None,
            class: Some(class.to_owned()),
            consumer: None,
        };
        self.write(move |conn| {
            on!(conn, c => diesel::insert_into(outbox_history::table).values(&line).execute(c))
        })
        .await;
    }
}

fn wrote(mails: usize, alerts: usize) -> DigestOutcome {
    DigestOutcome { messages: mails, alerts, next_in: None }
}

async fn one_alert_gets_one_mail(fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.exhaust(&event(1, "85123A", 17)).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome.mails.digest, wrote(1, 1));
    assert_eq!((outcome.mails.sender.sent, outcome.mails.sender.waiting), (1, 0));
    fixture.clock.advance(MINUTE * 60);
    let outcome = alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.mails.digest, outcome.mails.sender.sent), (wrote(0, 0), 0));

    let raw = alerts.memory().unwrap().all();
    assert_eq!(raw.len(), 1);
    let mail = parsed(&raw[0]);
    assert_eq!(
        mail.subject(),
        Some("[stockloop] product-service: 1 change has not arrived (SKU 85123A)")
    );
    let to: Vec<_> = mail.to().unwrap().iter().filter_map(|a| a.address()).collect();
    assert_eq!(to, ["ops@shop.test", "night@shop.test"]);
    assert_eq!(mail.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
    assert_eq!(mail.date().unwrap().to_rfc3339(), "2010-12-01T08:27:00Z");
    assert!(mail.message_id().unwrap().ends_with("@shop.test"));
    assert!(
        mail.body_text(0).unwrap().contains("2010-12-01 08:21:00 UTC"),
        "when it was committed"
    );

    let listed = fixture.list(AlertFilter::default()).await.remove(0).mail.unwrap();
    assert_eq!(listed.sent_at, Some(START.after(MINUTE)));
    assert_eq!(listed.message_id, format!("<{}>", mail.message_id().unwrap()));
}

async fn waits_for_others(fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 2).await;
    fixture.clock.advance(Duration::from_secs(59));
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome.messages, 0);
    assert_eq!(outcome.next_in, Some(Duration::from_secs(1)));
    fixture.exhaust_many(2, 3).await;
    fixture.clock.advance(Duration::from_secs(1));
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 3));
}

async fn a_clock_that_ran_ahead_keeps_no_alert_waiting(fixture: Fixture) {
    let alerts = fixture.alerts();
    let digest = &alerts.mails.digest;
    fixture.exhaust_many(0, 1).await;
    let outcome = digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.messages, outcome.next_in), (0, Some(MINUTE)), "others may come");
    // Clocks of instances may differ by as much.
    let little = MINUTE / 2;
    fixture.clock.set_back(little);
    let outcome = digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.messages, outcome.next_in), (0, Some(MINUTE + little)));
    fixture.clock.set_back(MINUTE * 60 * 24);
    fixture.exhaust_many(1, 2).await;
    let outcome = digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 2));
}

async fn what_was_closed_is_not_mailed(fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 2).await;
    fixture.write(|conn| close(conn, START, &[event_id(0)], "processed")).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 1));
    let texts = fixture.texts().await;
    assert!(!texts[0].contains(&event_id(0).to_string()));
    assert!(texts[0].contains(&event_id(1).to_string()));
    fixture.exhaust_many(2, 3).await;
    fixture.write(|conn| close(conn, START, &[event_id(2)], "processed")).await;
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(0, 0));
}

async fn what_is_not_listed_is_counted(mut fixture: Fixture) {
    fixture.alerts.digest_size = 2;
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 5).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 5));
    assert_eq!(fixture.assert_mails_tell_what_is_in_them().await, 5);
    let text = fixture.texts().await.remove(0);
    for part in [
        "5 changes have not arrived (SKU K0, K1, …)",
        "3 more alerts are told by this mail, by kind and cause:",
        "-  3 changes have not arrived\n   why        the SKU is in quarantine\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("in the next mail"), "{text}");
    let told = fixture.list(AlertFilter { mail: Some(1), ..AlertFilter::default() }).await;
    assert_eq!(told.len(), 5);
}

async fn causes_are_counted_apart(mut fixture: Fixture) {
    fixture.alerts.digest_size = 1;
    let alerts = fixture.alerts();
    fixture.give_up(0..1, |_| "listed".to_owned()).await;
    fixture.give_up(1..3, |_| "no shelf".to_owned()).await;
    fixture.give_up(3..6, |n| format!("shelf {n} is full")).await;
    // What was noted last is the cause, whatever the words are: lists of events are filtered by it.
    fixture.give_up(6..10, |n| format!("nothing came of {n}")).await;
    for n in 6..10 {
        fixture.note_class(n, 1, "of an answer before").await;
        fixture.note_class(n, 1, NO_ANSWER).await;
    }
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 10));
    assert_eq!(fixture.assert_mails_tell_what_is_in_them().await, 10);
    let text = fixture.texts().await.remove(0);
    let groups: Vec<&str> = text.split("\n-  ").skip(1).collect();
    let expected = [(4, "no answer in time"), (3, "shelf # is full"), (2, "no shelf")];
    assert_eq!(groups.len(), expected.len(), "{text}");
    for (group, (number, class)) in groups.iter().zip(expected) {
        let start = format!("{number} changes have not arrived\n   why        {class}\n");
        assert!(group.starts_with(&start), "the largest first: {group}");
        assert!(group.contains("   raised     2010-12-01 08:26:00 UTC at first\n"), "{group}");
        let class = class.replace(' ', "%20").replace('#', "%23");
        let link = format!("events?status=EXHAUSTED&resolved=false&error_class={class}\n");
        assert!(group.contains(&link), "{link}: {group}");
    }
}

async fn what_hinders_many_is_listed_first(mut fixture: Fixture) {
    fixture.alerts.digest_size = 2;
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 3).await;
    let hindered = NewAlert::not_sent("product-service", "a.topic", "the broker is away");
    assert!(fixture.write(|conn| raise(conn, START, hindered)).await);
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 4));
    let text = fixture.texts().await.remove(0);
    for part in [
        "3 changes have not arrived (SKU K0, …); product-service can't send its events to the topic",
        "\n1. product-service can't send its events to the topic a.topic\n",
        "\n2. stockloop.inventory.changed, SKU K0, version 1\n",
        "\n-  2 changes have not arrived\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

async fn ten_thousand_alerts_are_one_mail(fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.give_up(0..10_000, |_| "the shelf is full".to_owned()).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 10_000));
    assert_eq!(fixture.assert_mails_tell_what_is_in_them().await, 10_000);
    let text = fixture.texts().await.remove(0);
    assert!(text.contains("10000 changes have not arrived (SKU K0, K1, K2, …)"));
    assert!(text.contains("\n50. ") && text.contains("\n-  9950 changes have not arrived\n"));
}

async fn what_does_not_fit_follows_in_the_next_mail(mut fixture: Fixture) {
    fixture.alerts.digest_size = 1;
    let mut alerts = fixture.alerts();
    alerts.mails.digest.most = 2;
    fixture.exhaust_many(0, 5).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(3, 5));
    assert_eq!(fixture.assert_mails_tell_what_is_in_them().await, 5);
    let texts = fixture.texts().await;
    assert!(texts[0].contains("3 more alerts are open and come in the next mail."));
    assert!(texts[1].contains("1 more alert is open and comes in the next mail."));
    assert!(!texts[2].contains("more alert"));
    assert!(texts[0].contains("2 changes have not arrived (SKU K0, …)"), "the oldest first");
}

async fn nobody_to_mail_to(mut fixture: Fixture) {
    fixture.alerts.recipients.clear();
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    let outcome = fixture.alerts().run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome.mails.digest, wrote(0, 0));
    // Told once there is somebody.
    fixture.alerts.recipients = vec!["late@shop.test".to_owned()];
    let outcome = fixture.alerts().run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome.mails.digest, wrote(1, 1));
}

async fn two_at_once_put_no_alert_into_two_mails(mut fixture: Fixture) {
    fixture.alerts.digest_size = 3;
    fixture.exhaust_many(0, 100).await;
    fixture.clock.advance(MINUTE);
    let digesters: Vec<_> = (0..4)
        .map(|_| {
            let (mut alerts, db, env) = (fixture.alerts(), fixture.db.clone(), fixture.env.clone());
            alerts.mails.digest.most = 7;
            tokio::spawn(
                async move { alerts.mails.digest.run_once(&db, &env).await.unwrap().alerts },
            )
        })
        .collect();
    let mut taken = 0;
    for digester in digesters {
        taken += digester.await.unwrap();
    }
    assert_eq!(taken, 100);
    assert_eq!(fixture.assert_mails_tell_what_is_in_them().await, 100);
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    for text in fixture.texts().await {
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("event ")) {
            *listed.entry(line.trim().to_owned()).or_default() += 1;
        }
    }
    assert!(listed.len() >= 43, "at least three of seven: {listed:?}");
    assert!(listed.values().all(|times| *times == 1));
    let unmailed = fixture.write(|conn| {
        on!(conn, c => alert::table
        .filter(alert::mail_seq.is_null())
        .count()
        .get_result::<i64>(c))
    });
    assert_eq!(unmailed.await, 0);
}
