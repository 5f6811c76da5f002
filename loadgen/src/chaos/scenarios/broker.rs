//! What happens to brokers.

use super::super::fault::{BrokerFault, Fault, PostgresFault, Which};
use super::super::plan::{Draw, Episode};

/// Brokers of a cluster.
pub(super) const CLUSTER: usize = 3;

/// How one goes, and how it comes back.
type Ways = (BrokerFault, BrokerFault);

const STOPPED: Ways = (BrokerFault::Stop, BrokerFault::Start);
const KILLED: Ways = (BrokerFault::Kill, BrokerFault::Start);
const FROZEN: Ways = (BrokerFault::Freeze, BrokerFault::Thaw);

/// The only one shuts down, is killed or freezes, and is away for a while.
pub(super) fn restart(draw: &mut Draw) {
    for episode in draw.episodes(1_000..=4_000, 3_000..=6_000) {
        let ways = draw.pick(STOPPED, &[KILLED, FROZEN]);
        be_away(draw, Which::Number(1), ways, episode);
    }
}

/// Each is killed in turn, and is away for a while.
pub(super) fn kill_each(draw: &mut Draw) {
    let episodes = draw.episodes(1_000..=4_000, 3_000..=6_000);
    for (number, episode) in draw.brokers().zip(episodes) {
        be_away(draw, Which::Number(number), KILLED, episode);
    }
}

/// Two are killed at once: what is left may write nothing, and nobody leads.
pub(super) fn kill_two(draw: &mut Draw) {
    let mut numbers = draw.brokers();
    for episode in draw.episodes(1_000..=4_000, 4_000..=8_000) {
        for number in numbers.by_ref().take(2) {
            be_away(draw, Which::Number(number), KILLED, episode);
        }
    }
}

/// Whichever leads goes, so that another one has to.
pub(super) fn move_controller(draw: &mut Draw) {
    for episode in draw.episodes(1_000..=4_000, 3_000..=6_000) {
        let ways = draw.pick(STOPPED, &[KILLED, FROZEN]);
        be_away(draw, Which::Controller, ways, episode);
    }
}

/// One after the other shuts down and starts again, as for an upgrade, all of them once at the least.
pub(super) fn roll(draw: &mut Draw) {
    let mut episodes = draw.episodes(500..=1_500, 2_000..=4_000);
    let numbers = draw.brokers();
    while episodes.len() < CLUSTER {
        let (_, end) = episodes.last().copied().unwrap_or_default();
        let from = end + draw.within(2_000..=4_000);
        episodes.push((from, from + draw.within(500..=1_500)));
    }
    for (number, episode) in numbers.zip(episodes) {
        be_away(draw, Which::Number(number), STOPPED, episode);
    }
}

/// Of several, the only one that has some partitions freezes; and in turn with that, whoever applies the events of a partition
/// waits for a row. What does not hang has to go on meanwhile.
pub(super) fn hang(draw: &mut Draw) {
    let numbers = draw.brokers();
    let mut is_broker = draw.pick(false, &[true]);
    for ((from, to), number) in
        draw.episodes(5_000..=10_000, 4_000..=8_000).into_iter().zip(numbers)
    {
        let [begin, end] = if is_broker {
            let (freeze, thaw) = FROZEN;
            [freeze, thaw].map(|fault| Fault::Broker(Which::Number(number), fault))
        } else {
            let product = draw.pick(0, &[1, 2, 3, 4, 5, 6, 7]);
            [PostgresFault::Hold(product), PostgresFault::LetGo].map(Fault::Postgres)
        };
        draw.at(from, begin);
        draw.at(to, Fault::OthersGoOn);
        draw.at(to, end);
        is_broker = !is_broker;
    }
}

fn be_away(draw: &mut Draw, which: Which, (begin, end): Ways, (from, to): Episode) {
    draw.at(from, Fault::Broker(which, begin));
    draw.at(to, Fault::Broker(which, end));
}
