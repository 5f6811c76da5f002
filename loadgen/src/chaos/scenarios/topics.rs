//! What happens to topics.

use super::super::fault::{Fault, Keep, TopicFault};
use super::super::plan::Draw;
use super::super::readers::TOPICS;
use super::messages;

/// Clients of the broker learn of it within 10 s.
const NOTICED_MS: u64 = 15_000;

/// What one takes at once: no event or answer, those that say little, or but a few at a time.
const LIMITS: [u32; 3] = [400, 900, 1_400];

/// They get more partitions, so that a key's messages go on in another one.
pub(super) fn grow(draw: &mut Draw) {
    let from = draw.within(1_000..=5_000);
    draw.at(from, Fault::Topic(TopicFault::Grow));
    // From then on they have more than is set.
    draw.at(from, Fault::UnfitIsTold);
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

/// They take less than some messages are large, one after the other, and then as much as before. At first the one of the
/// events of products does so, too, which are never all small: answers are, where few come at a time.
pub(super) fn limit(draw: &mut Draw) {
    let [first, others @ ..] = LIMITS;
    let mut numbers = (0..TOPICS.len()).cycle().skip(draw.pick(1, &[2, 3]));
    let mut beside = Some(0);
    for (from, to) in draw.episodes(3_000..=6_000, 3_000..=6_000) {
        let bytes = draw.pick(first, &others);
        for number in numbers.next().into_iter().chain(beside.take()) {
            draw.at(from, Fault::Topic(TopicFault::Limit { number, bytes }));
            draw.at(to, Fault::Topic(TopicFault::Unlimit(number)));
        }
    }
}

/// They keep next to nothing of what waits for a service, and go on as before once it comes back.
pub(super) fn delete_unread(draw: &mut Draw) {
    for (side, episode) in draw.episodes_of_sides(3_000..=6_000, 4_000..=8_000) {
        let keep = draw.pick(Keep::Ms(1), &[Keep::Ms(1_000), Keep::Bytes(2_000)]);
        let delete = Fault::Topic(TopicFault::DeleteUnread(side, keep));
        let keep_all = Fault::Topic(TopicFault::KeepAll(side));
        messages::keep_waiting(draw, side, episode, &[delete, keep_all]);
    }
    // As with one that is made anew.
    draw.calm(NOTICED_MS);
}
