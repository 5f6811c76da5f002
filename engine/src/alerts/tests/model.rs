use common::db::Conn;
use common::event::EventKind;
use common::ids::EventId;
use diesel::sql_types::BigInt;
use diesel::{QueryResult, QueryableByName, RunQueryDsl, sql_query};
use stockloop_tests::on_every_database;

use super::{Fixture, START, event, event_id};
use crate::alerts::{
    AlertFilter, AlertKind, NewAlert, SilentPartitions, close, close_kind, list, raise, raise_all,
    superseded_by,
};

on_every_database!(Fixture::new =>
    an_exhaustion_has_one_alert,
    closes_what_arrived,
    closes_what_is_superseded,
    closes_many_at_once,
    a_version_above_its_source_is_told_once,
    a_silence_ends,
    lists_by_pages,
    looks_at_little_however_many_there_are,
);

const OPEN: AlertFilter = AlertFilter {
    open: Some(true),
    state: None,
    kind: None,
    key: None,
    event_id: None,
    mail: None,
    webhook: None,
};

async fn open_events(fixture: &Fixture) -> Vec<EventId> {
    let open = fixture.list(OPEN).await;
    let mut events: Vec<EventId> = open.iter().filter_map(|alert| alert.event_id).collect();
    events.sort_unstable();
    events
}

async fn an_exhaustion_has_one_alert(fixture: Fixture) {
    let row = event(1, "A", 1);
    fixture.exhaust(&row).await;
    let again = NewAlert::exhausted(&row.facts(), 5, "another word for it");
    let later = NewAlert::exhausted(&row.facts(), 10, "after a retry");
    assert!(!fixture.write(|conn| raise(conn, START, again)).await);
    assert!(fixture.write(|conn| raise(conn, START, later)).await);
    let alerts = fixture.list(AlertFilter { event_id: Some(row.id), ..OPEN }).await;
    let attempts: Vec<_> = alerts.iter().map(|alert| alert.attempt).collect();
    assert_eq!(attempts, [Some(10), Some(5)]);
    assert_eq!(alerts[1].error.as_deref(), Some("the SKU is in quarantine"));
}

async fn closes_what_arrived(fixture: Fixture) {
    fixture.exhaust_many(0, 3).await;
    let arrived = [event_id(0), event_id(2), event_id(99)];
    let closed = fixture.write(move |conn| close(conn, START, &arrived, "processed")).await;
    assert_eq!(closed, 2);
    assert_eq!(open_events(&fixture).await, [event_id(1)]);
    let again = fixture.write(move |conn| close(conn, START, &arrived, "again")).await;
    assert_eq!(again, 0);
    let all = fixture.list(AlertFilter::default()).await;
    assert_eq!(all[0].closed_because.as_deref(), Some("processed"));
    assert_eq!(all[0].closed_at, Some(START));
}

async fn closes_what_is_superseded(fixture: Fixture) {
    let mut command = event(3, "A", 1);
    command.kind = EventKind::Command;
    let mut restored = event(4, "A", 1);
    restored.epoch = 2;
    for row in [event(0, "A", 7), event(1, "A", 8), event(2, "B", 1), command, restored] {
        fixture.exhaust(&row).await;
    }
    let newest = vec![("C".to_owned(), 9, 9), ("A".to_owned(), 1, 8)];
    let found = fixture.write(move |conn| close_found(conn, &newest)).await;
    assert_eq!(found, [event_id(0)], "older than 8, a snapshot, of this key and epoch");
    let newest = vec![("A".to_owned(), 2, 1), ("A".to_owned(), 1, 9)];
    let found = fixture.write(move |conn| close_found(conn, &newest)).await;
    assert_eq!(found, [event_id(1)], "an epoch beats a version, and once is enough");
    assert_eq!(open_events(&fixture).await, [event_id(2), event_id(3), event_id(4)]);
}

/// What a settlement does with what it supersedes.
fn close_found(conn: &mut Conn, newest: &[(String, i64, i64)]) -> QueryResult<Vec<EventId>> {
    let found = superseded_by(conn, newest, 10_000)?;
    close(conn, START, &found, "superseded")?;
    Ok(found)
}

async fn closes_many_at_once(fixture: Fixture) {
    let rows: Vec<_> = (0..2_500).map(|n| event(n, &format!("K{n}"), 1)).collect();
    let alerts: Vec<_> =
        rows.iter().map(|row| NewAlert::exhausted(&row.facts(), 1, "down")).collect();
    assert_eq!(fixture.write(|conn| raise_all(conn, START, alerts)).await, 2_500);
    let newest: Vec<_> = (0..2_400).map(|n| (format!("K{n}"), 1, 2)).collect();
    let found = fixture.write(move |conn| close_found(conn, &newest)).await;
    assert_eq!(found.len(), 2_400);
    let events: Vec<_> = rows.iter().map(|row| row.id).collect();
    let closed = fixture.write(move |conn| close(conn, START, &events, "processed")).await;
    assert_eq!(closed, 100);
}

async fn a_version_above_its_source_is_told_once(fixture: Fixture) {
    let row = event(1, "A", 7);
    fixture.exhaust(&row).await;
    let above = || vec![NewAlert::version_above_source(&event(1, "A", 7).facts(), 9); 2];
    assert_eq!(fixture.write(move |conn| raise_all(conn, START, above())).await, 1);
    assert_eq!(fixture.write(move |conn| raise_all(conn, START, above())).await, 0);
    // The answer that tells of it also settles its event: that must not close it.
    assert_eq!(fixture.write(|conn| close(conn, START, &[event_id(1)], "processed")).await, 1);
    let open = fixture.list(OPEN).await;
    assert_eq!(open[0].kind, "version_above_source");
    assert_eq!(open[0].subject, "the copy has version 9, its source only 7");
    let kind = AlertKind::VersionAboveSource;
    let closed = fixture.write(move |conn| close_kind(conn, START, kind, Some("B"), "caught up"));
    assert_eq!(closed.await, 0);
    let closed = fixture.write(move |conn| close_kind(conn, START, kind, Some("A"), "caught up"));
    assert_eq!(closed.await, 1);
    assert_eq!(fixture.write(move |conn| raise_all(conn, START, above())).await, 1);
}

async fn a_silence_ends(fixture: Fixture) {
    let silence = NewAlert::silent(&SilentPartitions {
        topic: "stockloop.inventory.v1",
        partitions: &[0, 3],
        consumer: "order-service",
        since: START,
        waiting: Some(1_234),
    });
    fixture.exhaust_many(0, 1).await;
    assert!(fixture.write(|conn| raise(conn, START, silence)).await);
    let filter = AlertFilter { kind: Some(AlertKind::Silent), ..OPEN };
    assert_eq!(
        fixture.list(filter).await[0].subject,
        "order-service has not answered since 2010-12-01 08:26:00 UTC \
         (topic stockloop.inventory.v1, partitions 0, 3; 1234 events wait)"
    );
    let kind = AlertKind::Silent;
    let closed = fixture.write(move |conn| close_kind(conn, START, kind, None, "answered")).await;
    assert_eq!(closed, 1);
    assert_eq!(open_events(&fixture).await, [event_id(0)]);
}

async fn lists_by_pages(fixture: Fixture) {
    fixture.exhaust_many(0, 5).await;
    fixture.write(|conn| close(conn, START, &[event_id(3)], "processed")).await;
    let page = |after| fixture.write(move |conn| list(conn, START, &OPEN, after, 3));
    let first = page(None).await;
    let second = page(Some(first[2].seq)).await;
    let keys: Vec<_> = first.iter().chain(&second).filter_map(|a| a.key.clone()).collect();
    assert_eq!(keys, ["K4", "K2", "K1", "K0"]);
    let closed = AlertFilter { open: Some(false), ..OPEN };
    assert_eq!(fixture.list(closed).await.len(), 1);
    insta::assert_json_snapshot!("alert_as_json", second[0]);
}

/// Settling calls these with every batch, so many alerts must not make them slow, open or closed, whatever the
/// planner once knew.
async fn looks_at_little_however_many_there_are(fixture: Fixture) {
    fixture.exhaust(&event(0, "first", 1)).await;
    fixture
        .write(|conn| {
            // Enough times for PostgreSQL to keep plans, made while the table is as good as empty.
            (0..20).for_each(|_| settle(conn, 1, "K1"));
            let many = (1..20_000)
                .map(|n| NewAlert::exhausted(&event(n, &format!("K{n}"), 1).facts(), 1, "x"));
            raise_all(conn, START, many.collect())?;
            let before = rows_read(conn)?;
            (1..21).for_each(|n| settle(conn, n, &format!("K{}", n + 100)));
            let with_many_open = rows_read(conn)?;
            close_kind(conn, START, AlertKind::Exhausted, None, "processed")?;
            let closed = rows_read(conn)?;
            (0..20).for_each(|_| settle(conn, 1, "K1"));
            let with_none_open = rows_read(conn)?;
            assert!(with_many_open - before < 500, "{}", with_many_open - before);
            // In one transaction the index keeps its dead entries; nothing is read but those.
            assert_eq!(with_none_open - closed, 0);
            Ok(())
        })
        .await;
}

/// What settling one event does.
fn settle(conn: &mut Conn, n: u32, key: &str) {
    let newest = [(key.to_owned(), 9, 9)];
    close(conn, START, &[event_id(n)], "processed").unwrap();
    superseded_by(conn, &newest, 1_000).unwrap();
}

/// Rows of alerts that this transaction has read, where the database counts them.
fn rows_read(conn: &mut Conn) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Read {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let Conn::Pg(c) = conn else { return Ok(0) };
    sql_query(
        "SELECT seq_tup_read + idx_tup_fetch AS rows FROM pg_stat_xact_user_tables WHERE relname = 'alert'",
    )
    .get_result::<Read>(c)
    .map(|read| read.rows)
}
