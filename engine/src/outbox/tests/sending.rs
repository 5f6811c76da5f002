//! What may be sent, and by whom.

use std::collections::{BTreeSet, HashSet};

use common::db::Backend;

use super::*;

on_every_database!(OutboxFixture::new =>
    a_late_loser_of_a_lease_writes_nothing,
    leases_are_shared_fairly_and_taken_over,
    one_of_those_that_read_the_log_has_all_shards,
    instances_of_both_settings_leave_no_shard_to_nobody,
    only_what_is_due_and_pending_is_found,
    a_cut_page_holds_what_was_committed_first,
    what_is_marked_lies_where_it_was_sent,
    stale_statistics_make_no_statement_walk,
    a_plan_that_is_kept_fits_any_backlog,
    plans_by_index_last_for_one_transaction,
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

async fn what_is_marked_lies_where_it_was_sent(fixture: OutboxFixture) {
    let mut sent = Vec::new();
    for n in 0..12 {
        let id = fixture.append(SNAPSHOT, &format!("K{n}"), 1).await;
        let attempt = 1 + n % 3;
        if attempt > 1 {
            let row = fixture.open(id).await.unwrap();
            fixture.force(OpenRow { attempt: attempt - 1, ..row }).await;
        }
        sent.push(Confirmation {
            id,
            shard: 0,
            attempt,
            partition: 20 - n,
            offset: (n != 6).then_some(i64::from(100 + n)),
            sent_us: START.after(Duration::from_secs(n.unsigned_abs().into())),
        });
    }
    let others = [Confirmation { id: fixture.env.event_id(), ..sent[0] }, sent[3]];
    fixture.send(sent[3].id, 1, 7).await;
    let marked: Vec<Confirmation> =
        sent.iter().filter(|sent| sent.id != others[1].id).copied().collect();
    // Neither in an order, nor only what can be marked.
    let all: Vec<Confirmation> = others.into_iter().chain(marked.iter().rev().copied()).collect();
    let now = START;
    let done = fixture.run(move |conn| store::mark_sent(conn, &all, now)).await;
    let expected: HashSet<EventId> = marked.iter().map(|sent| sent.id).collect();
    assert_eq!(done, expected);
    for sent in &marked {
        let row = fixture.open(sent.id).await.unwrap();
        assert_eq!((row.status, row.attempt), (Status::Sent, sent.attempt));
        assert_eq!((row.partition, row.sent_us), (Some(sent.partition), Some(sent.sent_us)));
        assert_eq!(row.sent_offset, sent.offset, "{sent:?}");
    }
    assert_eq!(fixture.open(others[1].id).await.unwrap().partition, Some(7), "it was SENT before");
    let counted: Vec<i64> = fixture
        .run(|conn| {
            let sent = counter::table.filter(counter::name.eq(counters::SENT));
            on!(conn, c => sent.select(counter::value).load(c))
        })
        .await;
    assert_eq!(counted.iter().sum::<i64>(), 12, "each once, with the one before");
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
            assert_eq!(store::mark_sent(conn, &fresh, now)?.len(), SENT);
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
            assert_eq!(store::mark_sent(conn, &again, now)?.len(), SENT);
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
    // One that has been paused for long, and the answers to all that was settled since.
    fixture.by_hand(
        "ALTER TABLE outbox_answer SET (autovacuum_enabled = false);
         DELETE FROM outbox_pending; DELETE FROM outbox_failed; DELETE FROM outbox_sent",
    );
    let paused = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.clock.advance(Duration::from_secs(1));
    let mut settled = fixture.backlog(BACKLOG).await;
    settled.sort_unstable();
    fixture.by_hand(&format!(
        "INSERT INTO outbox_answer (event_id, consumer, outcome, attempt, processed_us)
           SELECT id, 'order-service', 0, 1, 0 FROM outbox_pending WHERE id <> '{paused}';
         DELETE FROM outbox_pending WHERE id <> '{paused}'"
    ));
    let walked = fixture
        .walked(move |conn| {
            let (consumer, read) = ("order-service", i64::try_from(SENT).unwrap());
            let found = store::answered_and_open(conn, consumer, EventId::NIL, 5, read)?;
            assert_eq!((found.ids, found.next), (vec![], Some(settled[SENT - 1])));
            Ok(())
        })
        .await;
    assert!(walked <= 3 * SENT, "{walked} rows to look at {SENT} answers");
}

/// A connection keeps the plan of the page, which it may have made when there was nothing yet.
async fn a_plan_that_is_kept_fits_any_backlog(fixture: OutboxFixture) {
    const BACKLOG: usize = 10_000;
    const PAGE: usize = 10;
    if fixture.db.backend() == Backend::Sqlite {
        // Its plans do not go by sizes.
        return;
    }
    let (now, outbox) = (fixture.env.now(), fixture.outbox.clone());
    let reads: Vec<ShardRead> = (0..SHARDS)
        .map(|shard| ShardRead { shard, after: Position::BEGINNING, limit: 100 })
        .collect();
    let walked = fixture
        .run(move |conn| {
            conn.plan_by_index()?;
            let due = |conn: &mut Conn| {
                store::due(conn, (now, Fresh::All), &reads, None, &[], PAGE).map(|rows| rows.len())
            };
            // PostgreSQL thinks of one plan for all values from the sixth time on.
            for _ in 0..10 {
                assert_eq!(due(conn)?, 0);
            }
            for _ in 0..BACKLOG / 1_000 {
                outbox.append(conn, commands(1_000))?;
            }
            let before = rows_walked(conn)?;
            assert_eq!(due(conn)?, PAGE);
            Ok(rows_walked(conn)? - before)
        })
        .await;
    assert!(walked <= 5 * i64::try_from(PAGE).unwrap(), "{walked} rows to read {PAGE}");
}

async fn plans_by_index_last_for_one_transaction(fixture: OutboxFixture) {
    if fixture.db.backend() == Backend::Sqlite {
        return;
    }
    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = diesel::sql_types::Text)]
        value: String,
    }
    let sorts = |conn: &mut Conn| {
        let sql = "SELECT current_setting('enable_sort') AS value";
        let set: Setting = on!(conn, c => diesel::sql_query(sql).get_result(c))?;
        QueryResult::Ok(set.value)
    };
    for _ in 0..2 {
        let planned = fixture.db.write_by_index::<_, DbError>(move |conn| Ok(sorts(conn)?)).await;
        assert_eq!(planned.unwrap(), "off");
        assert_eq!(fixture.run(move |conn| conn.read_by_index(sorts)).await, "off", "within one");
        let read = fixture.db.read::<_, DbError>(move |conn| Ok(conn.read_by_index(sorts)?)).await;
        assert_eq!(read.unwrap(), "off");
        assert_eq!(fixture.run(sorts).await, "on");
    }
    let failed = fixture.db.write_by_index::<(), DbError>(|_| Err(DbError::Closed)).await;
    assert!(failed.is_err());
    assert_eq!(fixture.run(sorts).await, "on");
}

fn commands(count: usize) -> Vec<NewEvent> {
    let event = |n| NewEvent {
        event_type: COMMAND,
        key: format!("K{n}"),
        version: 0,
        payload: "{}".to_owned(),
        traceparent: None,
    };
    (0..count).map(event).collect()
}

#[derive(QueryableByName)]
struct Walked {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    rows: i64,
}

/// How many rows of events this transaction walked over.
fn rows_walked(conn: &mut Conn) -> QueryResult<i64> {
    let sql = "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint AS rows FROM pg_stat_xact_user_tables \
               WHERE relname IN ('outbox_event', 'outbox_pending', 'outbox_sent', 'outbox_failed', 'outbox_answer')";
    let walked: Walked = on!(conn, c => diesel::sql_query(sql).get_result(c))?;
    Ok(walked.rows)
}

impl OutboxFixture {
    async fn backlog(&self, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for _ in 0..count / 1_000 {
            let outbox = self.outbox.clone();
            ids.extend(self.run(move |conn| outbox.append(conn, commands(1_000))).await);
        }
        ids
    }

    /// How many rows of events `work` walks over, with the plans of the loop.
    async fn walked(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<()> + Send + 'static,
    ) -> usize {
        let rows = self
            .run(move |conn| {
                conn.plan_by_index()?;
                // The server still holds what this connection's last transactions walked over.
                let before = rows_walked(conn)?;
                work(conn)?;
                Ok(rows_walked(conn)? - before)
            })
            .await;
        usize::try_from(rows).unwrap()
    }
}
