//! Whose turn it is in a step of the relay: the table's, or the log's.

use std::time::Duration;

use tokio::time::Instant;

/// How long the table is left alone while the log brings what is new: there is only what was left to it.
pub(super) const BETWEEN_READS: Duration = Duration::from_millis(250);

/// What decides it. Without a log it is always the table's turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// When the table was read last.
    read: Option<Instant>,
    /// Whether more was there than was read.
    was_cut: bool,
    /// Whether more may have been where nothing could be read: whatever hindered it wakes the relay when it ends.
    had_gaps: bool,
    /// Whether it was the table's turn in the last step.
    was_tables: bool,
    /// Whether the relay will be woken to read it.
    is_promised: bool,
}

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Another one, at once: the other of the two has something.
    Again,
    /// Another one when [`BETWEEN_READS`] are over, to read the table.
    Later,
    /// Nothing that this step knows of.
    Nothing,
}

/// What there is of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// It is not followed: the table has everything.
    Unread,
    /// It is, and nothing waits.
    Empty,
    /// It is, and something waits.
    Waiting,
}

impl Turn {
    /// Whether the table is to be read in the step that begins.
    pub(super) fn begin(&mut self, log: Log, now: Instant) -> bool {
        let is_time = self.read.is_none_or(|read| now.duration_since(read) > BETWEEN_READS);
        let goes_on = (self.was_cut || self.had_gaps) && (!self.was_tables || log == Log::Empty);
        self.was_tables = log == Log::Unread || is_time || goes_on;
        if self.was_tables {
            self.read = Some(now);
        }
        self.was_tables
    }

    /// Notes that the table was read, whether it had more, and whether parts of it were left out that may have.
    pub(super) fn read(&mut self, was_cut: bool, had_gaps: bool) {
        (self.was_cut, self.had_gaps, self.is_promised) = (was_cut, had_gaps, false);
    }

    /// What is to come, after what had its turn is done.
    pub(super) fn end(&mut self, log: Log) -> After {
        match (self.was_tables, self.was_cut) {
            (true, _) if log == Log::Waiting => After::Again,
            (true, _) => After::Nothing,
            (false, true) => After::Again,
            (false, false) if self.is_promised => After::Nothing,
            (false, false) => {
                self.is_promised = true;
                After::Later
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_log_the_table_is_read_each_time() {
        let (mut turn, mut now) = (Turn::default(), Instant::now());
        for _ in 0..3 {
            assert!(turn.begin(Log::Unread, now));
            turn.read(false, false);
            assert_eq!(turn.end(Log::Unread), After::Nothing);
            now += AT_ONCE;
        }
    }

    #[test]
    fn beside_a_log_the_table_is_read_now_and_then() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        assert!(turn.begin(Log::Waiting, now), "it was never read");
        turn.read(false, false);
        assert_eq!(turn.end(Log::Waiting), After::Again, "the log had no turn");
        assert!(!turn.begin(Log::Waiting, now + AT_ONCE));
        assert_eq!(turn.end(Log::Empty), After::Later, "the table had none");
        assert!(!turn.begin(Log::Empty, now + AT_ONCE));
        assert_eq!(turn.end(Log::Empty), After::Nothing, "it is promised already");
        assert!(turn.begin(Log::Empty, now + 2 * BETWEEN_READS));
    }

    #[test]
    fn what_was_left_out_is_read_when_the_relay_is_woken() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        assert!(turn.begin(Log::Empty, now));
        turn.read(false, true);
        assert_eq!(turn.end(Log::Empty), After::Nothing, "what it waits for wakes it");
        assert!(turn.begin(Log::Empty, now + AT_ONCE));
        turn.read(false, true);
        assert!(!turn.begin(Log::Waiting, now + 2 * AT_ONCE), "they take turns");
        assert_eq!(turn.end(Log::Waiting), After::Later, "nothing is read in a circle");
    }

    #[test]
    fn a_backlog_of_the_table_goes_on_at_once() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        assert!(turn.begin(Log::Empty, now));
        turn.read(true, false);
        assert!(turn.begin(Log::Empty, now + AT_ONCE), "the log has nothing");
        turn.read(true, false);
        assert!(!turn.begin(Log::Waiting, now + 2 * AT_ONCE), "they take turns");
        assert_eq!(turn.end(Log::Waiting), After::Again);
        assert!(turn.begin(Log::Waiting, now + 3 * AT_ONCE));
    }
}
