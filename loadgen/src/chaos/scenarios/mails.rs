//! What happens to mails and calls of the webhook, while there is much to tell.

use stockloop_tests::smtp::Manner;

use super::super::fault::Fault;
use super::super::load::ADJUSTED;
use super::super::plan::Draw;
use super::super::webhook::Welcome;

/// By then the first events have given up.
pub(super) const FIRST_ALERTS_MS: u64 = 2_500;

/// Events that give up at once, with all that do so besides.
const FLOOD: u32 = 10_000;

/// order-service refuses half of the adjusted products, so that event after event gives up, and who has to be told says
/// "later", "never" or nothing, is not there, or hangs up before it says yes.
pub(super) fn give_up_untold(draw: &mut Draw) {
    draw.at(0, Fault::Quarantine(ADJUSTED / 2));
    for (from, to) in draw.episodes(1_000..=5_000, 500..=2_000) {
        let manners = [Manner::Reject, Manner::Silent, Manner::Refuse, Manner::LoseAnswer];
        let manner = draw.pick(Manner::TryLater, &manners);
        draw.at(FIRST_ALERTS_MS + from, Fault::Mail(manner));
        draw.at(FIRST_ALERTS_MS + to, Fault::Mail(Manner::Accept));
    }
    for (from, to) in draw.episodes(1_000..=5_000, 500..=2_000) {
        let welcomes = [Welcome::NotFound, Welcome::Silent, Welcome::LoseAnswer];
        let welcome = draw.pick(Welcome::Unavailable, &welcomes);
        draw.at(FIRST_ALERTS_MS + from, Fault::Webhook(welcome));
        draw.at(FIRST_ALERTS_MS + to, Fault::Webhook(Welcome::Take));
    }
}

/// Ten thousand events give up at once, and nobody can be told before all have.
pub(super) fn flood(draw: &mut Draw) {
    let from = draw.within(200..=2_000);
    let manner = draw.pick(Manner::TryLater, &[Manner::Silent, Manner::Refuse]);
    draw.at(0, Fault::Mail(manner));
    draw.at(0, Fault::Webhook(Welcome::Unavailable));
    draw.at(from, Fault::Flood(FLOOD));
    draw.at(from, Fault::Mail(Manner::Accept));
    draw.at(from, Fault::Webhook(Welcome::Take));
}
