//! An owner and a copy in two databases, with a loop that a test turns by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventRow, EventType, NewEvent};
use common::ids::EventId;
use common::on;
use diesel::QueryResult;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::outbox::{change_open, remove_open};

use crate::outbox::Outbox;
use crate::resync::{Resend, Resent, Walked, Which};
use crate::verify::wire::{KeySet, KeyState, RangeDigest, ReplicaInfo, Terms};
use crate::verify::{
    Finding, Keys, Local, NewVerification, Owner, Range, Replica, Row, Select, Side, SideError,
    State, Value, Verification, Verifier, findings, insert,
};

pub(crate) const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const CHANGED: EventType = EventType { name: "shelf.changed", kind: EventKind::Snapshot };

/// A key's state in either database.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct Item {
    #[diesel(sql_type = Text)]
    pub(crate) key: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) epoch: Option<i64>,
    #[diesel(sql_type = BigInt)]
    pub(crate) version: i64,
    #[diesel(sql_type = Bool)]
    pub(crate) removed: bool,
    #[diesel(sql_type = Text)]
    pub(crate) content: String,
    #[diesel(sql_type = BigInt)]
    pub(crate) updated_us: i64,
}

/// What makes the table; `{C}` is for a collation.
pub(crate) const TABLE: &str = "CREATE TABLE item (key TEXT {C} PRIMARY KEY, epoch BIGINT, version BIGINT NOT NULL, \
     removed BOOLEAN NOT NULL, content TEXT NOT NULL, updated_us BIGINT NOT NULL)";

/// What one of the two databases holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Items;

impl Replica for Items {
    fn collection(&self) -> &'static str {
        "items"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["content"]
    }

    fn rows(&self, conn: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<Row>> {
        let keys = match select.keys {
            Keys::Between(..) => Vec::new(),
            Keys::Named(keys) => keys.to_vec(),
        };
        let (after, up_to, named) = match select.keys {
            Keys::Between(after, up_to) => (after, up_to, false),
            Keys::Named(_) => (None, None, true),
        };
        let sql = "SELECT * FROM item ORDER BY key";
        let all: Vec<Item> = on!(conn, c => sql_query(sql)
            .load(c))?;
        let since = select.tombstones_since.micros();
        all.into_iter()
            .filter(|item| named || !item.removed || item.updated_us >= since)
            .filter(|item| after.is_none_or(|after| item.key.as_str() > after))
            .filter(|item| up_to.is_none_or(|up_to| item.key.as_str() <= up_to))
            .filter(|item| !named || keys.contains(&item.key))
            .take(usize::try_from(select.limit).unwrap_or(0))
            .map(|item| {
                let Item { key, epoch, version, removed, content, .. } = item;
                Row::new((key, epoch, version, removed), select.fields, |_| {
                    Some(Value::Text(&content))
                })
            })
            .collect()
    }

    fn forgotten_since(&self, _conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
        Ok(None)
    }
}

impl Owner for Items {
    fn key_after(&self, conn: &mut Conn, after: &str, skip: i64) -> QueryResult<Option<String>> {
        let sql = "SELECT * FROM item WHERE key > $1 ORDER BY key LIMIT 1 OFFSET $2";
        let found: Option<Item> = on!(conn, c => sql_query(sql)
            .bind::<Text, _>(after)
            .bind::<BigInt, _>(skip)
            .get_result(c)
            .optional())?;
        Ok(found.map(|item| item.key))
    }

    fn forgotten_version(&self, _conn: &mut Conn) -> QueryResult<i64> {
        Ok(0)
    }

    fn resend(&self, conn: &mut Conn, resend: &Resend<'_>) -> QueryResult<Resent> {
        let mut resent = Resent::default();
        for wanted in resend.keys {
            let Some(mut item) = item(conn, &wanted.key)? else {
                resent.skipped.push((wanted.key.clone(), "there is none".to_owned()));
                continue;
            };
            if let Some(above) = wanted.above {
                item.version = item.version.max(above) + 1;
                write(conn, &item)?;
            }
            resent.events.push(NewEvent {
                event_type: CHANGED,
                key: item.key,
                version: item.version,
                payload: "{}".to_owned(),
                traceparent: None,
            });
        }
        Ok(resent)
    }

    fn again(&self, kept: &EventRow, _: Option<&str>) -> QueryResult<NewEvent> {
        Ok(NewEvent {
            event_type: CHANGED,
            key: kept.key.clone(),
            version: kept.version,
            payload: kept.payload.clone(),
            traceparent: None,
        })
    }

    fn kept_before(&self, _: &mut Conn, _: &str, _: Timestamp) -> QueryResult<Option<i64>> {
        Ok(None)
    }

    fn next_keys(
        &self,
        conn: &mut Conn,
        after: &str,
        _: &Which,
        limit: i64,
    ) -> QueryResult<Walked> {
        let sql = "SELECT * FROM item WHERE key > $1 ORDER BY key LIMIT $2";
        let found: Vec<Item> = on!(conn, c => sql_query(sql)
            .bind::<Text, _>(after)
            .bind::<BigInt, _>(limit)
            .load(c))?;
        let is_full = i64::try_from(found.len()).unwrap() == limit;
        let keys: Vec<String> = found.into_iter().map(|item| item.key).collect();
        Ok(Walked { cursor: keys.last().filter(|_| is_full).cloned(), keys })
    }
}

/// Both sides, on a clock that stands still.
pub(crate) struct Shelf {
    pub(crate) owner: Db,
    pub(crate) copy: Db,
    pub(crate) clock: ManualClock,
    pub(crate) outbox: Outbox,
    pub(crate) verifier: Verifier,
    _databases: [TestDatabase; 2],
}

impl Shelf {
    pub(crate) async fn made(database: TestDatabase) -> Self {
        // The copy is in the other kind of database: the digests have to be the same.
        let other = TestDatabase::sqlite();
        let (owner, copy) = (database.open(&[ENGINE_MIGRATIONS]), other.open(&[ENGINE_MIGRATIONS]));
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 7);
        let verifier = Verifier::new(&owner, &env, "owner", Arc::new(Items));
        let outbox = Outbox::new(env.clone(), 5, common::telemetry::Spans::off(env));
        let shelf = Self { owner, copy, clock, outbox, verifier, _databases: [database, other] };
        for db in [&shelf.owner, &shelf.copy] {
            run(db, |conn| {
                let collation = if matches!(conn, Conn::Pg(_)) { "COLLATE \"C\"" } else { "" };
                conn.batch_execute(&TABLE.replace("{C}", collation))
            })
            .await;
        }
        shelf
    }

    /// The owner's next version of a key, with its event.
    pub(crate) async fn change(&self, key: &str, content: &str, removed: bool) -> EventId {
        let (outbox, now) = (self.outbox.clone(), self.clock_now());
        let (key, content) = (key.to_owned(), content.to_owned());
        run(&self.owner, move |conn| {
            let version = item(conn, &key)?.map_or(1, |item| item.version + 1);
            let item = Item {
                key: key.clone(),
                epoch: None,
                version,
                removed,
                content,
                updated_us: now.micros(),
            };
            write(conn, &item)?;
            let event = NewEvent {
                event_type: CHANGED,
                key,
                version,
                payload: "{}".to_owned(),
                traceparent: None,
            };
            Ok(outbox.append(conn, vec![event])?[0])
        })
        .await
    }

    /// The copy takes the owner's present state of a key.
    pub(crate) async fn deliver(&self, key: &str) {
        let wanted = key.to_owned();
        let Some(state) = run(&self.owner, move |conn| item(conn, &wanted)).await else { return };
        self.deliver_state(state).await;
    }

    /// The copy takes a state, if it is newer than what it has.
    pub(crate) async fn deliver_state(&self, state: Item) {
        run(&self.copy, move |conn| {
            let held = item(conn, &state.key)?.map_or(0, |item| item.version);
            if held < state.version {
                write(conn, &Item { epoch: Some(1), ..state })?;
            }
            Ok(())
        })
        .await;
    }

    pub(crate) async fn settle(&self, event: EventId) {
        run(&self.owner, move |conn| remove_open(conn, event)).await;
    }

    pub(crate) async fn give_up(&self, event: EventId) {
        run(&self.owner, move |conn| change_open(conn, event, |open| open.status = 2)).await;
    }

    /// A change that has come all the way.
    pub(crate) async fn arrived(&self, key: &str, content: &str) {
        let event = self.change(key, content, false).await;
        self.deliver(key).await;
        self.settle(event).await;
    }

    /// Many keys that both sides have alike, written by hand.
    pub(crate) async fn fill(&self, keys: Vec<String>) {
        let items: Vec<Item> = keys
            .into_iter()
            .map(|key| Item {
                content: format!("about {key}"),
                key,
                epoch: Some(1),
                version: 1,
                removed: false,
                updated_us: START.micros(),
            })
            .collect();
        for db in [&self.owner, &self.copy] {
            let items = items.clone();
            run(db, move |conn| items.iter().try_for_each(|item| write(conn, item))).await;
        }
    }

    /// Somebody works in the copy by hand.
    pub(crate) async fn damage(&self, sql: &str) {
        let sql = sql.to_owned();
        run(&self.copy, move |conn| conn.batch_execute(&sql)).await;
    }

    pub(crate) fn consumer(&self) -> Local {
        Local::of("copy", &self.copy, Arc::new(Items), Timestamp::default())
    }

    /// Puts a verification of all keys down, or of the differences of an earlier one.
    pub(crate) async fn ask(&self, keys_of: Option<i64>) -> i64 {
        let new = NewVerification {
            consumer: "copy".to_owned(),
            keys_of,
            share: 1_000,
            state: State::Waiting,
            created_us: self.clock_now(),
            created_by: "anna".to_owned(),
            created_via: "session".to_owned(),
        };
        run(&self.owner, move |conn| insert(conn, &new)).await.unwrap()
    }

    /// Makes steps until the verification has ended, with time passing between them.
    pub(crate) async fn until_ended<C: Side>(&self, seq: i64, consumer: &C) -> Verification {
        for _ in 0..10_000 {
            self.verifier.run_once(only(consumer)).await.unwrap();
            let row = self.row(seq).await;
            if !row.state.is_open() {
                return row;
            }
            self.clock.advance(Duration::from_millis(500));
        }
        panic!("the verification does not end");
    }

    pub(crate) async fn row(&self, seq: i64) -> Verification {
        run(&self.owner, move |conn| crate::verify::find(conn, seq)).await.unwrap()
    }

    /// What was found, as (key, finding).
    pub(crate) async fn found(&self, seq: i64) -> Vec<(String, Finding)> {
        let read = move |conn: &mut Conn| {
            let mut all = findings(conn, seq, true, "", 1_000_000)?;
            all.extend(findings(conn, seq, false, "", 1_000_000)?);
            Ok(all)
        };
        run(&self.owner, read).await.into_iter().map(|one| (one.key, one.finding)).collect()
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.verifier.env.now()
    }
}

pub(crate) async fn run<T: Send + 'static>(
    db: &Db,
    work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
) -> T {
    db.write(|conn| work(conn).map_err(DbError::from)).await.unwrap()
}

pub(crate) fn item(conn: &mut Conn, key: &str) -> QueryResult<Option<Item>> {
    on!(conn, c => sql_query("SELECT * FROM item WHERE key = $1")
        .bind::<Text, _>(key)
        .get_result(c)
        .optional())
}

fn write(conn: &mut Conn, item: &Item) -> QueryResult<()> {
    on!(conn, c => {
        sql_query("DELETE FROM item WHERE key = $1").bind::<Text, _>(&item.key).execute(c)?;
        sql_query("INSERT INTO item (key, epoch, version, removed, content, updated_us) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind::<Text, _>(&item.key)
            .bind::<Nullable<BigInt>, _>(item.epoch)
            .bind::<BigInt, _>(item.version)
            .bind::<Bool, _>(item.removed)
            .bind::<Text, _>(&item.content)
            .bind::<BigInt, _>(item.updated_us)
            .execute(c)?;
    });
    Ok(())
}

/// A consumer that lies, or does not answer.
pub(crate) struct Strange<F> {
    pub(crate) inner: Local,
    pub(crate) answer: F,
    pub(crate) is_away: AtomicBool,
}

impl<F: Fn(&mut Vec<KeyState>, &mut Vec<RangeDigest>) + Send + Sync> Side for Strange<F> {
    async fn info(&self) -> Result<ReplicaInfo, SideError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(SideError::Away {
                section: "peer".to_owned(),
                consumer: "copy".to_owned(),
                url: "http://copy".to_owned(),
                reason: "connection refused".to_owned(),
            }),
            false => self.inner.info().await,
        }
    }

    async fn digests(
        &self,
        terms: &Terms,
        ranges: &[Range],
        at_most: i64,
    ) -> Result<Vec<RangeDigest>, SideError> {
        let mut digests = self.inner.digests(terms, ranges, at_most).await?;
        (self.answer)(&mut Vec::new(), &mut digests);
        Ok(digests)
    }

    async fn states(&self, terms: &Terms, of: &KeySet) -> Result<(Vec<KeyState>, bool), SideError> {
        let (mut states, more) = self.inner.states(terms, of).await?;
        (self.answer)(&mut states, &mut Vec::new());
        Ok((states, more))
    }
}

/// Whoever is asked, this one answers.
pub(super) fn only<'a, C>(consumer: &'a C) -> impl Fn(&str) -> Option<&'a C> {
    move |_| Some(consumer)
}
