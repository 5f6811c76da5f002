//! When databases came back as they were before: a standby that had not got all took the place of their server.

use std::ops::Range;
use std::time::Instant;

use crate::chaos::load::Setbacks;

/// Those so far.
#[derive(Default)]
pub(super) struct Failovers {
    /// Since when the standby has got nothing more.
    behind_since: Option<Instant>,
    /// When changes were answered that one may have taken back.
    lost_times: Vec<Range<Instant>>,
    /// What clients are told of that.
    setbacks: Setbacks,
}

impl Failovers {
    /// The standby is about to get nothing more.
    pub(super) fn leave_behind(&mut self) {
        self.behind_since = Some(Instant::now());
    }

    /// The standby has taken the server's place, where nobody is led yet.
    pub(super) fn promote(&mut self) {
        if let Some(since) = self.behind_since.take() {
            self.lost_times.push(since..Instant::now());
            self.setbacks.begin();
        }
    }

    /// What they took back is mended.
    pub(super) fn end(&self) {
        self.setbacks.end();
    }

    pub(super) fn lost_times(&self) -> &[Range<Instant>] {
        &self.lost_times
    }

    pub(super) fn setbacks(&self) -> Setbacks {
        self.setbacks.clone()
    }
}
