//! What happens to topics.

use super::super::fault::{Fault, TopicFault};
use super::super::plan::Draw;

/// Clients of the broker learn of it within 10 s.
const NOTICED_MS: u64 = 15_000;

/// They get more partitions, so that a key's messages go on in another one.
pub(super) fn grow(draw: &mut Draw) {
    let from = draw.within(1_000..=5_000);
    draw.at(from, Fault::Topic(TopicFault::Grow));
    draw.calm(NOTICED_MS);
}

/// One of them is deleted, with what was on it, and made again.
pub(super) fn make_anew(draw: &mut Draw) {
    for (from, _) in draw.episodes(0..=0, 15_000..=20_000) {
        let number = draw.pick(0, &[1, 2, 3]);
        draw.at(from, Fault::Topic(TopicFault::MakeAnew(number)));
    }
    // What was lost is missed once something behind it is answered.
    draw.calm(NOTICED_MS);
}
