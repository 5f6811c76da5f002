//! What is left of consumers that are asked no more.

use super::*;

on_every_database!(OutboxFixture::new =>
    what_one_was_let_off_is_settled_though_it_is_asked_again,
    the_oldest_of_the_others_takes_over_and_nobody_else,
    who_is_retired_holds_nothing_up,
    an_answer_that_overtook_the_note_of_its_send_is_let_off,
    an_old_event_that_waits_hides_nobody_behind_it,
    short_pages_find_all_that_was_answered,
    what_nobody_else_was_asked_about_waits_for_the_others,
);

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
