//! The relay's statements by themselves: that they do to the rows what a relay does.

use stockloop_tests::storage::{Updates, updates_of};

use super::*;

on_every_database!(OutboxFixture::new =>
    the_statements_alone_note_a_backlog_page_by_page,
    a_shard_of_another_relay_is_left_to_it,
);

impl OutboxFixture {
    async fn held(&self) -> LeaseSet {
        renew(&self.db, "measured", Duration::from_secs(60)).await.unwrap()
    }

    /// Lets statements with pages of two events work until a step notes nothing; how many each step noted.
    async fn note_all(&self, held: LeaseSet) -> Vec<usize> {
        let mut statements = RelayStatements::new(self.env.clone(), held, 4, 2);
        self.run(move |conn| {
            let mut noted = Vec::new();
            while noted.last() != Some(&0) && noted.len() < 10 {
                noted.push(statements.run_once(conn)?);
            }
            Ok(noted)
        })
        .await
    }
}

async fn the_statements_alone_note_a_backlog_page_by_page(fixture: OutboxFixture) {
    let mut ids = Vec::new();
    for key in ["A", "B", "C", "D", "E"] {
        ids.push((key, fixture.append(SNAPSHOT, key, 1).await));
    }
    let noted = fixture.note_all(fixture.held().await).await;
    assert_eq!(noted, [2, 2, 1, 0]);
    for (key, id) in ids {
        let open = fixture.open(id).await.unwrap();
        assert_eq!((open.status, open.attempt), (Status::Sent, 1));
        assert_eq!(open.partition, Some(partition_of(shard_of(key), 4)));
    }
    let sent: Vec<i64> = fixture
        .run(|conn| {
            let sent = counter::table.filter(counter::name.eq(counters::SENT));
            on!(conn, c => sent.select(counter::value).load(c))
        })
        .await;
    assert_eq!(sent.iter().sum::<i64>(), 5);
}

async fn a_shard_of_another_relay_is_left_to_it(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    let mut held = fixture.held().await;
    for token in held.tokens.values_mut() {
        *token -= 1;
    }
    assert_eq!(fixture.note_all(held).await, [0]);
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Pending);
}

/// Its rows are few and written again all the time.
#[actix_web::test]
async fn a_count_touches_no_index() {
    let Some(database) = TestDatabase::postgres() else { return };
    let fixture = OutboxFixture::new(database);
    for key in ["A", "B", "C", "D"] {
        fixture.append(SNAPSHOT, key, 1).await;
    }
    let held = fixture.held().await;
    let mut statements = RelayStatements::new(fixture.env.clone(), held, 4, 2);
    let updated = fixture.run(move |conn| {
        // The first one puts the row in.
        statements.run_once(conn)?;
        updates_of(conn, "counter", |conn| statements.run_once(conn))
    });
    assert_eq!(updated.await, Updates { rows: 1, hot: 1 });
}
