//! The marks that a session writes into the log, and which of them came out of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a mark may be on its way before the log counts as far behind, and the table has everything meanwhile.
const FAR_BEHIND: Duration = Duration::from_secs(5);

/// The marks of one session. They are numbered from 1 on, and written one after the other, so they come in that order.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The last one that was begun to be written.
    begun: u64,
    /// The last one that came.
    came: u64,
    /// Those that are in the log and did not come yet, with when it was known that they are.
    on_their_way: VecDeque<(u64, Instant)>,
    /// From which on they say that the log can be followed.
    count_from: u64,
}

impl Marks {
    /// The next one to be written.
    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// The one that was begun is in the log. It may have come before that is known.
    pub(super) fn written(&mut self, now: Instant) {
        if self.begun > self.came {
            self.on_their_way.push_back((self.begun, now));
        }
    }

    /// One comes out of the log; returns whether that can be followed from it on.
    pub(super) fn come(&mut self, number: u64) -> bool {
        self.came = self.came.max(number);
        self.on_their_way.retain(|(written, _)| *written > number);
        number >= self.count_from
    }

    /// Whether one came.
    pub(super) fn any_came(&self) -> bool {
        self.came > 0
    }

    /// Whether one is on its way for too long.
    pub(super) fn are_late(&self, now: Instant) -> bool {
        let first = self.on_their_way.front();
        first.is_some_and(|(_, written)| now.duration_since(*written) > FAR_BEHIND)
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
        marks.begin();
        assert!(!marks.are_late(later), "it is still being written");
        marks.written(now);
        assert!(marks.are_late(later) && !marks.are_late(now) && !marks.any_came());
        assert!(marks.come(1) && marks.any_came());
        assert!(!marks.are_late(later));
    }

    #[test]
    fn one_may_come_before_it_is_known_to_be_written() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        marks.begin();
        marks.come(1);
        marks.written(now);
        marks.begin();
        assert!(!marks.are_late(now + 2 * FAR_BEHIND));
        marks.written(now);
        assert!(marks.are_late(now + 2 * FAR_BEHIND), "the second one");
    }

    #[test]
    fn one_of_before_does_not_count() {
        let mut marks = Marks::default();
        marks.begin();
        assert!(marks.come(1));
        marks.begin();
        marks.begin_anew();
        assert!(!marks.come(2), "it was begun before");
        marks.begin();
        assert!(marks.come(3));
    }
}
