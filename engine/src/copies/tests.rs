#![allow(clippy::unwrap_used, reason = "tests")]

use common::db::{Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use stockloop_tests::storage::{Updates, updates_of};
use stockloop_tests::{database::TestDatabase, on_every_database};

use super::*;
use crate::inbox::Detail;
use crate::verify::Keys;

on_every_database!(Shelf::new =>
    the_newest_state_of_each_key_is_kept,
    the_owner_is_told_of_what_is_kept,
);

struct Shelf {
    db: Db,
    env: Env,
    _database: TestDatabase,
}

/// Keeps a text and a flag: `key=text` is a state, `key` alone a tombstone.
struct Labels;

impl Copied for Labels {
    const COLLECTION: &'static str = "labels";
    const FIELDS: &'static [&'static str] = &["text", "loud"];

    fn read(event: &Event) -> Result<CopiedState, String> {
        let text = String::from_utf8(event.data.clone()).map_err(|error| error.to_string())?;
        let (removed, text) = text.strip_prefix('=').map_or((true, ""), |text| (false, text));
        if text == "bad" {
            return Err("it is bad".to_owned());
        }
        let version = CopyVersion { epoch: event.epoch, version: i64::from(event.attempt) };
        let loud = CopiedValue::Flag(text.ends_with('!'));
        let content = vec![CopiedValue::Text(text.to_owned()), loud];
        Ok(CopiedState {
            key: event.key.clone(),
            removed,
            version,
            updated_at: event.time,
            content,
        })
    }

    fn on_changed(_conn: &mut Conn, states: &[&CopiedState]) -> QueryResult<()> {
        assert!(!states.is_empty(), "it is only told of what changed");
        Ok(())
    }
}

impl Shelf {
    fn new(database: TestDatabase) -> Self {
        let db = database.open(&[ENGINE_MIGRATIONS]);
        Self { db, env: Env::system(), _database: database }
    }

    /// Applies events of (key, version, data) in one batch.
    async fn apply(&self, events: &[(&str, i32, &str)]) -> Vec<HandlerOutcome> {
        let events = self.events(events);
        let work = move |conn: &mut Conn| {
            let table = CopyTable::<Labels>::new();
            table.apply(conn, Timestamp::default(), &events)
        };
        self.db.write(work).await.unwrap()
    }

    fn events(&self, events: &[(&str, i32, &str)]) -> Vec<Event> {
        let event = |(key, version, data): &(&str, i32, &str)| Event {
            id: self.env.event_id(),
            event_type: "labelled".to_owned(),
            key: (*key).to_owned(),
            epoch: 1,
            attempt: *version,
            time: Timestamp::from_micros(7),
            traceparent: None,
            data: data.as_bytes().to_vec(),
        };
        events.iter().map(event).collect()
    }

    async fn rows(&self) -> Vec<(String, i64, bool)> {
        let work = |conn: &mut Conn| {
            let fields = ["text".to_owned(), "loud".to_owned()];
            let select = Select {
                keys: Keys::Between(None, None),
                tombstones_since: Timestamp::default(),
                fields: &fields,
                limit: 100,
            };
            let rows = CopyTable::<Labels>::new().rows(conn, &select)?;
            Ok::<_, DbError>(
                rows.into_iter().map(|row| (row.key, row.version, row.removed)).collect(),
            )
        };
        self.db.read(work).await.unwrap()
    }
}

async fn the_newest_state_of_each_key_is_kept(shelf: Shelf) {
    let applied = shelf
        .apply(&[("A", 2, "=new"), ("A", 1, "=old"), ("ä\"'", 1, "=bad"), ("B", 1, "=b")])
        .await;
    let success =
        |detail, version| HandlerOutcome::Success { detail, version: Some(version), result: None };
    assert_eq!(applied[0], success(Detail::Applied, 2));
    assert_eq!(applied[1], success(Detail::Superseded, 2));
    assert!(
        matches!(&applied[2], HandlerOutcome::Failed { error, retryable: false } if error == "it is bad")
    );
    assert_eq!(shelf.apply(&[("A", 2, "=other")]).await, [success(Detail::Superseded, 2)]);
    assert_eq!(shelf.apply(&[("B", 2, ""), ("ä\"'", 1, "=x!")]).await.len(), 2);
    let rows =
        [("A".to_owned(), 2, false), ("B".to_owned(), 2, true), ("ä\"'".to_owned(), 1, false)];
    assert_eq!(shelf.rows().await, rows);
    let keys = ["A".to_owned(), "ä\"'".to_owned()];
    let found = shelf.db.read(move |conn| Ok::<_, DbError>(find(conn, &keys)?)).await.unwrap();
    let texts: Vec<&str> = found.iter().map(|state| state.content[0].as_text()).collect();
    assert_eq!(texts, ["new", "x!"]);
}

async fn the_owner_is_told_of_what_is_kept(shelf: Shelf) {
    shelf.apply(&[("A", 1, "=a"), ("B", 1, "=b")]).await;
    let by_hand = |conn: &mut Conn| {
        conn.batch_execute("UPDATE copied_state SET content = 'no json' WHERE key = 'A'")?;
        Ok::<_, DbError>(())
    };
    shelf.db.write(by_hand).await.unwrap();
    assert_eq!(shelf.rows().await.len(), 2, "what nobody can read is compared, too");
}

#[actix_web::test]
async fn a_newer_state_touches_no_index() {
    let Some(database) = TestDatabase::postgres() else { return };
    let shelf = Shelf::new(database);
    shelf.apply(&[("A", 1, "=a"), ("B", 1, "=b")]).await;
    let newer = shelf.events(&[("A", 2, "=other"), ("B", 2, "")]);
    let work = move |conn: &mut Conn| {
        let table = CopyTable::<Labels>::new();
        updates_of(conn, "copied_state", |conn| table.apply(conn, Timestamp::default(), &newer))
    };
    assert_eq!(shelf.db.write(work).await.unwrap(), Updates { rows: 2, hot: 2 });
}
