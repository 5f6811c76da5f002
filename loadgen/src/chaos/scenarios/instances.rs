//! What happens to processes of the services.

use std::ops::RangeInclusive;

use super::super::fault::{Fault, Who};
use super::super::plan::Draw;
use super::super::wire::{Moment, Request};
use crate::check::Side;

/// Longer than a lease and a consumer's session, which last 3 s here, and mostly than a transaction may idle, which is 10 s.
const PAST_ALL_MS: RangeInclusive<u64> = 5_000..=15_000;

/// They are killed at any moment, and started again.
pub(super) fn kill(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(200..=2_000, 500..=2_500) {
        let who = draw.instance(side);
        draw.at(from, Fault::Kill(who));
        draw.at(to, Fault::Start(who));
    }
}

/// They are killed just before something is done for them and just after it, of all that is done for them in turn.
pub(super) fn kill_at_moments(draw: &mut Draw) {
    let requests = [Request::Commit, Request::Produce, Request::NoteOffsets];
    let moments = requests
        .into_iter()
        .flat_map(|request| [false, true].map(|is_answered| Moment { request, is_answered }));
    // Each twice: the services take turns.
    let mut moments: Vec<Moment> = moments.flat_map(|moment| [moment; 2]).collect();
    let first = draw.pick(0, &[2, 4, 6, 8, 10]);
    moments.rotate_left(first);
    let episodes = draw.episodes_of_sides(200..=1_000, 500..=1_500);
    for ((side, (from, to)), moment) in episodes.into_iter().zip(moments.into_iter().cycle()) {
        let who = draw.instance(side);
        draw.at(from, Fault::KillAt(who, moment));
        draw.at(to, Fault::Start(who));
    }
}

/// They are told to end, as for an upgrade, and started again.
pub(super) fn terminate(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(200..=1_500, 500..=2_500) {
        let who = draw.instance(side);
        draw.at(from, Fault::Terminate(who));
        draw.at(to, Fault::Start(who));
    }
}

/// They are upgraded one after the other, order-service first, and those that are new are killed in between.
pub(super) fn upgrade(draw: &mut Draw) {
    let mut at = draw.within(1_000..=3_000);
    for side in [Side::Order, Side::Product] {
        let first = draw.instance(side);
        let other = Who { side, number: 3 - first.number };
        for who in [first, other] {
            draw.at(at, Fault::Upgrade(who));
            let (killed, back) = (draw.within(1_000..=3_000), draw.within(200..=1_000));
            draw.at(at + killed, Fault::Kill(who));
            draw.at(at + killed + back, Fault::Start(who));
            at += killed + back + draw.within(500..=2_000);
        }
    }
}

/// They stand still until others have taken over all that they had, and go on as if nothing had happened.
pub(super) fn freeze(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(PAST_ALL_MS, 500..=2_500) {
        let who = draw.instance(side);
        draw.at(from, Fault::Freeze(who));
        draw.at(to, Fault::Thaw(who));
    }
}

/// A third and a fourth process come, and go in good order or not.
pub(super) fn scale(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(3_000..=6_000, 300..=1_500) {
        let [third, fourth] = [3, 4].map(|number| Who { side, number });
        draw.at(from, Fault::Start(third));
        let (comes, goes) = (from + draw.within(0..=1_000), to - draw.within(0..=1_000));
        draw.at(comes, Fault::Start(fourth));
        for (at, who) in [(goes, fourth), (to, third)] {
            let end = draw.pick(Fault::Kill(who), &[Fault::Terminate(who)]);
            draw.at(at, end);
        }
    }
}

/// They come back with a clock that is seconds to minutes ahead or behind, beside others whose clock is right.
pub(super) fn set_clocks_wrong(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(200..=1_000, 2_000..=4_000) {
        let who = draw.instance(side);
        let seconds = seconds_off(draw);
        draw.at(from, Fault::Kill(who));
        draw.at(to, Fault::Clock(who, seconds));
        draw.at(to, Fault::Start(who));
    }
}

/// While they run, the clock of one of them at a time jumps seconds to minutes ahead or back, and is right again later.
pub(super) fn let_clocks_jump(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(1_000..=4_000, 500..=2_500) {
        let who = draw.instance(side);
        let seconds = seconds_off(draw);
        draw.at(from, Fault::Jump(who, seconds));
        draw.at(to, Fault::Jump(who, 0));
    }
}

/// How far a clock is off, ahead or behind.
fn seconds_off(draw: &mut Draw) -> i32 {
    draw.pick(5, &[30, 120]) * draw.pick(1, &[-1])
}
