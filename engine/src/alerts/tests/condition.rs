//! What hinders a loop is told once, after a while, and closed when it is over.

use std::sync::mpsc;

use common::db::Conn;
use futures::FutureExt as _;
use stockloop_tests::on_every_database;
use tokio::sync::oneshot;

use super::*;
use crate::alerts::{AlertKind, Condition};

const PATIENCE: Duration = Duration::from_secs(30);

on_every_database!(Fixture::new =>
    a_hindrance_is_told_once_and_closed,
    its_alert_has_the_cause_as_it_is_now,
    one_with_a_key_has_an_alert_of_its_own,
    one_that_hinders_nothing_is_not_told,
    what_is_known_to_last_is_told_at_once,
    what_an_earlier_process_told_is_closed_too,
    what_ends_while_it_is_told_is_closed,
);

impl Fixture {
    fn condition(&self) -> Condition {
        let (db, env, alerts) = (self.db.clone(), self.env.clone(), self.alerts());
        Condition::new(db, env, alerts, AlertKind::NotSent, PATIENCE)
    }

    async fn meet(&self, condition: &Condition, matters: bool) {
        let alert = not_sent("Topic authorization failed");
        condition.met(move |_, _| Ok(matters), alert).await;
    }

    /// The alerts, oldest first: what they say, and whether they are open.
    async fn told(&self) -> Vec<(String, bool)> {
        let alerts = self.list(AlertFilter::default()).await;
        let told = |alert: super::super::Alert| {
            (alert.error.unwrap_or_default(), alert.closed_at.is_none())
        };
        alerts.into_iter().rev().map(told).collect()
    }
}

fn not_sent(cause: &str) -> NewAlert {
    NewAlert::not_sent("product-service", "inventory", cause)
}

async fn its_alert_has_the_cause_as_it_is_now(fixture: Fixture) {
    let condition = fixture.condition();
    fixture.meet(&condition, true).await;
    fixture.clock.advance(PATIENCE);
    fixture.meet(&condition, true).await;
    condition.ended("events are sent again").await;
    fixture.meet(&condition, true).await;
    fixture.clock.advance(PATIENCE);
    fixture.meet(&condition, true).await;
    let first = "Topic authorization failed".to_owned();
    assert_eq!(fixture.told().await, [(first.clone(), false), (first.clone(), true)]);
    fixture.clock.advance(PATIENCE);
    condition.met(|_, _| Ok(true), not_sent("Message timed out")).await;
    let now = "Message timed out".to_owned();
    assert_eq!(fixture.told().await, [(first, false), (now, true)], "the closed one stays");
}

async fn one_with_a_key_has_an_alert_of_its_own(fixture: Fixture) {
    let condition = || {
        let (db, env, alerts) = (fixture.db.clone(), fixture.env.clone(), fixture.alerts());
        Condition::new(db, env, alerts, AlertKind::NotReceived, PATIENCE)
    };
    let (of_loop, of_view) = (condition(), condition().about_key("order-service.views"));
    let meet = async |condition: &Condition, cause: &str| {
        let alert = NewAlert::not_received("order-service", "the topic purchases", cause);
        condition.met(|_, _| Ok(true), alert).await;
    };
    for condition in [&of_loop, &of_view] {
        meet(condition, "it may not read the topic").await;
    }
    fixture.clock.advance(PATIENCE);
    meet(&of_view, "the topic does not exist").await;
    meet(&of_loop, "it may not read the topic").await;
    let (view, inbox) = ("the topic does not exist", "it may not read the topic");
    let told = |view: (&str, bool), inbox: (&str, bool)| {
        [(view.0.to_owned(), view.1), (inbox.0.to_owned(), inbox.1)]
    };
    assert_eq!(fixture.told().await, told((view, true), (inbox, true)));
    fixture.clock.advance(PATIENCE);
    meet(&of_view, "it may not use its group").await;
    let view = "it may not use its group";
    assert_eq!(fixture.told().await, told((view, true), (inbox, true)), "as it is now");
    of_loop.ended("messages are received again").await;
    assert_eq!(fixture.told().await, told((view, true), (inbox, false)));
    of_view.ended("messages are received again").await;
    assert_eq!(fixture.told().await, told((view, false), (inbox, false)));
}

async fn a_hindrance_is_told_once_and_closed(fixture: Fixture) {
    let condition = fixture.condition();
    fixture.meet(&condition, true).await;
    fixture.clock.advance(PATIENCE - Duration::from_secs(1));
    fixture.meet(&condition, true).await;
    assert_eq!(fixture.told().await, [], "it may pass by itself");
    fixture.clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        fixture.meet(&condition, true).await;
    }
    let cause = "Topic authorization failed".to_owned();
    assert_eq!(fixture.told().await, [(cause.clone(), true)]);
    condition.ended("events are sent again").await;
    fixture.meet(&condition, true).await;
    assert_eq!(fixture.told().await, [(cause.clone(), false)], "a new one has to last again");
    fixture.clock.advance(PATIENCE);
    fixture.meet(&condition, true).await;
    assert_eq!(fixture.told().await, [(cause.clone(), false), (cause, true)]);
}

async fn what_is_known_to_last_is_told_at_once(fixture: Fixture) {
    let (condition, now) = (fixture.condition(), fixture.env.now());
    let lately = now.before(PATIENCE - Duration::from_secs(1));
    condition.met_since(lately, |_, _| Ok(true), not_sent("the connector is down")).await;
    assert_eq!(fixture.told().await, []);
    condition.met_since(now.before(PATIENCE), |_, _| Ok(true), not_sent("it is down")).await;
    assert_eq!(fixture.told().await, [("it is down".to_owned(), true)]);
}

async fn one_that_hinders_nothing_is_not_told(fixture: Fixture) {
    let condition = fixture.condition();
    fixture.meet(&condition, false).await;
    fixture.clock.advance(PATIENCE * 2);
    fixture.meet(&condition, false).await;
    assert_eq!(fixture.told().await, []);
    fixture.meet(&condition, true).await;
    assert_eq!(fixture.told().await.len(), 1);
}

async fn what_an_earlier_process_told_is_closed_too(fixture: Fixture) {
    let before = fixture.condition();
    fixture.meet(&before, true).await;
    fixture.clock.advance(PATIENCE);
    fixture.meet(&before, true).await;
    let after = fixture.condition();
    after.ended("events are sent again").await;
    assert!(fixture.told().await.iter().all(|(_, open)| !open));
}

/// Two tasks of a loop see different things at the same time.
async fn what_ends_while_it_is_told_is_closed(fixture: Fixture) {
    let condition = fixture.condition();
    condition.ended("events are sent again").await;
    fixture.meet(&condition, true).await;
    fixture.clock.advance(PATIENCE);
    let (begin, begun) = oneshot::channel();
    let (go_on, goes_on) = mpsc::channel();
    let is_slow = move |_: &mut Conn, _: Timestamp| {
        begin.send(()).unwrap();
        goes_on.recv().unwrap();
        Ok(true)
    };
    let met = condition.met(is_slow, not_sent("Message timed out"));
    let ended = async {
        begun.await.unwrap();
        let mut ended = Box::pin(condition.ended("events are sent again"));
        assert_eq!(ended.as_mut().now_or_never(), None, "it waits until that is told");
        go_on.send(()).unwrap();
        ended.await;
    };
    tokio::join!(met, ended);
    assert_eq!(fixture.told().await, [("Message timed out".to_owned(), false)]);
}
