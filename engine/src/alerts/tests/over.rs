//! Messages that tell that an alert is over.

use std::time::Duration;

use stockloop_tests::on_every_database;

use super::{Fixture, START, event_id, parsed};
use crate::alerts::{AlertFilter, Alerts, close};

on_every_database!(Fixture::new =>
    what_was_told_is_told_as_over_once,
    what_is_over_is_gathered,
    what_does_not_fit_is_over_in_the_next_mail,
    what_nobody_was_told_of_is_not_told_as_over,
    it_follows_the_mail_that_told_of_it,
    switching_it_on_tells_no_old_news,
    from_when_on_it_is_told_is_noted_anew_when_a_clock_ran_ahead,
    off_tells_nothing,
    a_silence_keeps_it_back,
);

const MINUTE: Duration = Duration::from_secs(60);

impl Fixture {
    fn telling(mut self) -> Self {
        self.alerts.tell_when_over = true;
        self
    }

    async fn close(&self, n: u32) {
        let now = self.env.now();
        self.write(move |conn| close(conn, now, &[event_id(n)], "processed")).await;
    }

    /// A step after a minute; how many messages it wrote.
    async fn minute_passes(&self, alerts: &Alerts) -> usize {
        self.clock.advance(MINUTE);
        alerts.run_once(&self.db, &self.env).await.unwrap().mails.digest.messages
    }
}

fn subjects(alerts: &Alerts) -> Vec<String> {
    let raw = alerts.memory().unwrap().all();
    raw.iter().map(|raw| parsed(raw).subject().unwrap().to_owned()).collect()
}

async fn what_was_told_is_told_as_over_once(fixture: Fixture) {
    let fixture = fixture.telling();
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 2).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    fixture.close(0).await;
    let at_once = alerts.run_once(&fixture.db, &fixture.env).await.unwrap().mails.digest;
    assert_eq!((at_once.messages, at_once.next_in), (0, Some(MINUTE)), "it waits for others");
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    assert_eq!(fixture.minute_passes(&alerts).await, 0);

    let raw = alerts.memory().unwrap().all();
    assert_eq!(raw.len(), 2);
    let mail = parsed(&raw[1]);
    assert_eq!(mail.subject(), Some("[stockloop] product-service: 1 alert is over (SKU K0)"));
    let text = mail.body_text(0).unwrap();
    for part in ["closed     2010-12-01 08:27:00 UTC", "because    processed", "it is over"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("stockloop admin retry"), "{text}");
    let listed = fixture.list(AlertFilter { mail: Some(2), ..AlertFilter::default() }).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].event_id, Some(event_id(0)));
    let mails = fixture.write(|conn| crate::alerts::mail::list(conn, None, None, 10)).await;
    let counts: Vec<_> = mails.iter().map(|mail| mail.delivery.alerts).collect();
    assert_eq!(counts, [1, 2]);
}

async fn what_is_over_is_gathered(mut fixture: Fixture) {
    fixture.alerts.digest_size = 2;
    let fixture = fixture.telling();
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 5).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    for n in 0..4 {
        fixture.close(n).await;
    }
    fixture.write(|conn| close(conn, START.after(MINUTE), &[event_id(4)], "superseded")).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    assert_eq!(fixture.minute_passes(&alerts).await, 0);
    assert_eq!(
        subjects(&alerts)[1],
        "[stockloop] product-service: 5 alerts are over (SKU K0, K1, …)"
    );
    let raw = alerts.memory().unwrap().all();
    let text = parsed(&raw[1]).body_text(0).unwrap().replace("\r\n", "\n");
    for (number, because) in [("2 alerts", "processed"), ("1 alert", "superseded")] {
        let counted = format!("-  {number} of the kind exhausted: over\n   because    {because}\n");
        assert!(text.contains(&counted), "{counted}: {text}");
    }
    let told = fixture.list(AlertFilter { mail: Some(2), ..AlertFilter::default() }).await;
    assert_eq!(told.len(), 5);
}

async fn what_does_not_fit_is_over_in_the_next_mail(fixture: Fixture) {
    let fixture = fixture.telling();
    let mut alerts = fixture.alerts();
    alerts.mails.digest.most = 2;
    fixture.exhaust_many(0, 3).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 2);
    for n in 0..3 {
        fixture.close(n).await;
    }
    assert_eq!(fixture.minute_passes(&alerts).await, 2);
    let subjects = subjects(&alerts);
    assert!(subjects[2].ends_with("2 alerts are over (SKU K0, K1)"), "{subjects:?}");
    assert!(subjects[3].ends_with("1 alert is over (SKU K2)"), "{subjects:?}");
    let raw = alerts.memory().unwrap().all();
    let text = parsed(&raw[2]).body_text(0).unwrap().into_owned();
    assert!(text.contains("1 more alert is over and comes in the next mail."), "{text}");
}

async fn what_nobody_was_told_of_is_not_told_as_over(fixture: Fixture) {
    let fixture = fixture.telling();
    let alerts = fixture.alerts();
    assert_eq!(fixture.minute_passes(&alerts).await, 0);
    fixture.exhaust_many(0, 1).await;
    fixture.close(0).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 0, "it was closed before any mail");
    let mails = alerts.memory().unwrap();
    for everybody in ["ops@shop.test", "night@shop.test"] {
        mails.refuse(everybody, 550);
    }
    fixture.exhaust_many(1, 2).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    mails.refuse_nobody();
    fixture.close(1).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 0, "all refused the mail");
}

async fn it_follows_the_mail_that_told_of_it(fixture: Fixture) {
    let fixture = fixture.telling();
    let alerts = fixture.alerts();
    let mails = alerts.memory().unwrap();
    mails.fail_next(usize::MAX);
    fixture.exhaust_many(0, 1).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    fixture.close(0).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 0, "nobody knows of it yet");
    mails.fail_next(0);
    fixture.clock.advance(MINUTE * 10);
    fixture.minute_passes(&alerts).await;
    fixture.minute_passes(&alerts).await;
    let subjects = subjects(&alerts);
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert!(subjects[0].contains("has not arrived") && subjects[1].contains("is over"));
}

async fn switching_it_on_tells_no_old_news(mut fixture: Fixture) {
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 2).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    fixture.close(0).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 0);
    fixture.alerts.tell_when_over = true;
    let alerts = fixture.alerts();
    assert_eq!(fixture.minute_passes(&alerts).await, 0);
    fixture.close(1).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    assert!(subjects(&alerts)[0].ends_with("1 alert is over (SKU K1)"));
}

async fn from_when_on_it_is_told_is_noted_anew_when_a_clock_ran_ahead(fixture: Fixture) {
    let fixture = fixture.telling();
    let alerts = fixture.alerts();
    let day = MINUTE * 60 * 24;
    fixture.clock.advance(day);
    assert_eq!(fixture.minute_passes(&alerts).await, 0, "it is noted from when on it is told");
    fixture.clock.set_back(day);
    fixture.exhaust_many(0, 1).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    fixture.close(0).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
}

async fn off_tells_nothing(mut fixture: Fixture) {
    fixture.alerts.tell_when_over = true;
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 1).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    fixture.alerts.tell_when_over = false;
    let off = fixture.alerts();
    fixture.close(0).await;
    assert_eq!(fixture.minute_passes(&off).await, 0);
    assert_eq!(fixture.minute_passes(&alerts).await, 0, "what closed while it was off is old news");
}

async fn a_silence_keeps_it_back(fixture: Fixture) {
    let fixture = fixture.telling();
    let alerts = fixture.alerts();
    fixture.exhaust_many(0, 1).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
    let until = fixture.env.now().after(MINUTE * 5);
    fixture.silence(super::silences::of_key("K0"), until).await.unwrap();
    fixture.close(0).await;
    assert_eq!(fixture.minute_passes(&alerts).await, 0);
    fixture.clock.advance(MINUTE * 5);
    assert_eq!(fixture.minute_passes(&alerts).await, 1);
}
