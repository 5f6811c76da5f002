//! What happens to processes in the middle of longer work, and of what they tell.

use super::super::chores::{Chore, Point};
use super::super::fault::{Fault, Part};
use super::super::plan::{Draw, Episode};
use crate::check::Side;

/// Products that are refused at first: enough for a bulk job, and for the filling of a copy, of several steps each.
const REFUSED: u32 = 1_200;

/// The copy is only verified when somebody asks: what is done by itself each hour would be counted with it.
pub(super) const WHEN_ASKED: [(&str, &str); 1] = [("STOCKLOOP__VERIFY__CRON", "")];

/// Where a process is killed.
#[derive(Clone, Copy)]
enum Middle {
    Of(Chore, Side),
    /// Of what product-service tells: only that has something to tell.
    Telling(Part),
}

/// Next to each other are different services and different work, so that a short run has some of each.
const MIDDLES: [Middle; 8] = [
    Middle::Of(Chore::Verify, Side::Product),
    Middle::Of(Chore::Repair, Side::Order),
    Middle::Telling(Part::Mail),
    Middle::Of(Chore::Fill, Side::Product),
    Middle::Of(Chore::Verify, Side::Order),
    Middle::Of(Chore::Repair, Side::Product),
    Middle::Telling(Part::Webhook),
    Middle::Of(Chore::Fill, Side::Order),
];

/// One after the other is begun, and a process is killed that does it or is asked for it. First, what gave up is sent again:
/// the copy needs it for the others.
pub(super) fn kill(draw: &mut Draw) {
    draw.at(0, Fault::Flood(REFUSED));
    let mut others = MIDDLES;
    let first = draw.pick(0, &[1, 2, 3, 4, 5, 6, 7]);
    others.rotate_left(first);
    let resend = Middle::Of(Chore::Resend, Side::Product);
    let middles = std::iter::once(resend).chain(others.into_iter().cycle());
    for (episode, middle) in draw.episodes(200..=1_000, 2_000..=4_000).into_iter().zip(middles) {
        match middle {
            Middle::Of(chore, side) => cut_off(draw, chore, side, episode),
            Middle::Telling(part) => {
                let (who, (from, to)) = (draw.instance(Side::Product), episode);
                draw.at(from, Fault::KillUnanswered(who, part));
                draw.at(to, Fault::Start(who));
            }
        }
    }
}

fn cut_off(draw: &mut Draw, chore: Chore, side: Side, (from, to): Episode) {
    let (who, update) = (draw.instance(side), draw.within(1..=chore.updates()));
    let point = Point { update, is_at_commit: draw.pick(false, &[true]) };
    draw.at(from, Fault::KillIn(who, chore, point));
    draw.at(to, Fault::Start(who));
    draw.at(to, Fault::ChoreEnds(chore));
}
