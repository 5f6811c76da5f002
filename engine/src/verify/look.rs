//! Looking at keys that differed: once more at both sides, in the order that [`judge`](super::judge) needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::clock::Timestamp;
use common::db::{Conn, DbError};

use super::judge::{Difference, OwnerFacts, OwnerView, Verdict, judge};
use super::model::{Finding, KeyFinding};
use super::open::{Asked, open_events};
use super::replica::Owner;
use super::side::{Local, Side, SideError, states_in};
use super::wire::{KeySet, KeyState, MAX_KEY, MAX_STATES, Terms};
use crate::outbox::Outbox;

/// A key that was looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) key: String,
    pub(super) verdict: Verdict,
    pub(super) owner: OwnerView,
    pub(super) copy: Option<KeyState>,
}

/// Bytes of keys that one request asks for, well below what a body may have.
const MAX_BYTES: usize = 256 << 10;

/// Looks at `keys`, in as many requests as that takes.
pub(super) async fn look<C: Side>(
    owner: &Arc<dyn Owner>,
    local: &Local,
    consumer: &C,
    terms: &Terms,
    asked: &Asked,
    keys: Vec<String>,
) -> Result<Vec<Looked>, SideError> {
    // No event brought a key that can't even be asked for.
    let (keys, strange): (Vec<String>, Vec<String>) =
        keys.into_iter().partition(|key| key.len() <= MAX_KEY && !key.contains('\0'));
    let by_hand = |key| Looked {
        key,
        verdict: Verdict::Differs(Difference::Unknown),
        owner: OwnerView::default(),
        copy: None,
    };
    let mut looked: Vec<Looked> = strange.into_iter().map(by_hand).collect();
    for keys in in_requests(keys) {
        looked.extend(look_at(owner, local, consumer, terms, asked, keys).await?);
    }
    Ok(looked)
}

fn in_requests(keys: Vec<String>) -> Vec<Vec<String>> {
    let (mut requests, mut bytes) = (Vec::<Vec<String>>::new(), 0);
    for key in keys {
        bytes += key.len();
        match requests.last_mut() {
            Some(request) if request.len() < MAX_STATES && bytes <= MAX_BYTES => request.push(key),
            _ => {
                bytes = key.len();
                requests.push(vec![key]);
            }
        }
    }
    requests
}

async fn look_at<C: Side>(
    owner: &Arc<dyn Owner>,
    local: &Local,
    consumer: &C,
    terms: &Terms,
    asked: &Asked,
    keys: Vec<String>,
) -> Result<Vec<Looked>, SideError> {
    let (facts, before) = owner_views(owner, local, terms, asked, &keys).await?;
    let (copies, _) = consumer.states(terms, &KeySet::Keys(keys.clone())).await?;
    let (_, after) = owner_views(owner, local, terms, asked, &keys).await?;
    let mut copies: BTreeMap<String, KeyState> =
        copies.into_iter().map(|state| (state.key.clone(), state)).collect();
    let nothing = OwnerView::default();
    let looked = keys.into_iter().map(|key| {
        let copy = copies.remove(&key);
        let (before, after) =
            (before.get(&key).unwrap_or(&nothing), after.get(&key).unwrap_or(&nothing));
        let verdict = judge(facts, before, copy.as_ref(), after);
        Looked { verdict, owner: after.clone(), copy, key }
    });
    Ok(looked.collect())
}

async fn owner_views(
    owner: &Arc<dyn Owner>,
    local: &Local,
    terms: &Terms,
    asked: &Asked,
    keys: &[String],
) -> Result<(OwnerFacts, BTreeMap<String, OwnerView>), DbError> {
    let (owner, terms, asked, keys) =
        (Arc::clone(owner), terms.clone(), asked.clone(), keys.to_vec());
    let read = move |conn: &mut Conn| {
        let facts = OwnerFacts {
            epoch: Outbox::epoch(conn)?,
            forgotten_version: owner.forgotten_version(conn)?,
        };
        // The states first: what is not on its way after that has brought them, or something newer.
        let (states, _) = states_in(conn, &*owner, &terms, &KeySet::Keys(keys.clone()))?;
        let versions: BTreeMap<String, i64> =
            states.iter().map(|state| (state.key.clone(), state.version)).collect();
        let mut views: BTreeMap<String, OwnerView> = BTreeMap::new();
        for state in states {
            let key = state.key.clone();
            views.insert(key, OwnerView { state: Some(state), open: None });
        }
        for (key, event) in open_events(conn, &asked, &keys, &versions)? {
            views.entry(key).or_default().open = Some(event);
        }
        Ok::<_, DbError>((facts, views))
    };
    local.db.read(read).await
}

impl Looked {
    /// What is noted of it.
    pub(super) fn finding(
        self,
        verification: i64,
        finding: Finding,
        looks: i32,
        due_us: Timestamp,
        found_us: Timestamp,
    ) -> KeyFinding {
        let (owner, copy) = (self.owner.state, self.copy);
        KeyFinding {
            verification,
            key: self.key,
            finding,
            looks,
            due_us,
            owner_version: owner.as_ref().map(|state| state.version),
            owner_removed: owner.as_ref().map(|state| state.removed),
            copy_epoch: copy.as_ref().and_then(|state| state.epoch),
            copy_version: copy.as_ref().map(|state| state.version),
            copy_removed: copy.as_ref().map(|state| state.removed),
            event_id: self.owner.open.map(|event| event.id),
            found_us,
        }
    }
}
