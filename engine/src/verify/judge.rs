//! What is to be said of one key, from what both sides have of it.
//!
//! The order of the looks carries the proof: first the owner's state, then whether an event of the key is on its way,
//! then the copy's state, then both of the owner again.
//!
//! - *No false difference.* The owner's state came with an event. If that is not on its way any more, the consumer has
//!   said that its copy has it, and a copy never goes back to an older version; so what the copy lacks at a later look,
//!   it has lost or never had. If the owner's state is another one at the last look, or an event is on its way then, the
//!   key is only moving, and is looked at again.
//! - *None is missed.* A difference that stays is one at every look, and once nothing is on its way it is told. One that
//!   does not stay was brought by the loop, or taken away by it.

use super::wire::KeyState;
use common::ids::EventId;

/// What the owner has of a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerView {
    /// Its state, if it has one.
    pub state: Option<KeyState>,
    /// The event of it that is not settled.
    pub open: Option<OpenEvent>,
}

/// An event that no consumer has taken for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenEvent {
    /// Which.
    pub id: EventId,
    /// Whether it is sent, or will be, by itself; else it waits for a person.
    pub on_its_way: bool,
}

/// How a copy differs from its owner in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// The owner has it, the copy does not.
    Missing,
    /// The copy has it, the owner never did.
    Unknown,
    /// The copy has an older version.
    Older,
    /// The copy has a newer version than its owner ever made.
    Newer,
    /// The version is the same, and the content is not.
    Content,
}

/// What is to be said of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both have the same, or nothing.
    Equal,
    /// Something is on its way, or came between the looks: it has to be looked at again.
    Moving,
    /// The copy is not what its owner has, and nothing is on its way that would mend it.
    Differs(Difference),
}

/// What only the owner knows of all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerFacts {
    /// The epoch of what it sends now.
    pub epoch: i64,
    /// The greatest version of a removed key that it has forgotten.
    pub forgotten_version: i64,
}

/// Judges a key by what the owner had `before` the look at the `copy`, and `after` it.
pub fn judge(
    facts: OwnerFacts,
    before: &OwnerView,
    copy: Option<&KeyState>,
    after: &OwnerView,
) -> Verdict {
    if same(facts, before.state.as_ref(), copy) {
        return Verdict::Equal;
    }
    let moving = |view: &OwnerView| view.open.is_some_and(|event| event.on_its_way);
    if before.state != after.state || moving(before) || moving(after) {
        return Verdict::Moving;
    }
    match difference(facts, before.state.as_ref(), copy) {
        Some(difference) => Verdict::Differs(difference),
        None => Verdict::Equal,
    }
}

fn same(facts: OwnerFacts, owner: Option<&KeyState>, copy: Option<&KeyState>) -> bool {
    difference(facts, owner, copy).is_none()
}

fn difference(
    facts: OwnerFacts,
    owner: Option<&KeyState>,
    copy: Option<&KeyState>,
) -> Option<Difference> {
    match (owner, copy) {
        (None, None) => None,
        (Some(_), None) => Some(Difference::Missing),
        // The owner begins above it, should the key come again.
        (None, Some(copy)) if copy.removed && is_below_all_new(facts, copy) => None,
        (None, Some(_)) => Some(Difference::Unknown),
        // It would take no change of this epoch.
        (Some(_), Some(copy)) if copy.epoch > Some(facts.epoch) => Some(Difference::Newer),
        (Some(owner), Some(copy)) if owner.version == copy.version => {
            (owner.digest != copy.digest).then_some(Difference::Content)
        }
        (Some(owner), Some(copy)) => {
            let epoch = copy.epoch.unwrap_or(facts.epoch);
            let older = (epoch, copy.version) < (facts.epoch, owner.version);
            Some(if older { Difference::Older } else { Difference::Newer })
        }
    }
}

fn is_below_all_new(facts: OwnerFacts, copy: &KeyState) -> bool {
    let epoch = copy.epoch.unwrap_or(facts.epoch);
    (epoch, copy.version) <= (facts.epoch, facts.forgotten_version)
}
