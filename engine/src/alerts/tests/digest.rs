use std::collections::BTreeMap;
use std::time::Duration;

use common::on;
use common::schema::{alert, mail};
use diesel::prelude::*;
use stockloop_tests::on_every_database;

use super::{Fixture, START, event, event_id, parsed};
use crate::alerts::{AlertFilter, DigestOutcome, close};

on_every_database!(Fixture::new =>
    one_alert_gets_one_mail,
    waits_for_others,
    what_was_closed_is_not_mailed,
    what_does_not_fit_follows_in_the_next_mail,
    nobody_to_mail_to,
    two_at_once_put_no_alert_into_two_mails,
);

const MINUTE: Duration = Duration::from_secs(60);

fn wrote(mails: usize, alerts: usize) -> DigestOutcome {
    DigestOutcome { messages: mails, alerts, next_in: None }
}

async fn texts(fixture: &Fixture) -> Vec<String> {
    fixture
        .write(|conn| on!(conn, c => mail::table.order(mail::seq).select(mail::text).load(c)))
        .await
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

async fn what_was_closed_is_not_mailed(fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 2).await;
    fixture.write(|conn| close(conn, START, &[event_id(0)], "processed")).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(1, 1));
    let texts = texts(&fixture).await;
    assert!(!texts[0].contains(&event_id(0).to_string()));
    assert!(texts[0].contains(&event_id(1).to_string()));
    fixture.exhaust_many(2, 3).await;
    fixture.write(|conn| close(conn, START, &[event_id(2)], "processed")).await;
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(0, 0));
}

async fn what_does_not_fit_follows_in_the_next_mail(mut fixture: Fixture) {
    fixture.alerts.digest_size = 2;
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 5).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome, wrote(3, 5));
    let texts = texts(&fixture).await;
    assert!(texts[0].contains("3 more alerts are open and come in the next mail."));
    assert!(texts[1].contains("1 more alert is open and comes in the next mail."));
    assert!(!texts[2].contains("more alert"));
    assert!(texts[0].contains("SKU K0, K1)"), "the oldest first");
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
            let (alerts, db, env) = (fixture.alerts(), fixture.db.clone(), fixture.env.clone());
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
    let mut mailed: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts(&fixture).await {
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("event ")) {
            *mailed.entry(line.trim().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(mailed.len(), 100);
    assert!(mailed.values().all(|times| *times == 1));
    let unmailed = fixture.write(|conn| {
        on!(conn, c => alert::table
        .filter(alert::mail_seq.is_null())
        .count()
        .get_result::<i64>(c))
    });
    assert_eq!(unmailed.await, 0);
}
