//! Comparing ranges: digests of both sides, split where they differ, until only few keys are left to be looked at.
//!
//! Range-based set reconciliation, after A. Meyer (2023), "Range-Based Set Reconciliation". Ranges end at keys of the
//! owner, so keys that are long, or alike at their beginning, are split as well as any. Where one side has far more keys
//! than the other there is nothing to split by, and most of them differ anyway: there the keys are listed.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::db::DbError;

use super::replica::{Owner, Range};
use super::side::{Local, Side, SideError};
use super::wire;
use super::wire::{KeySet, KeyState, Terms};

/// Parts that a range is split into.
const PARTS: i64 = 16;

/// Rows of both sides together that are listed rather than split.
const FEW: i64 = 200;

/// Keys that differ, after which a step ends.
const MANY: usize = wire::MAX_STATES;

/// What a step of the comparison came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// The key that it has got to; none: all keys are compared.
    pub(super) up_to: Option<String>,
    /// The owner's keys that were compared.
    pub(super) keys: i64,
    /// Keys that differed at that moment.
    pub(super) differing: Vec<String>,
}

/// The two sides, and on which terms they are compared.
pub(super) struct Comparison<'a, C> {
    pub(super) owner: &'a Arc<dyn Owner>,
    pub(super) local: &'a Local,
    pub(super) consumer: &'a C,
    pub(super) terms: &'a Terms,
    /// The owner's epoch: no copy can be of a later one.
    pub(super) epoch: i64,
}

/// A range, and how many rows each side has in it.
struct Part {
    range: Range,
    own: i64,
    theirs: i64,
    is_equal: bool,
}

impl<C: Side> Comparison<'_, C> {
    /// Compares the next `size` keys of the owner behind `after`, and all that the consumer has between them.
    pub(super) async fn next(&self, after: Option<&str>, size: i64) -> Result<Compared, SideError> {
        let up_to = self.key_after(after.unwrap_or_default(), size - 1).await?;
        let range = Range { after: after.map(str::to_owned), up_to: up_to.clone() };
        let mut compared = Compared { up_to, ..Compared::default() };
        let mut parts = self.digested(vec![range], size).await?;
        while let Some(part) = parts.pop() {
            if part.is_equal {
                compared.keys += part.own;
            } else if compared.differing.len() >= MANY {
                compared.up_to = part.range.after;
                break;
            } else if part.is_better_listed() {
                if let Some(cut) = self.list(part.range, &mut compared).await? {
                    compared.up_to = Some(cut);
                    break;
                }
            } else {
                let ranges = self.split(&part).await?;
                // The last one has what is left over, too.
                parts.extend(self.digested(ranges, part.own / PARTS + PARTS).await?);
            }
        }
        Ok(compared)
    }

    /// What both sides have in `ranges`, the first one last; the owner has about `expected` keys in each at the most.
    async fn digested(&self, ranges: Vec<Range>, expected: i64) -> Result<Vec<Part>, SideError> {
        // A copy that has far more is listed, page by page: no need to read all of that for a digest first.
        let at_most = expected.saturating_mul(3).saturating_add(FEW);
        let (own, theirs) = tokio::try_join!(
            self.local.digests(self.terms, &ranges, at_most),
            self.consumer.digests(self.terms, &ranges, at_most),
        )?;
        let parts =
            ranges.into_iter().zip(own.into_iter().zip(theirs)).map(|(range, (own, theirs))| {
                Part {
                    range,
                    is_equal: (own.rows, &own.digest) == (theirs.rows, &theirs.digest)
                        && own.rows <= at_most
                        && theirs.epoch <= Some(self.epoch),
                    own: own.rows,
                    theirs: theirs.rows,
                }
            });
        Ok(parts.rev().collect())
    }

    /// Parts of a range with as many keys of the owner each.
    async fn split(&self, part: &Part) -> Result<Vec<Range>, SideError> {
        let (size, mut parts) = (part.own / PARTS, Vec::new());
        let mut after = part.range.after.clone();
        for _ in 1..PARTS {
            let up_to = self.key_after(after.as_deref().unwrap_or_default(), size - 1).await?;
            let is_within = |key: &String| part.range.up_to.as_ref().is_none_or(|end| key < end);
            let Some(up_to) = up_to.filter(is_within) else { break };
            parts.push(Range { after: after.replace(up_to.clone()), up_to: Some(up_to) });
        }
        parts.push(Range { after, up_to: part.range.up_to.clone() });
        Ok(parts)
    }

    /// Adds the keys of a range that differ; returns where it stopped, if it found many before the end.
    async fn list(
        &self,
        range: Range,
        compared: &mut Compared,
    ) -> Result<Option<String>, SideError> {
        let Range { mut after, up_to } = range;
        loop {
            let of = KeySet::Range(Range { after: after.clone(), up_to: up_to.clone() });
            let ((own, more), (theirs, more_theirs)) = tokio::try_join!(
                self.local.states(self.terms, &of),
                self.consumer.states(self.terms, &of),
            )?;
            let last = |states: &[KeyState], more: bool| {
                states.last().filter(|_| more).map(|state| state.key.clone())
            };
            // What lies behind the end of a page that was cut is not known yet.
            let known = [last(&own, more), last(&theirs, more_theirs)].into_iter().flatten().min();
            add_differing(self.epoch, own, theirs, known.as_deref(), compared);
            match known {
                None => return Ok(None),
                Some(known) if compared.differing.len() >= MANY => return Ok(Some(known)),
                Some(known) => after = Some(known),
            }
        }
    }

    async fn key_after(&self, after: &str, skip: i64) -> Result<Option<String>, SideError> {
        let (owner, after) = (Arc::clone(self.owner), after.to_owned());
        let read = move |conn: &mut common::db::Conn| {
            Ok::<_, DbError>(conn.read_by_index(|conn| owner.key_after(conn, &after, skip.max(0)))?)
        };
        Ok(self.local.db.read(read).await?)
    }
}

impl Part {
    /// Whether the keys are few, or most of them differ anyway.
    fn is_better_listed(&self) -> bool {
        let Self { own, theirs, .. } = self;
        own.saturating_add(*theirs) <= FEW || own / 2 > *theirs || theirs / 2 > *own
    }
}

/// Adds the keys up to `known` whose states are not the same, and counts the owner's.
fn add_differing(
    epoch: i64,
    own: Vec<KeyState>,
    theirs: Vec<KeyState>,
    known: Option<&str>,
    compared: &mut Compared,
) {
    let is_known = |state: &KeyState| known.is_none_or(|known| state.key.as_str() <= known);
    let mut theirs: BTreeMap<String, KeyState> =
        theirs.into_iter().filter(is_known).map(|state| (state.key.clone(), state)).collect();
    for state in own.into_iter().filter(is_known) {
        compared.keys += 1;
        let same = theirs
            .remove(&state.key)
            .is_some_and(|their| their.digest == state.digest && their.epoch <= Some(epoch));
        if !same {
            compared.differing.push(state.key);
        }
    }
    compared.differing.extend(theirs.into_keys());
}
