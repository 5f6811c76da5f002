//! Longer work that goes on by itself once it is begun, and has to do so where a kill cut it off.

use std::fmt;

/// What is to be done. product-service does it, step by step, and keeps in a row how far it is. All but the first also ask
/// order-service for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chore {
    /// All events that gave up are sent again, by a bulk job.
    Resend,
    /// The copy is compared with its owner.
    Verify,
    /// What differs, since somebody damaged the copy, is sent again.
    Repair,
    /// A copy that somebody emptied is filled.
    Fill,
}

impl Chore {
    /// The table with that row.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Resend => "bulk_job",
            Self::Verify => "verification",
            Self::Repair => "resync_job",
            Self::Fill => "bootstrap",
        }
    }

    /// How often the row is updated at the least, with as much to do as there is in a trial.
    pub(super) const fn updates(self) -> u64 {
        match self {
            Self::Resend | Self::Repair => 3,
            Self::Verify => 5,
            Self::Fill => 6,
        }
    }

    /// What a kill in the middle of it meets.
    pub(super) const fn cut_off(self) -> &'static str {
        match self {
            Self::Resend => "bulk jobs that were cut off",
            Self::Verify => "verifications that were cut off",
            Self::Repair => "repairs that were cut off",
            Self::Fill => "fillings that were cut off",
        }
    }

    /// The same where it came to its end after that.
    pub(super) const fn gone_on(self) -> &'static str {
        match self {
            Self::Resend => "bulk jobs that went on to their end",
            Self::Verify => "verifications that went on to their end",
            Self::Repair => "repairs that went on to their end",
            Self::Fill => "fillings that went on to their end",
        }
    }
}

impl fmt::Display for Chore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resend => "the sending of what gave up",
            Self::Verify => "the verification of the copy",
            Self::Repair => "the repair of a damaged copy",
            Self::Fill => "the filling of an emptied copy",
        })
    }
}

/// A point of it: a transaction that updates its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// Which update, from 1 on.
    pub(super) update: u64,
    /// When its transaction commits, which the server then does whoever is gone; else at its statement, which is undone.
    pub(super) is_at_commit: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.is_at_commit { "at the commit of" } else { "in" };
        write!(f, "{when} update {}", self.update)
    }
}
