//! What happens to messages, and to whoever reads them.

use super::super::fault::{Fault, Link, Part};
use super::super::plan::{Draw, Episode};
use super::super::proxy::Weather;
use super::super::translations::Release;
use crate::check::Side;

/// Past the time after which an answer is missed, which is 2 s here, and past the pauses of the attempts that follow.
const LATE_MS: u64 = 6_000;

/// order-service takes its time from the first second on.
pub(super) fn slow_down(draw: &mut Draw) {
    let from = draw.within(200..=1_000);
    draw.at(from, Fault::SlowConsumer);
}

/// Answers that were sent already, and answers of strangers.
pub(super) fn forge(draw: &mut Draw) {
    for (from, _) in draw.episodes(0..=0, 1_000..=3_000) {
        draw.at(from, Fault::ForgedAnswers);
    }
}

/// What nobody can read, among what everybody can.
pub(super) fn poison(draw: &mut Draw) {
    for (from, _) in draw.episodes(0..=0, 2_000..=5_000) {
        draw.at(from, Fault::Nonsense);
    }
}

/// Each message comes again at once, from early on.
pub(super) fn duplicate(draw: &mut Draw) {
    let from = draw.within(200..=1_000);
    draw.at(from, Fault::Copy { late_ms: 0 });
}

/// Each comes again sooner or later, so that old ones come among new ones.
pub(super) fn come_late(draw: &mut Draw) {
    let from = draw.within(200..=1_000);
    draw.at(from, Fault::Copy { late_ms: LATE_MS });
}

/// What waits for a service is written as an older or a newer release would, and comes among what this one writes.
pub(super) fn mix_releases(draw: &mut Draw) {
    // Each twice: the services take turns.
    let mut releases = [Release::Older, Release::Older, Release::Newer, Release::Newer];
    let first = draw.pick(0, &[2]);
    releases.rotate_left(first);
    let episodes = draw.episodes_of_sides(2_000..=4_000, 2_000..=5_000);
    for ((side, episode), release) in episodes.into_iter().zip(releases.into_iter().cycle()) {
        keep_waiting(draw, side, episode, &[Fault::Translate(side, release)]);
    }
}

/// Messages wait for a service, which hears nothing from the broker for a while, and is killed then. Before it comes back,
/// `meanwhile` happens to them. Until then it is there for its clients: without those there would be few.
pub(super) fn keep_waiting(draw: &mut Draw, side: Side, (from, to): Episode, meanwhile: &[Fault]) {
    let (link, who) = (Link { side, part: Part::Kafka }, draw.instance(side));
    draw.at(from, Fault::Weather(link, Weather::Blackhole(None)));
    draw.at(to, Fault::Kill(who));
    meanwhile.iter().for_each(|fault| draw.at(to, *fault));
    draw.at(to, Fault::Weather(link, Weather::Clear));
    draw.at(to, Fault::Start(who));
}
