//! What meets several things in one run.

use super::super::plan::Draw;
use super::{broker, instances, mails, messages, network, postgres};

/// What draws the faults of a scenario.
type Drawn = fn(&mut Draw);

/// Faults by what they meet: two that meet the same would be in each other's way. All are of scenarios that need nothing
/// besides, and whose faults are neither asked of a service nor of what another one takes away.
const KINDS: [&[Drawn]; 4] = [
    &[instances::kill, instances::terminate, instances::freeze],
    &[
        postgres::restart,
        postgres::end_sessions,
        postgres::read_only,
        postgres::fill_up,
        network::to_postgres,
        network::lose_commits,
    ],
    &[
        broker::restart,
        network::to_kafka,
        network::lose_sends,
        messages::duplicate,
        messages::come_late,
    ],
    &[mails::give_up_untold, network::to_who_is_told],
];

/// Two that meet different things, each as if it were alone.
pub(super) fn two_at_once(draw: &mut Draw) {
    let first: usize = draw.pick(0, &[1, 2, 3]);
    let another = (first + draw.pick(1, &[2, 3])) % KINDS.len();
    for kind in [first, another] {
        if let Some([one, others @ ..]) = KINDS.get(kind) {
            let draw_it = draw.pick(*one, others);
            draw_it(draw);
        }
    }
}

/// Clients remove products and put them in again: processes are killed meanwhile, and messages come again when they are old.
pub(super) fn remove(draw: &mut Draw) {
    messages::come_late(draw);
    instances::kill(draw);
}
