use std::collections::BTreeSet;
use std::time::Duration;

use common::config::MailTransport;
use common::on;
use common::schema::mail_recipient;
use diesel::RunQueryDsl;
use stockloop_tests::on_every_database;

use super::{Fixture, parsed};
use crate::alerts::{AlertFilter, MailProgress, RecipientState};

on_every_database!(Fixture::new =>
    an_hour_without_a_mail_server_loses_nothing,
    a_mail_whose_sending_was_not_noted_is_the_same_mail_again,
    who_has_a_mail_gets_it_again_only_if_that_was_not_noted,
    a_clock_that_ran_ahead_keeps_no_mail_waiting,
    a_mail_of_the_last_release_is_sent_to_all,
    the_others_do_not_wait_for_a_mail_that_one_refuses,
    two_at_once_send_each_mail_once,
    files_are_written,
    off_lets_mails_wait,
);

const MINUTE: Duration = Duration::from_secs(60);

async fn an_hour_without_a_mail_server_loses_nothing(fixture: Fixture) {
    let alerts = fixture.alerts();
    let mails = alerts.memory().unwrap();
    mails.fail_next(usize::MAX);
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    let mut tries = 0;
    for minute in 0..60 {
        let outcome = alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
        tries += outcome.mails.sender.failed;
        assert!(outcome.mails.sender.waiting >= 1);
        if minute == 30 {
            fixture.exhaust_many(1, 3).await;
        }
        fixture.clock.advance(MINUTE);
    }
    assert!((8..40).contains(&tries), "{tries} tries: a growing pause with a cap");
    let waiting = fixture.list(AlertFilter::default()).await;
    let first = waiting[2].mail.clone().unwrap();
    assert!(first.last_error.unwrap().contains("down"));
    assert_eq!(waiting[0].mail, waiting[1].mail, "later alerts share the next mail");
    assert!(waiting[0].mail.as_ref().unwrap().tries > 0);

    mails.fail_next(0);
    fixture.clock.advance(MINUTE * 10);
    let outcome = alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.mails.sender.sent, outcome.mails.sender.waiting), (2, 0));
    let raw = mails.all();
    let mut subjects: Vec<_> =
        raw.iter().map(|raw| parsed(raw).subject().unwrap().to_owned()).collect();
    subjects.sort();
    assert_eq!(
        subjects,
        [
            "[stockloop] product-service: 1 change has not arrived (SKU K0)",
            "[stockloop] product-service: 2 changes have not arrived (SKU K1, K2)",
        ]
    );
    let ids: BTreeSet<_> =
        raw.iter().map(|raw| parsed(raw).message_id().unwrap().to_owned()).collect();
    assert!(ids.contains(first.message_id.trim_matches(['<', '>'])), "fixed before the first try");
}

async fn a_mail_whose_sending_was_not_noted_is_the_same_mail_again(fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    let (_, mail) = alerts.mails.sender.claim(&fixture.db, &fixture.env).await.unwrap().unwrap();
    alerts.mails.sender.send(&mail, &fixture.env).await.unwrap();
    // Here the instance dies. While its claim lasts, nobody else sends.
    let outcome = alerts.mails.sender.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.sent, outcome.waiting), (0, 1));
    fixture.clock.advance(MINUTE * 2);
    let outcome = alerts.mails.sender.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.sent, outcome.waiting), (1, 0));
    let raw = alerts.memory().unwrap().all();
    assert_eq!(raw.len(), 2);
    assert_eq!(raw[0], raw[1], "the same Message-ID and the same bytes");
}

async fn who_has_a_mail_gets_it_again_only_if_that_was_not_noted(fixture: Fixture) {
    let alerts = fixture.alerts();
    let mails = alerts.memory().unwrap();
    mails.refuse("night@shop.test", 451);
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(fixture.mail_of_alert().await.state, MailProgress::Waiting);
    mails.refuse_nobody();
    fixture.clock.advance(MINUTE);
    let (_, mail) = alerts.mails.sender.claim(&fixture.db, &fixture.env).await.unwrap().unwrap();
    let verdicts = alerts.mails.sender.send(&mail, &fixture.env).await.unwrap();
    let tried: Vec<_> = verdicts.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(tried, ["Night Shift <night@shop.test>"], "the other one has it");
    // Here the instance dies.
    fixture.clock.advance(MINUTE * 2);
    assert_eq!(alerts.run_once(&fixture.db, &fixture.env).await.unwrap().mails.sender.sent, 1);
    let raw = mails.all();
    assert_eq!(raw.len(), 3);
    assert!(raw.iter().all(|one| *one == raw[0]));
}

async fn a_clock_that_ran_ahead_keeps_no_mail_waiting(fixture: Fixture) {
    let alerts = fixture.alerts();
    let (mails, sender) = (alerts.memory().unwrap(), &alerts.mails.sender);
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    let day = MINUTE * 60 * 24;
    fixture.clock.advance(day);
    mails.fail_next(1);
    let outcome = sender.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.sent, outcome.failed), (0, 1));
    let outcome = sender.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.sent, outcome.waiting), (0, 1), "its pause is not over");
    fixture.clock.set_back(day);
    let outcome = sender.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.sent, outcome.waiting), (1, 0));
}

async fn a_mail_of_the_last_release_is_sent_to_all(fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    fixture.write(|conn| on!(conn, c => diesel::delete(mail_recipient::table).execute(c))).await;
    let waiting = fixture.mail_of_alert().await;
    assert_eq!(waiting.recipient_states.len(), 2);
    assert_eq!(waiting.recipient_states[0].state, RecipientState::Waiting);
    alerts.memory().unwrap().refuse("night@shop.test", 550);
    alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    let sent = fixture.mail_of_alert().await;
    assert_eq!(sent.state, MailProgress::Partly);
    // One that the last release has sent, too.
    fixture.write(|conn| on!(conn, c => diesel::delete(mail_recipient::table).execute(c))).await;
    assert_eq!(fixture.mail_of_alert().await.state, MailProgress::Sent);
}

async fn the_others_do_not_wait_for_a_mail_that_one_refuses(fixture: Fixture) {
    let mut alerts = fixture.alerts();
    alerts.mails.digest.most = 1;
    alerts.memory().unwrap().refuse("night@shop.test", 450);
    fixture.exhaust_many(0, 3).await;
    fixture.clock.advance(MINUTE);
    let outcome = alerts.run_once(&fixture.db, &fixture.env).await.unwrap().mails.sender;
    assert_eq!((outcome.sent, outcome.failed, outcome.waiting), (0, 3, 3));
    assert_eq!(alerts.memory().unwrap().all().len(), 3);
}

async fn two_at_once_send_each_mail_once(fixture: Fixture) {
    let mut alerts = fixture.alerts();
    alerts.mails.digest.most = 1;
    fixture.exhaust_many(0, 40).await;
    fixture.clock.advance(MINUTE);
    alerts.mails.digest.run_once(&fixture.db, &fixture.env).await.unwrap();
    let mailers: Vec<_> = (0..4)
        .map(|_| {
            let (alerts, db, env) = (alerts.clone(), fixture.db.clone(), fixture.env.clone());
            tokio::spawn(async move { alerts.mails.sender.run_once(&db, &env).await.unwrap().sent })
        })
        .collect();
    let mut sent = 0;
    for mailer in mailers {
        sent += mailer.await.unwrap();
    }
    assert_eq!(sent, 40);
    let raw = alerts.memory().unwrap().all();
    let ids: BTreeSet<_> =
        raw.iter().map(|raw| parsed(raw).message_id().unwrap().to_owned()).collect();
    assert_eq!((raw.len(), ids.len()), (40, 40));
}

async fn files_are_written(mut fixture: Fixture) {
    let dir = tempfile::tempdir().unwrap();
    let mails = dir.path().join("out/mails");
    fixture.mail.transport = MailTransport::File;
    fixture.mail.directory = mails.display().to_string();
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    let outcome = fixture.alerts().run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome.mails.sender.sent, 1);
    let file = std::fs::read_dir(mails).unwrap().next().unwrap().unwrap().path();
    assert_eq!(file.extension().unwrap(), "eml");
    assert!(parsed(&std::fs::read(file).unwrap()).subject().unwrap().contains("SKU K0"));
}

async fn off_lets_mails_wait(mut fixture: Fixture) {
    fixture.mail.transport = MailTransport::Off;
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    let outcome = fixture.alerts().run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(
        (outcome.mails.sender.sent, outcome.mails.sender.failed, outcome.mails.sender.waiting),
        (0, 0, 1)
    );
    assert_eq!(fixture.list(AlertFilter::default()).await[0].mail.as_ref().unwrap().tries, 0);
}
