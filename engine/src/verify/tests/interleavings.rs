//! Changes, deliveries, answers and damage by hand, in between the very looks of a verification.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use common::ids::EventId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stockloop_tests::database::TestDatabase;

use super::fixture::{Item, Shelf, item, run};
use crate::verify::wire::{KeySet, KeyState, RangeDigest, ReplicaInfo, Terms};
use crate::verify::{Finding, Local, Range, Side, SideError, State};

const KEYS: [&str; 3] = ["A", "B", "C"];

/// What may come between two looks.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// The owner changes or removes a key.
    Change { key: usize, removed: bool },
    /// The oldest event that is on its way is applied, or answered, whichever is next for it.
    Advance,
    /// The newest one overtakes the others.
    Overtake,
    /// A change comes all the way at once, and whatever was on its way of its key before.
    Arrive { key: usize },
    /// What follows comes after the next look.
    Look,
    /// Somebody deletes a copy.
    Delete { key: usize },
    /// Somebody writes into a copy.
    Edit { key: usize },
}

impl Deed {
    fn key(&self) -> Option<&'static str> {
        match self {
            Self::Change { key, .. }
            | Self::Arrive { key }
            | Self::Delete { key }
            | Self::Edit { key } => Some(KEYS[*key]),
            Self::Advance | Self::Overtake | Self::Look => None,
        }
    }
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let key = 0..KEYS.len();
    let deed = prop_oneof![
        4 => (key.clone(), any::<bool>()).prop_map(|(key, removed)| Deed::Change { key, removed }),
        8 => Just(Deed::Advance),
        2 => Just(Deed::Overtake),
        3 => key.clone().prop_map(|key| Deed::Arrive { key }),
        4 => Just(Deed::Look),
        1 => key.clone().prop_map(|key| Deed::Delete { key }),
        1 => key.prop_map(|key| Deed::Edit { key }),
    ];
    proptest::collection::vec(deed, 0..60)
}

/// An event on its way: applied once it is delivered, settled after that.
struct Underway {
    id: EventId,
    state: Item,
    is_applied: bool,
}

/// The loop and the people around it; what of each key only damage can explain.
struct World<'a> {
    shelf: &'a Shelf,
    todo: Mutex<VecDeque<Deed>>,
    under_way: Mutex<Vec<Underway>>,
    damaged: Mutex<BTreeSet<String>>,
    number: Mutex<u32>,
}

impl World<'_> {
    /// Does what comes before the next look.
    async fn turn(&self) {
        loop {
            let deed = self.todo.lock().unwrap().pop_front();
            match deed {
                Some(Deed::Look) | None => return,
                Some(deed) => self.act(deed).await,
            }
        }
    }

    async fn act(&self, deed: Deed) {
        match deed {
            Deed::Change { key, removed } => self.change(KEYS[key], removed).await,
            Deed::Advance => self.advance(0).await,
            Deed::Overtake => {
                let last = self.under_way.lock().unwrap().len().saturating_sub(1);
                self.advance(last).await;
            }
            Deed::Arrive { key } => {
                self.change(KEYS[key], false).await;
                while let Some(place) = self.place_of(KEYS[key]) {
                    self.advance(place).await;
                }
            }
            Deed::Look => {}
            Deed::Delete { key } => {
                self.damage(KEYS[key], "DELETE FROM item WHERE key = ").await;
            }
            Deed::Edit { key } => {
                self.damage(KEYS[key], "UPDATE item SET content = 'by hand' WHERE key = ").await;
            }
        }
    }

    async fn change(&self, key: &str, removed: bool) {
        let content = {
            let mut number = self.number.lock().unwrap();
            *number += 1;
            number.to_string()
        };
        let id = self.shelf.change(key, &content, removed).await;
        let wanted = key.to_owned();
        let state = run(&self.shelf.owner, move |conn| item(conn, &wanted)).await.unwrap();
        self.under_way.lock().unwrap().push(Underway { id, state, is_applied: false });
    }

    fn place_of(&self, key: &str) -> Option<usize> {
        self.under_way.lock().unwrap().iter().position(|event| event.state.key == key)
    }

    async fn advance(&self, place: usize) {
        let (id, state, settles) = {
            let mut under_way = self.under_way.lock().unwrap();
            let Some(event) = under_way.get_mut(place) else { return };
            let settles = event.is_applied;
            event.is_applied = true;
            let found = (event.id, event.state.clone(), settles);
            if settles {
                under_way.remove(place);
            }
            found
        };
        match settles {
            true => self.shelf.settle(id).await,
            false => self.shelf.deliver_state(state).await,
        }
    }

    async fn damage(&self, key: &str, sql: &str) {
        self.damaged.lock().unwrap().insert(key.to_owned());
        self.shelf.damage(&format!("{sql}'{key}'")).await;
    }

    /// The keys in which the copy is not what the owner has.
    async fn different(&self) -> BTreeSet<String> {
        let mut different = BTreeSet::new();
        for key in KEYS {
            let of = move |conn: &mut _| item(conn, key);
            let own = run(&self.shelf.owner, of).await;
            let copy = run(&self.shelf.copy, of).await;
            let same = |item: &Item| (item.version, item.removed, item.content.clone());
            if own.as_ref().map(same) != copy.as_ref().map(same) {
                different.insert(key.to_owned());
            }
        }
        different
    }
}

/// The copy, before and after whose answers the world turns.
struct Turning<'a> {
    inner: Local,
    world: &'a World<'a>,
}

impl Side for Turning<'_> {
    async fn info(&self) -> Result<ReplicaInfo, SideError> {
        self.world.turn().await;
        self.inner.info().await
    }

    async fn digests(
        &self,
        terms: &Terms,
        ranges: &[Range],
        at_most: i64,
    ) -> Result<Vec<RangeDigest>, SideError> {
        self.world.turn().await;
        self.inner.digests(terms, ranges, at_most).await
    }

    async fn states(&self, terms: &Terms, of: &KeySet) -> Result<(Vec<KeyState>, bool), SideError> {
        self.world.turn().await;
        let states = self.inner.states(terms, of).await;
        self.world.turn().await;
        states
    }
}

fn check(database: impl Fn() -> TestDatabase, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let cases = (deeds(), deeds());
    runner
        .run(&cases, |(before, during)| {
            let shelf = runtime.block_on(Shelf::made(database()));
            runtime.block_on(one_case(&shelf, before, during));
            Ok(())
        })
        .unwrap();
}

async fn one_case(shelf: &Shelf, before: Vec<Deed>, during: Vec<Deed>) {
    let world = World {
        shelf,
        todo: Mutex::default(),
        under_way: Mutex::default(),
        damaged: Mutex::default(),
        number: Mutex::default(),
    };
    for deed in before {
        world.act(deed).await;
    }
    let touched: BTreeSet<&str> = during.iter().filter_map(Deed::key).collect();
    let on_its_way: BTreeSet<String> =
        world.under_way.lock().unwrap().iter().map(|event| event.state.key.clone()).collect();
    let lasting: BTreeSet<String> = world
        .different()
        .await
        .into_iter()
        .filter(|key| !touched.contains(key.as_str()) && !on_its_way.contains(key))
        .collect();
    *world.todo.lock().unwrap() = during.into();

    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &Turning { inner: shelf.consumer(), world: &world }).await;
    let found = shelf.found(seq).await;
    let differences: BTreeSet<String> = found
        .iter()
        .filter(|(_, finding)| *finding != Finding::Waiting)
        .map(|(key, _)| key.clone())
        .collect();
    let damaged = world.damaged.lock().unwrap().clone();
    assert!(differences.is_subset(&damaged), "false: {differences:?}, damaged {damaged:?}");
    assert!(lasting.is_subset(&differences), "missed: {lasting:?}, found {found:?}");
    assert_eq!(row.state == State::Different, !differences.is_empty());

    // All that is on its way arrives, and then the verdict is exact.
    while !world.todo.lock().unwrap().is_empty() {
        world.turn().await;
    }
    while !world.under_way.lock().unwrap().is_empty() {
        world.advance(0).await;
    }
    let seq = shelf.ask(None).await;
    shelf.until_ended(seq, &shelf.consumer()).await;
    let found: BTreeSet<String> = shelf.found(seq).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, world.different().await);
}

#[test]
fn no_interleaving_tells_a_false_difference_or_misses_one() {
    check(TestDatabase::sqlite, 96);
}

#[test]
fn no_interleaving_does_on_postgres() {
    if TestDatabase::postgres().is_some() {
        check(|| TestDatabase::postgres().unwrap(), 12);
    }
}
