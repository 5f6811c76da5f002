//! What happens to the files of services that keep everything in SQLite.

use super::super::fault::{Fault, FileFault, Who};
use super::super::plan::Draw;

/// They are killed while pages of the log are put into the file, and started again.
pub(super) fn kill(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(200..=1_500, 500..=2_000) {
        let who = Who { side, number: 1 };
        draw.at(from, Fault::KillInCheckpoint(who));
        draw.at(to, Fault::Start(who));
    }
}

/// There is no room for what they write, and then there is again.
pub(super) fn fill_up(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(2_000..=5_000, 1_000..=4_000) {
        draw.at(from, Fault::File(side, FileFault::Full));
        draw.at(to, Fault::File(side, FileFault::Room));
    }
}

/// They come back to a file that they may not write into, as after a copy by another user, and then they may.
pub(super) fn read_only(draw: &mut Draw) {
    for (side, (from, to)) in draw.episodes_of_sides(500..=3_000, 2_000..=4_000) {
        draw.at(from, Fault::File(side, FileFault::ReadOnly));
        draw.at(to, Fault::File(side, FileFault::Writable));
        draw.at(to, Fault::Start(Who { side, number: 1 }));
    }
}
