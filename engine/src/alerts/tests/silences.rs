//! Silences, and invariant I5 with them: each alert that is not closed or silenced before its message gets into one
//! message of each channel that leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use common::clock::Timestamp;
use common::on;
use common::schema::{alert, audit};
use diesel::prelude::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use stockloop_tests::on_every_database;

use super::{Fixture, START, event_id};
use crate::alerts::AlertError;
use crate::alerts::silences::{self, NewSilence, Scope};
use crate::alerts::{AlertFilter, AlertKind, AlertsOutcome, NewAlert, close, raise_all};
use crate::audit::{Actor, AuthMethod};

on_every_database!(Fixture::new =>
    a_silenced_alert_is_told_when_its_silence_ends,
    a_silence_that_is_ended_early_tells_at_once,
    what_is_closed_in_silence_is_never_told,
    scopes_cover_what_they_say,
    many_silenced_ones_do_not_keep_the_others_waiting,
    a_silence_has_an_end_and_a_limit,
    each_alert_is_told_once_whatever_happens,
);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn anna() -> Actor {
    Actor { name: "anna".to_owned(), method: AuthMethod::Session }
}

pub(super) fn of_key(key: &str) -> Scope {
    Scope::Matching { kind: None, key: Some(key.to_owned()) }
}

impl Fixture {
    pub(super) async fn silence(&self, scope: Scope, until: Timestamp) -> Result<i64, AlertError> {
        let (now, new) = (self.env.now(), NewSilence { scope, reason: "known".to_owned(), until });
        let begun = self.db.write(move |conn| silences::begin(conn, now, &new, &anna())).await?;
        Ok(begun.seq.parse().unwrap())
    }

    async fn step(&self) -> AlertsOutcome {
        self.alerts().run_once(&self.db, &self.env).await.unwrap()
    }

    /// The keys of alerts that a mail lists.
    async fn mailed(&self) -> Vec<String> {
        let all = self.list(AlertFilter::default()).await;
        let mut keys: Vec<_> =
            all.into_iter().filter(|a| a.mail.is_some()).filter_map(|a| a.key).collect();
        keys.sort();
        keys
    }
}

async fn a_silenced_alert_is_told_when_its_silence_ends(fixture: Fixture) {
    fixture.silence(of_key("K1"), START.after(HOUR)).await.unwrap();
    fixture.exhaust_many(0, 3).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.step().await.mails.digest.alerts, 2);
    assert_eq!(fixture.mailed().await, ["K0", "K2"]);
    let silenced = fixture.list(AlertFilter { key: Some("K1".to_owned()), ..Default::default() });
    assert_eq!(silenced.await[0].silenced_until, Some(START.after(HOUR)));
    fixture.clock.advance(HOUR - MINUTE * 2);
    assert_eq!(fixture.step().await.mails.digest.alerts, 0);
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.step().await.mails.digest.alerts, 1);
    assert_eq!(fixture.mailed().await, ["K0", "K1", "K2"]);
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.step().await.mails.digest.alerts, 0);
}

async fn a_silence_that_is_ended_early_tells_at_once(fixture: Fixture) {
    let seq = fixture.silence(of_key("K0"), START.after(HOUR)).await.unwrap();
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.step().await.mails.digest.alerts, 0);
    let end = |seq| {
        let now = fixture.env.now();
        fixture.db.write(move |conn| silences::end(conn, now, seq, &anna()))
    };
    let ended = end(seq).await.unwrap();
    assert_eq!((ended.active, ended.ended_by.as_deref()), (false, Some("anna")));
    assert_eq!(fixture.step().await.mails.digest.alerts, 1);
    fixture.clock.advance(MINUTE);
    assert_eq!(end(seq).await.unwrap().ended_at, ended.ended_at, "it stays as it is");
    assert!(matches!(end(99).await, Err(AlertError::UnknownSilence(99))));
    let noted: Vec<String> = fixture
        .write(|conn| on!(conn, c => audit::table.order(audit::seq).select(audit::action).load(c)))
        .await;
    assert_eq!(noted, ["silence.begin", "silence.end"]);
}

async fn what_is_closed_in_silence_is_never_told(fixture: Fixture) {
    fixture.silence(of_key("K0"), START.after(HOUR)).await.unwrap();
    fixture.exhaust_many(0, 1).await;
    fixture.clock.advance(MINUTE);
    fixture.step().await;
    fixture.write(|conn| close(conn, START, &[event_id(0)], "processed")).await;
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.step().await.mails.digest.alerts, 0);
}

async fn scopes_cover_what_they_say(fixture: Fixture) {
    fixture.exhaust_many(0, 4).await;
    let all = fixture.list(AlertFilter::default()).await;
    let first = all.iter().find(|a| a.key.as_deref() == Some("K0")).unwrap().seq;
    let until = START.after(HOUR);
    let (silent, exhausted) = (Some(AlertKind::Silent), Some(AlertKind::Exhausted));
    fixture.silence(Scope::Alert(first), until).await.unwrap();
    let other_kind = Scope::Matching { kind: silent, key: Some("K1".to_owned()) };
    fixture.silence(other_kind, until).await.unwrap();
    let both = Scope::Matching { kind: exhausted, key: Some("K2".to_owned()) };
    fixture.silence(both, until).await.unwrap();
    fixture.clock.advance(MINUTE);
    fixture.step().await;
    assert_eq!(fixture.mailed().await, ["K1", "K3"]);
    let listed = fixture.list(AlertFilter::default()).await;
    for alert in listed {
        assert_eq!(alert.silenced_until.is_none(), alert.mail.is_some(), "both ways to see it");
    }
}

async fn many_silenced_ones_do_not_keep_the_others_waiting(mut fixture: Fixture) {
    fixture.alerts.digest_size = 10;
    fixture.silence(of_key("noisy"), START.after(HOUR)).await.unwrap();
    fixture
        .write(|conn| {
            let noisy = (0..5_000).map(|n| super::event(n, "noisy", 1));
            let quiet = (5_000..5_025).map(|n| super::event(n, "quiet", 1));
            let new = noisy.chain(quiet).map(|e| NewAlert::exhausted(&e.facts(), 1, "x"));
            raise_all(conn, START, new.collect())
        })
        .await;
    fixture.clock.advance(MINUTE);
    let outcome = fixture.step().await.mails.digest;
    assert_eq!((outcome.messages, outcome.alerts), (1, 25));
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.step().await.mails.digest.alerts, 5_000);
}

async fn a_silence_has_an_end_and_a_limit(fixture: Fixture) {
    let day = HOUR * 24;
    let over = fixture.silence(of_key("A"), START).await;
    assert!(matches!(over, Err(AlertError::SilenceEndsInPast)), "{over:?}");
    let too_long = fixture.silence(of_key("A"), START.after(day * 30).after(HOUR)).await;
    assert!(matches!(too_long, Err(AlertError::SilenceTooLong)), "{too_long:?}");
    fixture.silence(of_key("A"), START.after(day * 30)).await.unwrap();
    let until = START.after(HOUR);
    let unknown = fixture.silence(Scope::Alert(7), until).await;
    assert!(matches!(unknown, Err(AlertError::UnknownAlert(7))), "{unknown:?}");
    fixture.exhaust_many(0, 1).await;
    let seq = fixture.list(AlertFilter::default()).await[0].seq;
    fixture.write(|conn| close(conn, START, &[event_id(0)], "processed")).await;
    let closed = fixture.silence(Scope::Alert(seq), until).await;
    assert!(matches!(closed, Err(AlertError::Closed(number)) if number == seq), "{closed:?}");
    for _ in 1..500 {
        fixture.silence(of_key("A"), until).await.unwrap();
    }
    let refused = fixture.silence(of_key("A"), until).await;
    assert!(matches!(refused, Err(AlertError::TooManySilences(500))), "{refused:?}");
    fixture.clock.advance(HOUR);
    fixture.silence(of_key("A"), START.after(HOUR * 2)).await.unwrap();
}

/// What may happen between two steps.
#[derive(Debug, Clone)]
enum ScriptStep {
    Raise,
    Close(u32),
    Silence { key: u32, minutes: u64 },
    End(usize),
    Wait(u64),
    Step,
    FailMails(usize),
}

fn action() -> impl Strategy<Value = ScriptStep> {
    prop_oneof![
        3 => Just(ScriptStep::Raise),
        1 => (0..20_u32).prop_map(ScriptStep::Close),
        2 => (0..3_u32, 1..90_u64).prop_map(|(key, minutes)| ScriptStep::Silence { key, minutes }),
        1 => (0..5_usize).prop_map(ScriptStep::End),
        2 => (1..60_u64).prop_map(ScriptStep::Wait),
        4 => Just(ScriptStep::Step),
        1 => (1..3_usize).prop_map(ScriptStep::FailMails),
    ]
}

/// Random courses, of mails that take few alerts and list fewer; the fixed seed is the test runner's deterministic one.
async fn each_alert_is_told_once_whatever_happens(mut fixture: Fixture) {
    fixture.alerts.digest_size = 1;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let mut raised = 0;
    for _ in 0..12 {
        let actions = proptest::collection::vec(action(), 1..40).new_tree(&mut runner).unwrap();
        raised = course(&fixture, actions.current(), raised).await;
    }
}

/// Plays one course and checks what was told; returns how many alerts were raised so far.
async fn course(fixture: &Fixture, actions: Vec<ScriptStep>, mut raised: u32) -> u32 {
    let mut alerts = fixture.alerts();
    alerts.mails.digest.most = 3;
    let mut begun = Vec::new();
    for action in actions {
        let now = fixture.env.now();
        match action {
            ScriptStep::Raise => {
                let event = super::event(raised, &format!("K{}", raised % 3), 1);
                let new = vec![NewAlert::exhausted(&event.facts(), 1, "x")];
                fixture.write(move |conn| raise_all(conn, now, new)).await;
                raised += 1;
            }
            ScriptStep::Close(back) => {
                let event = event_id(raised.saturating_sub(back));
                fixture.write(move |conn| close(conn, now, &[event], "processed")).await;
            }
            ScriptStep::Silence { key, minutes } => {
                let until = now.after(MINUTE * u32::try_from(minutes).unwrap());
                begun.push(fixture.silence(of_key(&format!("K{key}")), until).await.unwrap());
            }
            ScriptStep::End(which) => {
                if let Some(seq) = begun.get(which).copied() {
                    let ended = fixture.db.write(move |c| silences::end(c, now, seq, &anna()));
                    ended.await.unwrap();
                }
            }
            ScriptStep::Wait(minutes) => fixture.clock.advance(Duration::from_secs(minutes * 60)),
            ScriptStep::FailMails(times) => alerts.memory().unwrap().fail_next(times),
            ScriptStep::Step => check_step(fixture, &alerts).await,
        }
    }
    // At rest: silences over, the server there.
    alerts.memory().unwrap().fail_next(0);
    for _ in 0..3 {
        fixture.clock.advance(HOUR * 2);
        alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    }
    check_rest(fixture, &alerts).await;
    raised
}

/// A step takes no alert that is closed or silenced at that moment.
async fn check_step(fixture: &Fixture, alerts: &crate::alerts::Alerts) {
    let before = fixture.list(AlertFilter::default()).await;
    alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    let mailed: BTreeMap<i64, bool> = fixture
        .list(AlertFilter::default())
        .await
        .iter()
        .map(|a| (a.seq, a.mail.is_some()))
        .collect();
    for alert in before.iter().filter(|alert| alert.mail.is_none()) {
        let hushed = alert.closed_at.is_some() || alert.silenced_until.is_some();
        assert!(!(hushed && mailed[&alert.seq]), "{alert:?}");
    }
}

/// Whatever is open has left in exactly one mail: each mail tells what is in it, and each event is listed once at the
/// most in all that left.
async fn check_rest(fixture: &Fixture, alerts: &crate::alerts::Alerts) {
    let untold: i64 = fixture
        .write(|conn| {
            on!(conn, c => alert::table
                .filter(alert::closed_us.is_null())
                .filter(alert::mail_seq.is_null())
                .count()
                .get_result(c))
        })
        .await;
    assert_eq!(untold, 0);
    for alert in fixture.list(AlertFilter::default()).await {
        assert!(alert.mail.is_none_or(|mail| mail.sent_at.is_some()));
    }
    fixture.assert_mails_tell_what_is_in_them().await;
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for raw in alerts.memory().unwrap().all() {
        let mail = super::parsed(&raw);
        let text = mail.body_text(0).unwrap().into_owned();
        for event in text.lines().filter_map(|line| line.trim().strip_prefix("event ")) {
            *named.entry(event.trim().to_owned()).or_default() += 1;
        }
    }
    assert!(named.values().all(|times| *times == 1), "{named:?}");
}
