//! What happens to the database server.

use super::super::fault::{Fault, Isolation, PostgresFault, Race};
use super::super::plan::{Draw, Episode};

/// It shuts down or is killed, and is away for a while.
pub(super) fn restart(draw: &mut Draw) {
    for (from, to) in draw.episodes(500..=3_000, 2_000..=5_000) {
        let end = draw.pick(PostgresFault::Stop, &[PostgresFault::Kill]);
        draw.at(from, Fault::Postgres(end));
        draw.at(to, Fault::Postgres(PostgresFault::Start));
    }
}

/// It ends the sessions of both services, in the middle of whatever they do.
pub(super) fn end_sessions(draw: &mut Draw) {
    for (from, _) in draw.episodes(0..=0, 300..=2_000) {
        draw.at(from, Fault::Postgres(PostgresFault::EndSessions));
    }
}

/// It refuses to write, as one does that took another's place, or whose disk is watched.
pub(super) fn read_only(draw: &mut Draw) {
    for (from, to) in draw.episodes(1_000..=5_000, 1_000..=4_000) {
        draw.at(from, Fault::Postgres(PostgresFault::ReadOnly));
        draw.at(to, Fault::Postgres(PostgresFault::Writable));
    }
}

/// Strangers have all of its connections.
pub(super) fn fill_up(draw: &mut Draw) {
    for (from, to) in draw.episodes(1_000..=5_000, 1_000..=4_000) {
        draw.at(from, Fault::Postgres(PostgresFault::Full));
        draw.at(to, Fault::Postgres(PostgresFault::Room));
    }
}

/// Something else takes its disk, but for a little, and gives it back.
pub(super) fn fill_disk(draw: &mut Draw) {
    for (from, to) in draw.episodes(2_000..=5_000, 2_000..=5_000) {
        let left_kib = draw.pick(0, &[64, 512]);
        draw.at(from, Fault::Postgres(PostgresFault::DiskFull { left_kib }));
        draw.at(to, Fault::Postgres(PostgresFault::DiskFree));
    }
}

/// It dies for good, and a standby that has all takes its place after a while.
pub(super) fn fail_over(draw: &mut Draw) {
    for episode in draw.episodes(500..=3_000, 3_000..=6_000) {
        take_over(draw, episode);
    }
}

/// The same, and the standby has got nothing for seconds.
pub(super) fn fail_over_behind(draw: &mut Draw) {
    let behind = draw.within(1_000..=3_000);
    let (from, to) = draw.episodes(500..=3_000, 0..=0).first().copied().unwrap_or_default();
    draw.at(from, Fault::Postgres(PostgresFault::LeaveBehind));
    take_over(draw, (from + behind, to + behind));
}

fn take_over(draw: &mut Draw, (from, to): Episode) {
    draw.at(from, Fault::Postgres(PostgresFault::Kill));
    draw.at(to, Fault::Postgres(PostgresFault::Promote));
    draw.at(to, Fault::Postgres(PostgresFault::StandBy));
}

/// Strangers lock rows in the wrong order, so that each waits for the other.
pub(super) fn lock_crosswise(draw: &mut Draw) {
    for (from, to) in draw.episodes(4_000..=8_000, 500..=2_000) {
        draw.at(from, Fault::Postgres(PostgresFault::Rivals));
        draw.at(to, Fault::Postgres(PostgresFault::Peace));
    }
}

/// It rolls transactions back since others went first; and, now and then, it would isolate all that do not say how.
pub(super) fn lose_races(draw: &mut Draw) {
    for (from, to) in draw.episodes(2_000..=5_000, 1_000..=3_000) {
        let (is_at_commit, one_in) = (draw.pick(false, &[true]), draw.pick(3, &[5, 10]));
        draw.at(from, Fault::Postgres(PostgresFault::Lose(Race { is_at_commit, one_in })));
        draw.at(to, Fault::Postgres(PostgresFault::Win));
    }
    for (from, to) in draw.episodes(3_000..=6_000, 1_000..=3_000) {
        let isolation = draw.pick(Isolation::RepeatableRead, &[Isolation::Serializable]);
        draw.at(from, Fault::Postgres(PostgresFault::Isolate(isolation)));
        draw.at(to, Fault::Postgres(PostgresFault::IsolateAsBefore));
    }
}

/// All sessions behind the pooler are ended, and a while later it is killed.
pub(super) fn trouble_pooler(draw: &mut Draw) {
    for (from, to) in draw.episodes(400..=3_000, 1_000..=3_000) {
        draw.at(from, Fault::Postgres(PostgresFault::EndSessions));
        draw.at(from + (to - from) / 2, Fault::Postgres(PostgresFault::KillPooler));
        draw.at(to, Fault::Postgres(PostgresFault::StartPooler));
    }
}
