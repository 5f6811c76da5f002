//! Whose answer ends an event, and who is blamed for one that has not come.

use common::schema::outbox_settled;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;

on_every_database!(OutboxFixture::new =>
    an_event_is_processed_once_all_have_answered,
    whoever_fails_is_blamed_and_all_get_it_again,
    what_is_rejected_by_one_is_rejected,
    a_snapshot_that_one_rejects_waits_for_a_person,
    a_failure_after_an_answer_is_nothing_new,
    one_that_came_later_owes_nothing_of_before,
    whoever_passes_an_event_by_is_told_by_name,
    a_silence_ends_with_the_role,
    a_silence_is_that_of_one,
    every_order_of_answers_ends_the_same,
);

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
    assert_eq!(
        fixture.history(id).await,
        [],
        "a command may be rejected, also before others answer"
    );
}

/// A state can't be answered no: from whoever says so that is a failure for good, not the answer that others wait for.
async fn a_snapshot_that_one_rejects_waits_for_a_person(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.sent("A").await;
    fixture.settle(vec![fixture.ack_of(SEARCH, id, 1, Verdict::Rejected)]).await;
    assert_eq!(fixture.status_of(id).await, Status::Exhausted);
    assert_eq!(fixture.said(id).await, [(SEARCH.to_owned(), Said::Failed, 1)]);
    assert_eq!(fixture.history(id).await, [(1, "REJECTED".to_owned())]);
    fixture.settle(vec![fixture.ack_of(FIRST, id, 1, Verdict::Success)]).await;
    assert_eq!(fixture.status_of(id).await, Status::Exhausted);
}

/// What a consumer says after its answer for good is neither a failure nor another answer.
async fn a_failure_after_an_answer_is_nothing_new(fixture: OutboxFixture) {
    fixture.register(SEARCH, Role::Required).await;
    let id = fixture.sent("A").await;
    let success = fixture.ack_of(FIRST, id, 1, Verdict::Success);
    let [failed, rejected] =
        [Verdict::Failed, Verdict::Rejected].map(|said| fixture.ack_of(FIRST, id, 1, said));
    fixture.settle(vec![success, Ack { retryable: false, ..failed }, rejected]).await;
    assert_eq!(fixture.status_of(id).await, Status::Sent);
    assert_eq!(fixture.said(id).await, [(FIRST.to_owned(), Said::Success, 0)]);
    let late = (1, "LATE".to_owned());
    assert_eq!(fixture.history(id).await, [late.clone(), late]);
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
