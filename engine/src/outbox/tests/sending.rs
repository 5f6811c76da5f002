//! What may be sent, and by whom.

use super::*;

on_every_database!(OutboxFixture::new =>
    a_late_loser_of_a_lease_writes_nothing,
    leases_are_shared_fairly_and_taken_over,
    only_what_is_due_and_pending_is_found,
);

async fn a_late_loser_of_a_lease_writes_nothing(fixture: OutboxFixture) {
    let lease = Duration::from_secs(60);
    let held = renew(&fixture.db, "first", lease).await.unwrap();
    assert_eq!(held.tokens.len(), usize::from(SHARDS.unsigned_abs()));
    let mine = held.clone();
    let shards = fixture.run(move |conn| store::fence(conn, &mine)).await;
    assert_eq!(shards.len(), held.tokens.len());
    release(&fixture.db, "first").await.unwrap();
    renew(&fixture.db, "second", lease).await.unwrap();
    let lost = fixture.run(move |conn| store::fence(conn, &held)).await;
    assert!(lost.is_empty(), "another holds the shards by now");
}

async fn leases_are_shared_fairly_and_taken_over(fixture: OutboxFixture) {
    let lease = Duration::from_secs(60);
    let all = renew(&fixture.db, "a", lease).await.unwrap();
    assert!(renew(&fixture.db, "b", lease).await.unwrap().tokens.is_empty(), "nothing is free yet");
    let a = renew(&fixture.db, "a", lease).await.unwrap();
    let b = renew(&fixture.db, "b", lease).await.unwrap();
    assert_eq!((a.tokens.len(), b.tokens.len()), (32, 32));
    for (shard, token) in &b.tokens {
        assert!(token > &all.tokens[shard], "each change of hands raises the token");
    }
    release(&fixture.db, "b").await.unwrap();
    assert_eq!(renew(&fixture.db, "a", lease).await.unwrap().tokens.len(), 64);
}

async fn only_what_is_due_and_pending_is_found(fixture: OutboxFixture) {
    let due = fixture.append(SNAPSHOT, "A", 1).await;
    let sent = fixture.append(SNAPSHOT, "A", 2).await;
    let waiting = fixture.append(SNAPSHOT, "A", 3).await;
    fixture.send(sent, 1, 0).await;
    let row = fixture.open(waiting).await.unwrap();
    let later = START.after(Duration::from_secs(9));
    fixture.force(OpenRow { attempt: 1, due_us: later, ..row.clone() }).await;
    // Never sent: due at once, whatever its writer's clock said.
    let fresh = fixture.append(SNAPSHOT, "A", 4).await;
    let ahead = fixture.open(fresh).await.unwrap();
    fixture.force(OpenRow { due_us: later, ..ahead }).await;
    let found = fixture.due(std::iter::once(row.shard), Vec::new(), 10).await;
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [due, fresh]);
    let other = (row.shard + 1) % SHARDS;
    assert!(fixture.due(std::iter::once(other), Vec::new(), 10).await.is_empty());
}
