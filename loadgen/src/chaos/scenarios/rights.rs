//! What happens to what services may do at a broker that asks.

use std::ops::RangeInclusive;

use super::super::fault::Fault;
use super::super::plan::Draw;
use super::super::rights::Right;

/// Longer than it takes until somebody is told: a member of a group that may not be there any more counts as one for 3 s
/// here, joins a second later, and what it is refused then is looked at each 2 s, and told once it has lasted for 2 s.
const UNTIL_TOLD_MS: RangeInclusive<u64> = 10_000..=13_000;

/// A service has a right no more for longer than it takes until somebody is told, and then has it again.
pub(super) fn take_away(draw: &mut Draw) {
    let [first, others @ ..] = Right::ALL;
    for (side, (from, to)) in draw.episodes_of_sides(UNTIL_TOLD_MS, 4_000..=8_000) {
        let right = draw.pick(first, &others);
        draw.at(from, Fault::Revoke(side, right));
        draw.at(to, Fault::Grant(side, right));
    }
}
