//! What faults have met, and what went wrong.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::chaos::fault::Who;

/// What a system knows of how a run went.
#[derive(Debug, Default)]
pub(in crate::chaos) struct Tally {
    /// How much of what each kind of fault has to meet, it has met so far.
    pub(in crate::chaos) met: BTreeMap<&'static str, u64>,
    /// Mostly of processes: that one ended by itself or not in good order, did not come up, or panicked.
    pub(in crate::chaos) complaints: Vec<String>,
}

impl Tally {
    pub(super) fn meet(&mut self, what: &'static str, many: u64) {
        *self.met.entry(what).or_default() += many;
    }

    /// Whether there was a fault that has to meet this.
    pub(super) fn counts(&self, what: &str) -> bool {
        self.met.contains_key(what)
    }

    /// What is only known now of what faults met, if any such fault was there.
    pub(super) fn note_met(&mut self, known: impl IntoIterator<Item = (&'static str, u64)>) {
        for (what, many) in known {
            if let Some(met) = self.met.get_mut(what) {
                *met = many;
            }
        }
    }

    pub(super) fn complain(&mut self, words: String) {
        self.complaints.push(words);
    }

    /// Keeps what went wrong with a process; 1 if nothing did.
    pub(super) fn note(&mut self, who: Who, done: Result<()>) -> u64 {
        match done {
            Ok(()) => 1,
            Err(error) => {
                self.complain(format!("{who}: {error:#}"));
                0
            }
        }
    }
}
