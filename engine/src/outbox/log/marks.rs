//! The marks that a session writes into the log, and which of them came out of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a mark may be on its way before the log counts as far behind, and the table has everything meanwhile.
const FAR_BEHIND: Duration = Duration::from_secs(5);

/// Marks on their way whose time is kept: where more are, these are late already.
const KEPT: usize = 64;

/// The marks of one session. They are numbered from 1 on, and written one after the other, so they come in that order.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The last one that was begun to be written.
    begun: u64,
    /// The last one that came.
    came: u64,
    /// Those that did not come yet, with when they were begun: one that can't be written is of as little use as one that does
    /// not come.
    on_their_way: VecDeque<(u64, Instant)>,
    /// From which on they say that the log can be followed.
    count_from: u64,
}

impl Marks {
    /// The next one to be written.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        self.begun += 1;
        if self.on_their_way.len() < KEPT {
            self.on_their_way.push_back((self.begun, now));
        }
        self.begun
    }

    /// One comes out of the log; returns whether that can be followed from it on.
    pub(super) fn come(&mut self, number: u64) -> bool {
        self.came = self.came.max(number);
        self.on_their_way.retain(|(begun, _)| *begun > number);
        number >= self.count_from
    }

    /// Whether one came.
    pub(super) fn any_came(&self) -> bool {
        self.came > 0
    }

    /// Whether one is on its way for too long.
    pub(super) fn are_late(&self, now: Instant) -> bool {
        let first = self.on_their_way.front();
        first.is_some_and(|(_, begun)| now.duration_since(*begun) > FAR_BEHIND)
    }

    /// The log is followed only from one on that is not begun yet.
    pub(super) fn begin_anew(&mut self) {
        self.count_from = self.begun + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_come_is_late() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        let later = now + FAR_BEHIND + Duration::from_secs(1);
        assert!(!marks.are_late(later), "there is none");
        marks.begin(now);
        assert!(marks.are_late(later) && !marks.are_late(now) && !marks.any_came());
        marks.begin(later);
        assert!(marks.come(1) && marks.any_came());
        assert!(!marks.are_late(later));
        assert!(marks.are_late(later + 2 * FAR_BEHIND), "the second one");
    }

    /// Whether it is that the log does not bring them or that the database does not take them.
    #[test]
    fn many_that_do_not_come_are_forgotten_with_the_first_that_does() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        for _ in 0..1_000 {
            marks.begin(now);
        }
        assert!(marks.on_their_way.len() <= KEPT && marks.are_late(now + 2 * FAR_BEHIND));
        assert!(marks.come(1_000));
        assert!(!marks.are_late(now + 2 * FAR_BEHIND));
    }

    #[test]
    fn one_of_before_does_not_count() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        marks.begin(now);
        assert!(marks.come(1));
        marks.begin(now);
        marks.begin_anew();
        assert!(!marks.come(2), "it was begun before");
        marks.begin(now);
        assert!(marks.come(3));
    }
}
