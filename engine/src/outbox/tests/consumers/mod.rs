//! Several consumers: whose answer ends an event, who is blamed, and what is left of those who are asked no more.

mod watched;

use std::collections::BTreeMap;

use common::schema::{outbox_answer, outbox_settled};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::consumers::{self, NewConsumer, Role};

on_every_database!(OutboxFixture::new =>
    an_event_is_processed_once_all_have_answered,
    whoever_fails_is_blamed_and_all_get_it_again,
    what_is_rejected_by_one_is_rejected,
    a_snapshot_that_one_rejects_waits_for_a_person,
    a_failure_after_an_answer_is_nothing_new,
    one_that_came_later_owes_nothing_of_before,
    whoever_passes_an_event_by_is_told_by_name,
    what_one_was_let_off_is_settled_though_it_is_asked_again,
    the_oldest_of_the_others_takes_over_and_nobody_else,
    a_silence_ends_with_the_role,
    a_silence_is_that_of_one,
    who_is_retired_holds_nothing_up,
    an_answer_that_overtook_the_note_of_its_send_is_let_off,
    an_old_event_that_waits_hides_nobody_behind_it,
    short_pages_find_all_that_was_answered,
    the_last_required_one_can_not_go,
    what_nobody_else_was_asked_about_waits_for_the_others,
    the_settings_are_registered_once,
    retired_names_leave_room_for_others,
    every_order_of_answers_ends_the_same,
);

const FIRST: &str = "order-service";
const SEARCH: &str = "search-service";
const REPORTS: &str = "reports";

impl OutboxFixture {
    async fn register(&self, name: &'static str, role: Role) {
        let (since, now) = (self.env.event_id(), self.env.now());
        self.change(move |conn| {
            consumers::sync(conn, FIRST, &BTreeMap::new(), since, now)?;
            let new = NewConsumer { name, role, since, reason: None };
            consumers::register(conn, &new, now, "anna")
        })
        .await
        .unwrap();
    }

    async fn retire(&self, name: &'static str) -> Result<(), consumers::RegistryError> {
        let now = self.env.now();
        self.change(move |conn| consumers::retire(conn, name, FIRST, (now, "anna", Some("gone"))))
            .await
            .map(drop)
    }

    async fn set_role(&self, name: &'static str, role: Role) {
        let (since, now) = (self.env.event_id(), self.env.now());
        self.change(move |conn| {
            consumers::set_role(conn, (name, FIRST), role, since, (now, "anna", None))
        })
        .await
        .unwrap();
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, consumers::RegistryError> + Send + 'static,
    ) -> Result<T, consumers::RegistryError> {
        let changed = self.db.write::<_, DbError>(move |conn| Ok(work(conn)));
        changed.await.unwrap()
    }

    fn ack_of(&self, consumer: &str, id: EventId, attempt: i32, outcome: Verdict) -> Ack {
        Ack { consumer: consumer.to_owned(), ..self.ack(id, attempt, outcome) }
    }

    async fn status_of(&self, id: EventId) -> Status {
        self.open(id).await.map_or(Status::Processed, |row| row.status)
    }

    async fn said(&self, id: EventId) -> Vec<(String, Said, i32)> {
        self.run(move |conn| {
            on!(conn, c => outbox_answer::table
                .filter(outbox_answer::event_id.eq(id))
                .select((outbox_answer::consumer, outbox_answer::outcome, outbox_answer::failures))
                .order(outbox_answer::consumer)
                .load(c))
        })
        .await
    }

    async fn let_off_all(&self) -> usize {
        let step = LetOff {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: POLICY,
            first: FIRST.to_owned(),
        };
        let mut settled = 0;
        while let Some(done) = step.run_once().await.unwrap() {
            settled += done.settled.len();
        }
        settled
    }

    async fn sent(&self, key: &str) -> EventId {
        let id = self.append(SNAPSHOT, key, 1).await;
        self.send(id, 1, 0).await;
        id
    }
}

async fn an_event_is_processed_once_all_have_answered(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.sent("A").await;
    let first = fixture.ack_of(FIRST, id, 1, Verdict::Success);
    let settlement = fixture.settle(vec![first.clone(), first]).await;
    assert_eq!((settlement.advanced.settled.len(), settlement.foreign), (0, 0));
    assert_eq!(fixture.status_of(id).await, Status::Sent);
    assert!(settlement.advanced.released.is_empty(), "it is still in flight");
    let settlement = fixture.settle(vec![fixture.ack_of(SEARCH, id, 1, Verdict::Success)]).await;
    assert_eq!(settlement.advanced.settled.len(), 1);
    assert_eq!(settlement.advanced.released.values().next(), Some(&(1, 2)));
    assert_eq!(fixture.status_of(id).await, Status::Processed);
    let both = [(FIRST.to_owned(), Said::Success, 0), (SEARCH.to_owned(), Said::Success, 0)];
    assert_eq!(fixture.said(id).await, both);
    let by: String = fixture
        .run(move |conn| {
            on!(conn, c => outbox_settled::table.find(id).select(outbox_settled::consumer).first(c))
        })
        .await;
    assert_eq!(by, FIRST, "the answer of the first stands for all");
}

async fn whoever_fails_is_blamed_and_all_get_it_again(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.sent("A").await;
    let failed = fixture.ack_of(SEARCH, id, 1, Verdict::Failed);
    fixture.settle(vec![fixture.ack_of(FIRST, id, 1, Verdict::Success), failed]).await;
    assert_eq!(fixture.status_of(id).await, Status::Pending, "it is sent again");
    for attempt in 2..=5 {
        fixture.send(id, attempt, 0).await;
        let duplicate = Ack {
            detail: Some("duplicate".to_owned()),
            ..fixture.ack_of(FIRST, id, attempt, Verdict::Success)
        };
        let failed = fixture.ack_of(SEARCH, id, attempt, Verdict::Failed);
        fixture.settle(vec![duplicate, failed]).await;
    }
    assert_eq!(fixture.status_of(id).await, Status::Exhausted);
    let said = fixture.said(id).await;
    assert_eq!(said[1], (SEARCH.to_owned(), Said::Failed, 5));
    let error: Option<String> =
        fixture.run(|conn| on!(conn, c => alert::table.select(alert::error).first(c))).await;
    assert_eq!(error.as_deref(), Some("search-service: no such shelf"));
    let blamed: Vec<Option<String>> = fixture
        .run(|conn| {
            on!(conn, c => outbox_history::table.select(outbox_history::consumer).distinct().load(c))
        })
        .await;
    assert_eq!(blamed, [Some(SEARCH.to_owned())]);
    fixture.settle(vec![fixture.ack_of(SEARCH, id, 3, Verdict::Success)]).await;
    assert_eq!(fixture.status_of(id).await, Status::Processed, "a late answer counts");
}

async fn what_is_rejected_by_one_is_rejected(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.append(COMMAND, "A", 1).await;
    fixture.send(id, 1, 0).await;
    let rejected = fixture.ack_of(SEARCH, id, 1, Verdict::Rejected);
    assert!(fixture.settle(vec![rejected]).await.advanced.settled.is_empty());
    let done = fixture.settle(vec![fixture.ack_of(FIRST, id, 1, Verdict::Success)]).await;
    assert!(!done.advanced.settled[0].success);
}

/// A state can't be answered no: from whoever says so that is a failure for good, not the answer that others wait for.
async fn a_snapshot_that_one_rejects_waits_for_a_person(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.sent("A").await;
    fixture.settle(vec![fixture.ack_of(SEARCH, id, 1, Verdict::Rejected)]).await;
    assert_eq!(fixture.status_of(id).await, Status::Exhausted);
    assert_eq!(fixture.said(id).await, [(SEARCH.to_owned(), Said::Failed, 1)]);
    fixture.settle(vec![fixture.ack_of(FIRST, id, 1, Verdict::Success)]).await;
    assert_eq!(fixture.status_of(id).await, Status::Exhausted);
}

/// What a consumer says after its answer for good is neither a failure nor another answer.
async fn a_failure_after_an_answer_is_nothing_new(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.sent("A").await;
    let success = fixture.ack_of(FIRST, id, 1, Verdict::Success);
    let failed = fixture.ack_of(FIRST, id, 1, Verdict::Failed);
    fixture.settle(vec![success, Ack { retryable: false, ..failed }]).await;
    assert_eq!(fixture.status_of(id).await, Status::Sent);
    assert_eq!(fixture.said(id).await, [(FIRST.to_owned(), Said::Success, 0)]);
}

async fn one_that_came_later_owes_nothing_of_before(fixture: OutboxFixture) {
    let before = fixture.sent("A").await;
    fixture.clock.advance(Duration::from_secs(1));
    fixture.register(SEARCH, Role::Required).await;
    let early = fixture.ack_of(SEARCH, before, 1, Verdict::Failed);
    fixture.settle(vec![early]).await;
    assert_eq!(fixture.status_of(before).await, Status::Sent, "its answer does not count yet");
    fixture.settle(vec![fixture.ack_of(FIRST, before, 1, Verdict::Success)]).await;
    assert_eq!(fixture.status_of(before).await, Status::Processed);
}

async fn whoever_passes_an_event_by_is_told_by_name(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let (passed, later) = (fixture.sent("A").await, fixture.sent("B").await);
    let both = [passed, later].map(|id| fixture.ack_of(FIRST, id, 1, Verdict::Success));
    fixture.settle(both.to_vec()).await;
    fixture.settle(vec![fixture.ack_of(SEARCH, later, 1, Verdict::Success)]).await;
    let monitor = fixture.monitor();
    for _ in 0..4 {
        fixture.clock.advance(Duration::from_secs(20));
        monitor.look().await.unwrap();
        monitor.take_overdue().await.unwrap();
    }
    let row = fixture.open(passed).await.unwrap();
    assert_eq!((row.status, row.attempt), (Status::Pending, 1));
    let blamed: Vec<(String, Option<String>)> = fixture
        .run(|conn| {
            on!(conn, c => outbox_history::table
                .select((outbox_history::what, outbox_history::consumer))
                .load(c))
        })
        .await;
    assert_eq!(blamed, [("OVERDUE".to_owned(), Some(SEARCH.to_owned()))]);
}

/// Before a step has let it off, it is made required again, or registered anew: then the old debt is settled all the same.
async fn what_one_was_let_off_is_settled_though_it_is_asked_again(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    for anew in [false, true] {
        let owed = fixture.sent("A").await;
        fixture.settle(vec![fixture.ack_of(FIRST, owed, 1, Verdict::Success)]).await;
        fixture.clock.advance(Duration::from_secs(1));
        if anew {
            fixture.retire(SEARCH).await.unwrap();
            fixture.register(SEARCH, Role::Required).await;
        } else {
            fixture.set_role(SEARCH, Role::Watched).await;
            fixture.set_role(SEARCH, Role::Required).await;
        }
        assert_eq!(fixture.status_of(owed).await, Status::Sent);
        assert_eq!(fixture.let_off_all().await, 1);
        assert_eq!(fixture.status_of(owed).await, Status::Processed);
        let next = fixture.sent("B").await;
        fixture.settle(vec![fixture.ack_of(FIRST, next, 1, Verdict::Success)]).await;
        assert_eq!(fixture.status_of(next).await, Status::Sent, "it is asked again");
        fixture.settle(vec![fixture.ack_of(SEARCH, next, 1, Verdict::Success)]).await;
    }
}

/// Whoever came later owes nothing of before, where another one was asked then.
async fn the_oldest_of_the_others_takes_over_and_nobody_else(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let owed = fixture.sent("A").await;
    fixture.settle(vec![fixture.ack_of(FIRST, owed, 1, Verdict::Success)]).await;
    fixture.clock.advance(Duration::from_secs(1));
    fixture.register(REPORTS, Role::Required).await;
    fixture.retire(SEARCH).await.unwrap();
    assert_eq!(fixture.let_off_all().await, 1);
    assert_eq!(fixture.status_of(owed).await, Status::Processed);
    assert_eq!(fixture.monitor().take_silent().await.unwrap(), (0, vec![]));
}

/// Its alert is closed for that, and a silence in the new role is told anew.
async fn a_silence_ends_with_the_role(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let monitor = fixture.monitor();
    for round in 1..=2 {
        fixture.clock.advance(Duration::from_secs(1));
        let id = fixture.sent("A").await;
        fixture.settle(vec![fixture.ack_of(FIRST, id, 1, Verdict::Success)]).await;
        fixture.clock.advance(Duration::from_secs(31));
        assert_eq!(monitor.take_silent().await.unwrap().0, 1);
        assert_eq!(fixture.alerts().await.len(), round, "told anew");
        fixture.set_role(SEARCH, Role::Watched).await;
        let closed = fixture.alerts().await[round - 1].2.clone();
        assert_eq!(closed.as_deref(), Some("the consumer has another role"));
        fixture.let_off_all().await;
        fixture.set_role(SEARCH, Role::Required).await;
    }
}

async fn a_silence_is_that_of_one(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.sent("A").await;
    let monitor = fixture.monitor();
    fixture.clock.advance(Duration::from_secs(31));
    fixture.settle(vec![fixture.ack_of(FIRST, id, 1, Verdict::Success)]).await;
    assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![id]), "only one owes an answer");
    let told: Vec<(Option<String>, String)> = fixture
        .run(|conn| on!(conn, c => alert::table.select((alert::key, alert::subject)).load(c)))
        .await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0.as_deref(), Some(SEARCH));
    assert!(told[0].1.starts_with("search-service has not answered"), "{}", told[0].1);
    fixture.settle(vec![fixture.ack_of(SEARCH, id, 1, Verdict::Success)]).await;
    assert_eq!(monitor.take_silent().await.unwrap(), (0, vec![]));
    assert!(fixture.alerts().await[0].2.is_some());
}

async fn who_is_retired_holds_nothing_up(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let mut waiting = Vec::new();
    for key in ["A", "B", "C"] {
        waiting.push(fixture.sent(key).await);
    }
    let refusal = fixture.ack_of(SEARCH, waiting[1], 1, Verdict::Failed);
    fixture.settle(vec![Ack { retryable: false, ..refusal }]).await;
    let answered =
        [waiting[0], waiting[1]].map(|id| fixture.ack_of(FIRST, id, 1, Verdict::Success));
    fixture.settle(answered.to_vec()).await;
    assert_eq!(fixture.status_of(waiting[1]).await, Status::Exhausted);
    fixture.retire(SEARCH).await.unwrap();
    assert_eq!(fixture.let_off_all().await, 2);
    assert_eq!(fixture.status_of(waiting[0]).await, Status::Processed);
    assert_eq!(fixture.status_of(waiting[1]).await, Status::Processed);
    assert_eq!(fixture.alerts().await[0].2.as_deref(), Some("the event is PROCESSED"));
    assert_eq!(fixture.status_of(waiting[2]).await, Status::Sent, "it waits for the first");
    let history = fixture.history(waiting[0]).await;
    assert_eq!(history, [(1, "LET_OFF".to_owned())]);
    let late = fixture.settle(vec![fixture.ack_of(SEARCH, waiting[2], 1, Verdict::Success)]).await;
    assert_eq!((late.foreign, late.advanced.settled.len()), (0, 0));
    fixture.settle(vec![fixture.ack_of(FIRST, waiting[2], 1, Verdict::Success)]).await;
    assert_eq!(fixture.status_of(waiting[2]).await, Status::Processed);
}

/// Else it would be SENT, and wait for nobody: neither silent nor overdue.
async fn an_answer_that_overtook_the_note_of_its_send_is_let_off(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let early = fixture.append(SNAPSHOT, "A", 1).await;
    let unsent = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.settle(vec![fixture.ack_of(FIRST, early, 1, Verdict::Success)]).await;
    assert_eq!(fixture.status_of(early).await, Status::Pending, "it owes an answer to search");
    fixture.retire(SEARCH).await.unwrap();
    assert_eq!(fixture.let_off_all().await, 1);
    assert_eq!(fixture.status_of(early).await, Status::Processed);
    assert_eq!(fixture.status_of(unsent).await, Status::Pending);
}

/// More answers lie between the two than a step looks at.
async fn an_old_event_that_waits_hides_nobody_behind_it(fixture: OutboxFixture) {
    const SETTLED: i32 = 2_500;
    fixture.register(SEARCH, Role::Required).await;
    let old = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.clock.advance(Duration::from_secs(1));
    let settled: Vec<AnswerRow> = (0..SETTLED)
        .map(|_| AnswerRow {
            event_id: fixture.env.event_id(),
            consumer: FIRST.to_owned(),
            outcome: Said::Success,
            attempt: 1,
            failures: 0,
            detail: None,
            error: None,
            version: None,
            result: None,
            processed_us: START,
        })
        .collect();
    fixture.run(move |conn| store::save_answers(conn, &settled)).await;
    fixture.clock.advance(Duration::from_secs(1));
    let early = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.settle(vec![fixture.ack_of(FIRST, early, 1, Verdict::Success)]).await;
    fixture.retire(SEARCH).await.unwrap();
    assert_eq!(fixture.let_off_all().await, 1);
    assert_eq!(fixture.status_of(early).await, Status::Processed);
    assert_eq!(fixture.status_of(old).await, Status::Pending);
}

/// Whichever table an event lies in, and wherever a page ends: also between the answers of two to one event.
async fn short_pages_find_all_that_was_answered(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    fixture.append(SNAPSHOT, "unanswered", 1).await;
    let mut answered = Vec::new();
    for n in 0..16 {
        fixture.clock.advance(Duration::from_millis(1));
        let id = fixture.append(SNAPSHOT, &format!("K{n}"), 1).await;
        let first = fixture.ack_of(FIRST, id, 1, Verdict::Success);
        let of_search = |outcome| fixture.ack_of(SEARCH, id, 1, outcome);
        if n % 4 < 3 {
            fixture.send(id, 1, 0).await;
        }
        let acks = match n % 4 {
            0 => vec![first, of_search(Verdict::Success)],
            2 => vec![first, of_search(Verdict::Failed)],
            _ => vec![first],
        };
        fixture.settle(acks).await;
        if n % 4 > 0 {
            answered.push(id);
        }
    }
    for (limit, read) in [(1, 1), (2, 1), (1, 3), (3, 2), (100, 100)] {
        let (mut found, mut next) = (Vec::new(), Some(EventId::NIL));
        while let Some(after) = next {
            let page = fixture
                .run(move |conn| store::answered_and_open(conn, FIRST, after, limit, read))
                .await;
            assert!(page.next.is_none_or(|next| next > after), "it goes on");
            found.extend(page.ids);
            next = page.next;
        }
        assert_eq!(found, answered, "{limit} of {read}");
    }
}

async fn the_last_required_one_can_not_go(fixture: OutboxFixture) {
    fixture.register(REPORTS, Role::Watched).await;
    let refused = fixture.retire(FIRST).await.unwrap_err();
    assert!(matches!(refused, consumers::RegistryError::LastRequired(_)), "{refused}");
    fixture.retire(REPORTS).await.unwrap();
    let refused = fixture.retire(REPORTS).await.unwrap_err();
    assert!(matches!(refused, consumers::RegistryError::Retired(_)), "{refused}");
}

async fn what_nobody_else_was_asked_about_waits_for_the_others(fixture: OutboxFixture) {
    let before = fixture.sent("A").await;
    fixture.clock.advance(Duration::from_secs(1));
    fixture.register(SEARCH, Role::Required).await;
    fixture.retire(FIRST).await.unwrap();
    assert_eq!(fixture.let_off_all().await, 0);
    assert_eq!(fixture.status_of(before).await, Status::Sent, "nobody has it");
    fixture.settle(vec![fixture.ack_of(SEARCH, before, 1, Verdict::Success)]).await;
    assert_eq!(fixture.status_of(before).await, Status::Processed);
}

async fn the_settings_are_registered_once(fixture: OutboxFixture) {
    let others = BTreeMap::from([(SEARCH.to_owned(), Role::Required)]);
    let (since, now) = (fixture.env.event_id(), fixture.env.now());
    let sync = move |conn: &mut Conn| consumers::sync(conn, FIRST, &others, since, now);
    assert_eq!(fixture.change(sync.clone()).await.unwrap().len(), 1);
    assert_eq!(fixture.change(sync.clone()).await.unwrap().len(), 0);
    fixture.retire(SEARCH).await.unwrap();
    let told = fixture.change(sync).await.unwrap();
    assert!(told[0].contains("is retired"), "{told:?}");
    let bad = BTreeMap::from([("a b".to_owned(), Role::Watched)]);
    let bad = fixture.change(move |conn| consumers::sync(conn, FIRST, &bad, since, now)).await;
    assert!(matches!(bad, Err(consumers::RegistryError::BadName(_))));
}

async fn retired_names_leave_room_for_others(fixture: OutboxFixture) {
    let (since, now) = (fixture.env.event_id(), fixture.env.now());
    let register = move |conn: &mut Conn, name: &str, now| {
        let new = NewConsumer { name, role: Role::Required, since, reason: None };
        consumers::register(conn, &new, now, "anna")
    };
    let settling = fixture.change(move |conn| {
        consumers::sync(conn, FIRST, &BTreeMap::new(), since, now)?;
        for n in 0..250_u64 {
            let (name, now) = (format!("old-{n}"), now.after(Duration::from_secs(n)));
            register(conn, &name, now)?;
            consumers::retire(conn, &name, FIRST, (now, "anna", None))?;
            assert!(consumers::list(conn, FIRST)?.len() <= consumers::MAX_KNOWN, "it is bounded");
            // The first 10 are settled only at the end.
            if n >= 10 {
                consumers::save_cursor(conn, &name, None, 0)?;
            }
        }
        Ok(consumers::list(conn, FIRST)?)
    });
    let known: Vec<String> = settling.await.unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(known.len(), consumers::MAX_KNOWN);
    assert!(known.contains(&FIRST.to_owned()) && known.contains(&"old-9".to_owned()));
    assert!(!known.contains(&"old-10".to_owned()), "it was retired first");
    fixture
        .change(move |conn| {
            (1..100).try_for_each(|n| register(conn, &format!("n-{n}"), now).map(drop))
        })
        .await
        .unwrap();
    let full = fixture.change(move |conn| register(conn, "one-too-many", now)).await.unwrap_err();
    assert!(matches!(full, consumers::RegistryError::Full), "{full}");
    let full = fixture.change(move |conn| register(conn, "old-9", now)).await.unwrap_err();
    assert!(matches!(full, consumers::RegistryError::Full), "{full}");
}

/// Whatever order answers come in, an event is PROCESSED exactly when all three have answered for good.
async fn every_order_of_answers_ends_the_same(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    fixture.register(REPORTS, Role::Required).await;
    let names = [FIRST, SEARCH, REPORTS];
    let answers = prop::collection::vec((0..3_usize, any::<bool>()), 1..12);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..24 {
        let script = answers.new_tree(&mut runner).unwrap().current();
        let id = fixture.sent("A").await;
        let mut has = [false; 3];
        for (who, success) in script {
            let Some(row) = fixture.open(id).await else { break };
            if row.status == Status::Pending {
                fixture.send(id, row.attempt + 1, 0).await;
            }
            let attempt = fixture.open(id).await.unwrap().attempt;
            let verdict = if success { Verdict::Success } else { Verdict::Failed };
            fixture.settle(vec![fixture.ack_of(names[who], id, attempt, verdict)]).await;
            has[who] |= success;
            let all = has.iter().all(|has| *has);
            assert_eq!(fixture.open(id).await.is_none(), all, "{has:?}");
        }
    }
}
