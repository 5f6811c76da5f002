//! What may be sent, and by whom.

use std::collections::BTreeSet;

use common::db::Backend;

use super::*;

on_every_database!(OutboxFixture::new =>
    a_late_loser_of_a_lease_writes_nothing,
    leases_are_shared_fairly_and_taken_over,
    one_of_those_that_read_the_log_has_all_shards,
    instances_of_both_settings_leave_no_shard_to_nobody,
    only_what_is_due_and_pending_is_found,
    a_cut_page_holds_what_was_committed_first,
    stale_statistics_make_no_statement_walk,
);

async fn a_late_loser_of_a_lease_writes_nothing(fixture: OutboxFixture) {
    let lease = Duration::from_secs(60);
    let held = renew(&fixture.db, "first", lease).await.unwrap();
    assert_eq!(held.tokens.len(), usize::from(SHARDS.unsigned_abs()));
    let (mine, few) = (held.clone(), BTreeSet::from([3, 7, SHARDS]));
    let shards = fixture.run(move |conn| store::fence(conn, &mine, &few)).await;
    assert_eq!(shards, BTreeSet::from([3, 7]));
    release(&fixture.db, "first").await.unwrap();
    renew(&fixture.db, "second", lease).await.unwrap();
    let lost = fixture.run(move |conn| store::fence(conn, &held, &shards)).await;
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

async fn one_of_those_that_read_the_log_has_all_shards(fixture: OutboxFixture) {
    let held = async |name| shards(&fixture, name, Share::One).await;
    assert_eq!((held("a").await, held("b").await), (64, 0));
    assert_eq!((held("a").await, held("b").await), (64, 0), "it keeps them");
    release(&fixture.db, "a").await.unwrap();
    assert_eq!((held("b").await, held("a").await), (64, 0));
}

/// The setting changes one instance after the other, in either direction.
async fn instances_of_both_settings_leave_no_shard_to_nobody(fixture: OutboxFixture) {
    for (old, new) in [(Share::Fair, Share::One), (Share::One, Share::Fair)] {
        let held = async |name, share| shards(&fixture, name, share).await;
        assert_eq!(held("old", old).await, 64);
        held("new", new).await;
        let mut both = (0, 0);
        for _ in 0..3 {
            both = (held("old", old).await, held("new", new).await);
        }
        assert_eq!(both, (32, 32), "{old:?} beside {new:?}");
        release(&fixture.db, "old").await.unwrap();
        assert_eq!(held("new", new).await, 64);
        release(&fixture.db, "new").await.unwrap();
    }
}

/// How many shards the instance `name` holds after it has renewed them.
async fn shards(fixture: &OutboxFixture, name: &str, share: Share) -> usize {
    renew_share(&fixture.db, name, Duration::from_secs(60), share).await.unwrap().tokens.len()
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
    let mut found: Vec<EventId> = found.iter().map(|row| row.id).collect();
    found.sort_unstable();
    assert_eq!(found, [due, fresh]);
    let other = (row.shard + 1) % SHARDS;
    assert!(fixture.due(std::iter::once(other), Vec::new(), 10).await.is_empty());
}

async fn a_cut_page_holds_what_was_committed_first(fixture: OutboxFixture) {
    let ahead = Env::seeded(Arc::new(ManualClock::at(START.after(Duration::from_secs(60)))), 8);
    let outbox = Outbox::new(ahead.clone(), 5, Spans::off(ahead));
    let event = NewEvent {
        event_type: SNAPSHOT,
        key: "A".to_owned(),
        version: 1,
        payload: "{}".to_owned(),
        traceparent: None,
    };
    let first = fixture.run(move |conn| outbox.append(conn, vec![event])).await[0];
    let second = fixture.append(SNAPSHOT, "A", 2).await;
    assert!(second < first, "its writer's clock is behind");
    let page = fixture.due(0..SHARDS, Vec::new(), 1).await;
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [first]);
    assert_eq!(fixture.due(0..SHARDS, Vec::new(), 2).await.len(), 2);
}

/// A queue that was nearly empty when it was looked at last, and is long now: plans are made for the former.
async fn stale_statistics_make_no_statement_walk(fixture: OutboxFixture) {
    const BACKLOG: usize = 10_000;
    const SENT: usize = 10;
    if fixture.db.backend() == Backend::Sqlite {
        // It keeps no statistics unless it is told to.
        return;
    }
    fixture.by_hand(
        "ALTER TABLE outbox_pending SET (autovacuum_enabled = false);
         ALTER TABLE outbox_failed SET (autovacuum_enabled = false);
         ALTER TABLE outbox_sent SET (autovacuum_enabled = false)",
    );
    fixture.backlog(BACKLOG).await;
    fixture.by_hand(
        "INSERT INTO outbox_failed SELECT id, shard, 0, 1, 5, due_us, 0, 0, 0, size FROM outbox_pending",
    );
    for table in ["outbox_pending", "outbox_failed"] {
        // The last one stays, and with it all pages.
        let newest = format!("(SELECT max(id::text)::uuid FROM {table})");
        fixture.by_hand(&format!("DELETE FROM {table} WHERE id <> {newest}"));
        fixture.by_hand(&format!("VACUUM ANALYZE {table}"));
    }
    let ids = fixture.backlog(BACKLOG).await;
    let (now, first) = (fixture.env.now(), ids[0]);
    let confirmed = |attempt| {
        move |id: &EventId| Confirmation {
            id: *id,
            shard: 0,
            attempt,
            partition: 0,
            offset: Some(1),
            sent_us: now,
        }
    };
    let fresh: Vec<Confirmation> = ids.iter().take(SENT).map(confirmed(1)).collect();
    let walked = fixture
        .walked(move |conn| {
            assert_eq!(store::mark_sent(conn, &fresh)?.len(), SENT);
            Ok(())
        })
        .await;
    assert!(walked <= 5 * SENT, "{walked} rows to mark {SENT}");
    let unknown = fixture.env.event_id();
    let walked = fixture.walked(move |conn| store::lock(conn, &[first, unknown]).map(drop)).await;
    assert!(walked <= 3 * SENT, "{walked} rows to lock one");
    let again: Vec<EventId> = fixture.backlog(BACKLOG).await;
    fixture.by_hand(
        "INSERT INTO outbox_failed SELECT id, shard, 0, 1, 5, due_us, 0, 0, 0, size FROM outbox_pending
         ON CONFLICT DO NOTHING; DELETE FROM outbox_pending",
    );
    let again: Vec<Confirmation> = again.iter().take(SENT).map(confirmed(2)).collect();
    let walked = fixture
        .walked(move |conn| {
            assert_eq!(store::mark_sent(conn, &again)?.len(), SENT);
            Ok(())
        })
        .await;
    assert!(walked <= 5 * SENT, "{walked} rows to mark {SENT} that failed before");
    let reads: Vec<ShardRead> = (0..SHARDS)
        .map(|shard| ShardRead { shard, after: Position::BEGINNING, limit: 100 })
        .collect();
    let walked = fixture
        .walked(move |conn| {
            assert_eq!(store::due(conn, (now, Fresh::All), &reads, None, &[], SENT)?.len(), SENT);
            Ok(())
        })
        .await;
    assert!(walked <= 20 * SENT, "{walked} rows to read {SENT}");
}

#[derive(QueryableByName)]
struct Walked {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    rows: i64,
}

impl OutboxFixture {
    async fn backlog(&self, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for _ in 0..count / 1_000 {
            let outbox = self.outbox.clone();
            let event = |n| NewEvent {
                event_type: COMMAND,
                key: format!("K{n}"),
                version: 0,
                payload: "{}".to_owned(),
                traceparent: None,
            };
            let events = (0..1_000).map(event).collect();
            ids.extend(self.run(move |conn| outbox.append(conn, events)).await);
        }
        ids
    }

    /// How many rows of open events `work` walks over, with the plans of the loop.
    async fn walked(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<()> + Send + 'static,
    ) -> usize {
        let rows = self
            .run(move |conn| {
                conn.plan_by_index()?;
                work(conn)?;
                let sql = "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint AS rows \
                           FROM pg_stat_xact_user_tables \
                           WHERE relname IN ('outbox_pending', 'outbox_sent', 'outbox_failed')";
                let walked: Walked = on!(conn, c => diesel::sql_query(sql).get_result(c))?;
                Ok(walked.rows)
            })
            .await;
        usize::try_from(rows).unwrap()
    }
}
