//! What happens to mails, while there is much to tell.

use stockloop_tests::smtp::Manner;

use super::super::load::ADJUSTED;
use super::super::plan::{Draw, Fault};

/// order-service refuses half of the adjusted products, so that event after event gives up, and the mail server says
/// "later", says nothing, or is not there.
pub(super) fn give_up_without_mail(draw: &mut Draw) {
    draw.at(0, Fault::Quarantine(ADJUSTED / 2));
    for (from, to) in draw.episodes(1_000..=5_000, 500..=2_000) {
        let manners = [Manner::Silent, Manner::Refuse, Manner::LoseAnswer];
        let manner = draw.pick(Manner::TryLater, &manners);
        draw.at(from, Fault::Mail(manner));
        draw.at(to, Fault::Mail(Manner::Accept));
    }
}
