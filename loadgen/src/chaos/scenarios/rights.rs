//! What happens to what services may do at a broker that asks.

use super::super::fault::Fault;
use super::super::plan::Draw;
use super::super::rights::Right;

/// A service has a right no more for longer than it takes until somebody is told, and then has it again.
pub(super) fn take_away(draw: &mut Draw) {
    let [first, others @ ..] = Right::ALL;
    for (side, (from, to)) in draw.episodes_of_sides(6_000..=9_000, 4_000..=8_000) {
        let right = draw.pick(first, &others);
        draw.at(from, Fault::Revoke(side, right));
        draw.at(to, Fault::Grant(side, right));
    }
}
