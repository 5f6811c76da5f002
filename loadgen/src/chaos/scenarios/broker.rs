//! What happens to the broker.

use super::super::plan::{BrokerFault, Draw, Fault};

/// It shuts down, is killed or freezes, and is away for a while.
pub(super) fn restart(draw: &mut Draw) {
    for (from, to) in draw.episodes(1_000..=4_000, 3_000..=6_000) {
        let (begin, end) = draw.pick(
            (BrokerFault::Stop, BrokerFault::Start),
            &[(BrokerFault::Kill, BrokerFault::Start), (BrokerFault::Freeze, BrokerFault::Thaw)],
        );
        draw.at(from, Fault::Broker(begin));
        draw.at(to, Fault::Broker(end));
    }
}
