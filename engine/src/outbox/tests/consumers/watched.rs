//! Consumers that are watched: they hold nothing up, and are seen to be behind, to fail and to be silent.

use super::*;
use crate::outbox::{Behind, behind};

on_every_database!(OutboxFixture::new =>
    a_watched_one_never_blocks_and_is_seen_to_fail,
    a_watched_one_that_lies_is_set_aside,
    a_watched_one_begins_where_others_are,
    a_watched_one_that_is_silent_is_told_once,
);

async fn a_watched_one_never_blocks_and_is_seen_to_fail(fixture: OutboxFixture) {
    fixture.register(REPORTS, Role::Watched).await;
    let id = fixture.sent("A").await;
    let failed = fixture.ack_of(REPORTS, id, 1, Verdict::Failed);
    let settlement = fixture.settle(vec![failed.clone(), failed]).await;
    assert_eq!((settlement.foreign, settlement.advanced.again), (0, 0));
    assert_eq!(fixture.status_of(id).await, Status::Sent);
    assert_eq!(fixture.said(id).await, [(REPORTS.to_owned(), Said::Failed, 1)]);
    let done = fixture.settle(vec![fixture.ack_of(FIRST, id, 1, Verdict::Success)]).await;
    assert_eq!(done.advanced.settled.len(), 1);
    fixture.settle(vec![fixture.ack_of(REPORTS, id, 1, Verdict::Success)]).await;
    let said = fixture.said(id).await;
    assert!(said.iter().all(|(_, outcome, _)| *outcome == Said::Success), "{said:?}");
    let unknown = fixture.ack_of(REPORTS, fixture.env.event_id(), 1, Verdict::Failed);
    let id = unknown.event_id;
    fixture.settle(vec![unknown]).await;
    assert_eq!(fixture.said(id).await, [], "of what is not known nothing is kept");
}

/// What a database can't keep is a dead letter; the answers beside it count.
async fn a_watched_one_that_lies_is_set_aside(fixture: OutboxFixture) {
    fixture.register(REPORTS, Role::Watched).await;
    let id = fixture.sent("A").await;
    let lie = Ack {
        detail: Some("a\0".to_owned()),
        partition: Some(i32::MAX),
        offset: Some(i64::MAX),
        ..fixture.ack_of(REPORTS, id, i32::MAX, Verdict::Failed)
    };
    let settlement =
        fixture.settle(vec![lie, fixture.ack_of(FIRST, id, 1, Verdict::Success)]).await;
    assert_eq!(settlement.advanced.settled.len(), 1);
    let places: i64 = fixture
        .run(|conn| {
            on!(conn, c => consumer_partition::table
                .filter(consumer_partition::consumer.eq(REPORTS))
                .count()
                .get_result(c))
        })
        .await;
    assert_eq!(places, 0, "of a partition that nobody knows nothing is kept");
}

/// One that is registered while all is quiet is not behind: nothing of before is expected of it.
async fn a_watched_one_begins_where_others_are(fixture: OutboxFixture) {
    let at = |ack: Ack| Ack { partition: Some(0), offset: Some(0), ..ack };
    let id = fixture.sent("A").await;
    fixture.settle(vec![at(fixture.ack_of(FIRST, id, 1, Verdict::Success))]).await;
    let answered = fixture.env.now();
    fixture.clock.advance(Duration::from_secs(60));
    fixture.register(REPORTS, Role::Watched).await;
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_secs(31));
        assert_eq!(fixture.monitor().take_silent().await.unwrap(), (0, vec![]));
    }
    assert_eq!(fixture.alerts().await, []);
    let behind = async || fixture.run(|conn| behind(conn, TOPIC, REPORTS)).await;
    let unknown = Behind { partition: 0, offsets: 1, has_answered: false, reached_at: answered };
    assert_eq!(behind().await, [unknown], "but what it has is not known");
    fixture.settle(vec![at(fixture.ack_of(REPORTS, id, 1, Verdict::Success))]).await;
    assert_eq!(behind().await, []);
    let later = [fixture.sent("B").await, fixture.sent("C").await];
    for (offset, id) in (1..).zip(later) {
        let ack = fixture.ack_of(FIRST, id, 1, Verdict::Success);
        fixture.settle(vec![Ack { partition: Some(0), offset: Some(offset), ..ack }]).await;
    }
    fixture.set_role(REPORTS, Role::Required).await;
    fixture.set_role(REPORTS, Role::Watched).await;
    let reached_at = fixture.env.now();
    let by = |offsets| [Behind { partition: 0, offsets, has_answered: true, reached_at }];
    assert_eq!(behind().await, by(2));
    let ack = fixture.ack_of(REPORTS, later[0], 1, Verdict::Success);
    fixture.settle(vec![Ack { partition: Some(0), offset: Some(1), ..ack }]).await;
    assert_eq!(behind().await, by(1));
}

async fn a_watched_one_that_is_silent_is_told_once(fixture: OutboxFixture) {
    fixture.register(REPORTS, Role::Watched).await;
    let monitor = fixture.monitor();
    let id = fixture.sent("A").await;
    let at = |ack: Ack| Ack { partition: Some(0), offset: Some(0), ..ack };
    fixture.settle(vec![at(fixture.ack_of(FIRST, id, 1, Verdict::Success))]).await;
    assert_eq!(monitor.take_silent().await.unwrap(), (0, vec![]));
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_secs(31));
        assert_eq!(monitor.take_silent().await.unwrap(), (1, vec![]), "and gets no probe");
    }
    assert_eq!(fixture.alerts().await.len(), 1);
    fixture.settle(vec![at(fixture.ack_of(REPORTS, id, 1, Verdict::Success))]).await;
    assert_eq!(monitor.take_silent().await.unwrap(), (0, vec![]));
    assert!(fixture.alerts().await[0].2.is_some(), "it answers again");
}
