//! The tables of the release before: what is open in them, and who still uses them.

use std::fs;
use std::path::Path;

use common::db::Backend;
use common::schema::{outbox_open, relay_member};

use super::*;

on_every_database!(OutboxFixture::new =>
    what_was_open_lies_in_its_place,
    nothing_is_migrated_beside_instances_that_can_not_bear_it,
);

const BY_PLACE: &str = "2026-11-28-000500_outbox_by_place";

impl OutboxFixture {
    /// Puts the tables back that the release before had, as its `down.sql` does.
    async fn go_back(&self) {
        let backend = match self.db.backend() {
            Backend::Postgres => "postgres",
            Backend::Sqlite => "sqlite",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/common");
        let down = fs::read_to_string(folder.join(backend).join(BY_PLACE).join("down.sql"));
        let down = down.unwrap();
        self.run(move |conn| {
            conn.batch_execute(&down)?;
            conn.batch_execute(
                "DELETE FROM __diesel_schema_migrations WHERE version = '20261128000500'",
            )
        })
        .await;
    }

    async fn opens(&self) -> Vec<OpenRow> {
        self.run(|conn| {
            on!(conn, c => outbox_open::table
                .order(outbox_open::id)
                .select(OpenRow::as_select())
                .load(c))
        })
        .await
    }
}

async fn what_was_open_lies_in_its_place(fixture: OutboxFixture) {
    fixture.append(SNAPSHOT, "A", 1).await;
    let sent = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.send(sent, 1, 3).await;
    let again = fixture.append(SNAPSHOT, "C", 1).await;
    fixture.send(again, 1, 3).await;
    fixture.settle(vec![fixture.ack(again, 1, Verdict::Failed)]).await;
    fixture.exhaust(fixture.append(SNAPSHOT, "D", 1).await, 2).await;
    let before = fixture.opens().await;
    assert_eq!(
        before.iter().map(|row| row.status).collect::<Vec<_>>(),
        [Status::Pending, Status::Sent, Status::Pending, Status::Exhausted]
    );
    fixture.go_back().await;
    assert_eq!(fixture.opens().await, before, "the old table holds them all");
    assert_eq!(fixture.db.migrate(&[ENGINE_MIGRATIONS]).unwrap(), ["20261128000500"]);
    assert_eq!(fixture.opens().await, before);
    fixture.settle(vec![fixture.ack(sent, 1, Verdict::Success)]).await;
    assert_eq!(fixture.opens().await.len(), 3, "and the loop goes on");
}

async fn nothing_is_migrated_beside_instances_that_can_not_bear_it(fixture: OutboxFixture) {
    fixture.go_back().await;
    renew(&fixture.db, "old", Duration::from_secs(600)).await.unwrap();
    let refused = fixture.db.migrate(&[ENGINE_MIGRATIONS]).unwrap_err().to_string();
    assert!(refused.contains("stop them"), "{refused}");
    let old = relay_member::table.find("old");
    fixture.run(move |conn| on!(conn, c => diesel::delete(old).execute(c))).await;
    fixture.db.migrate(&[ENGINE_MIGRATIONS]).unwrap();
}
