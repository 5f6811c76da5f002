//! What a careful client knows of its changes, and whether the databases agree: each answered change has its effect exactly
//! once, one that the service says is not done has none, and of those that nobody knows of, each has it once or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

/// Of what went wrong, so many are told in words.
const FIRST: usize = 10;

/// What the client learned from one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is done, with so many effects.
    Done(u64),
    /// It is refused for good.
    Refused,
    /// It is not done, and may be tried again.
    NotDone,
    /// There is no telling.
    Unknown,
}

impl Told {
    /// What an answer says: its status, and its kind of problem if it has one. An answer that is a success has `effects`.
    pub(super) fn by(status: u16, problem: &str, effects: u64) -> Self {
        let problem = problem.rsplit(':').next().unwrap_or_default();
        match (status, problem) {
            (200..=299, _) => Self::Done(effects),
            (409, "idempotency-running") => Self::Unknown,
            (408 | 429, _) | (503, "unavailable" | "copy-not-complete") => Self::NotDone,
            (400..=499, _) => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

/// A change that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// What its effects carry in the databases.
    trace: String,
    /// Its effects if it is done.
    effects: u64,
    /// When it was answered, if it is done.
    done: Option<Instant>,
    /// Whether a try ended without anybody knowing how: then a later refusal says nothing of that one.
    may_be_done: bool,
}

/// All changes of a client, or of several.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// How often a client was told what can't be, and the first of that in words.
    untrue: u64,
    words: Vec<String>,
}

/// A change in its ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(usize);

/// What came of holding the databases against a ledger.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Changes that were answered.
    pub(super) changes: u64,
    /// Changes of which the client never learned whether they are done.
    pub(super) unknown: u64,
    /// Answered changes that are not there, and may be gone.
    pub(super) taken_back: u64,
    /// Effects of answered changes that are not there.
    pub(super) lost: u64,
    /// Effects that are there once too often.
    pub(super) twice: u64,
    /// What contradicts what clients were told otherwise.
    pub(super) untrue: u64,
    /// The first of all these in words.
    pub(super) words: Vec<String>,
}

impl Ledger {
    /// A change is about to be asked for; done, it has so many effects that carry `trace`.
    pub(super) fn ask(&mut self, trace: String, effects: u64) -> Ticket {
        self.entries.push(Entry { trace, effects, done: None, may_be_done: false });
        Ticket(self.entries.len() - 1)
    }

    /// A try of it ended at this moment.
    pub(super) fn note(&mut self, Ticket(number): Ticket, told: Told, at: Instant) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        match told {
            Told::Done(effects) => (entry.done, entry.effects) = (Some(at), effects),
            Told::Unknown => entry.may_be_done = true,
            Told::Refused | Told::NotDone => {}
        }
    }

    /// A client was told what can't be.
    pub(super) fn complain(&mut self, words: String) {
        self.untrue += 1;
        if self.words.len() < FIRST {
            self.words.push(words);
        }
    }

    /// Takes what another client knows in.
    pub(super) fn take(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.untrue += other.untrue;
        self.words.extend(other.words);
    }

    /// Holds what was `found`, effects by what they carry, against it. What was answered at a time that was `lost` is there,
    /// or taken back.
    pub(super) fn hold(&self, found: &BTreeMap<String, u64>, lost: &[Range<Instant>]) -> Held {
        let mut held = Held { untrue: self.untrue, ..Held::default() };
        for entry in &self.entries {
            let found = found.get(&entry.trace).copied().unwrap_or_default();
            let may_be_gone = |done: Instant| lost.iter().any(|time| time.contains(&done));
            held.hold(entry, found, entry.done.is_some_and(may_be_gone));
        }
        held.find_invented(self, found);
        // Last: what is lost is told, however often clients were told nonsense.
        self.words.iter().for_each(|words| held.tell(words.clone()));
        held
    }
}

impl Held {
    fn hold(&mut self, entry: &Entry, found: u64, may_be_gone: bool) {
        let Entry { ref trace, effects, done, may_be_done } = *entry;
        let is_done = done.is_some();
        self.changes += u64::from(is_done);
        self.unknown += u64::from(!is_done && may_be_done);
        let is_whole = (is_done || may_be_done) && found == effects;
        if is_whole || (!is_done && found == 0) {
            return;
        }
        if may_be_gone && found == 0 {
            self.taken_back += 1;
            return;
        }
        match (is_done, may_be_done) {
            (true, _) if found < effects => self.lost += effects - found,
            (true, _) | (false, true) if found > effects => self.twice += found - effects,
            // Done in part, or though it was said not to be.
            _ => self.untrue += 1,
        }
        let known = match (is_done, may_be_done) {
            (true, _) => "it was answered",
            (false, true) => "nobody knows whether it is done",
            (false, false) => "it was said not to be done",
        };
        self.tell(format!("{trace}: {known}; of {effects} effects, {found} are there"));
    }

    /// Effects that nobody asked for.
    fn find_invented(&mut self, ledger: &Ledger, found: &BTreeMap<String, u64>) {
        let asked: BTreeSet<&str> =
            ledger.entries.iter().map(|entry| entry.trace.as_str()).collect();
        for trace in found.keys().filter(|trace| !asked.contains(trace.as_str())) {
            self.untrue += 1;
            self.tell(format!("{trace}: nobody asked for it"));
        }
    }

    fn tell(&mut self, words: String) {
        if self.words.len() < FIRST {
            self.words.push(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What is held of one change with two effects that was told so, if so many are there.
    fn held(told: &[Told], found: u64) -> Held {
        let mut ledger = Ledger::default();
        let ticket = ledger.ask("a".to_owned(), 2);
        told.iter().for_each(|told| ledger.note(ticket, *told, Instant::now()));
        ledger.hold(&BTreeMap::from([("a".to_owned(), found)]), &[])
    }

    fn counts(told: &[Told], found: u64) -> [u64; 3] {
        let Held { lost, twice, untrue, words, .. } = held(told, found);
        assert_eq!(words.is_empty(), lost + twice + untrue == 0, "{words:?}");
        [lost, twice, untrue]
    }

    const DONE: Told = Told::Done(2);

    #[test]
    fn an_answered_change_is_there_exactly_once() {
        assert_eq!(counts(&[DONE], 2), [0, 0, 0]);
        assert_eq!(counts(&[DONE], 0), [2, 0, 0]);
        assert_eq!(counts(&[DONE], 1), [1, 0, 0]);
        assert_eq!(counts(&[DONE], 4), [0, 2, 0]);
        assert_eq!(counts(&[Told::Unknown, Told::NotDone, DONE], 2), [0, 0, 0]);
        // Of a batch, only the lines count that were taken.
        assert_eq!(counts(&[Told::Done(1)], 1), [0, 0, 0]);
    }

    #[test]
    fn one_that_nobody_knows_of_is_there_once_or_not_at_all() {
        assert_eq!(counts(&[Told::Unknown], 0), [0, 0, 0]);
        assert_eq!(counts(&[Told::Unknown], 2), [0, 0, 0]);
        assert_eq!(counts(&[Told::Unknown], 4), [0, 2, 0]);
        assert_eq!(counts(&[Told::Unknown], 1), [0, 0, 1], "half of a transaction");
        // The try before the refusal may have been done after it.
        assert_eq!(counts(&[Told::Unknown, Told::Refused], 2), [0, 0, 0]);
    }

    #[test]
    fn one_that_is_said_not_to_be_done_is_not() {
        for told in [&[][..], &[Told::NotDone], &[Told::Refused], &[Told::NotDone, Told::Refused]] {
            assert_eq!(counts(told, 0), [0, 0, 0]);
            assert_eq!(counts(told, 2), [0, 0, 1]);
        }
    }

    #[test]
    fn what_was_answered_in_a_lost_time_is_whole_or_gone() {
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        let (before, begin, within, end) = (at(0), at(10), at(20), at(30));
        let held = |answered, found| {
            let mut ledger = Ledger::default();
            let ticket = ledger.ask("a".to_owned(), 2);
            ledger.note(ticket, DONE, answered);
            let found = BTreeMap::from([("a".to_owned(), found)]);
            let Held { taken_back, lost, twice, .. } = ledger.hold(&found, &[begin..end]);
            [taken_back, lost, twice]
        };
        assert_eq!(held(within, 0), [1, 0, 0]);
        assert_eq!(held(within, 2), [0, 0, 0]);
        assert_eq!(held(within, 1), [0, 1, 0], "half of a transaction");
        assert_eq!(held(within, 3), [0, 0, 1]);
        assert_eq!(held(before, 0), [0, 2, 0]);
        assert_eq!(held(end, 0), [0, 2, 0]);
    }

    #[test]
    fn changes_are_counted_by_what_is_known_of_them() {
        let of = |told: &[Told]| (held(told, 2).changes, held(told, 2).unknown);
        assert_eq!(of(&[Told::Unknown, DONE]), (1, 0));
        assert_eq!(of(&[Told::Unknown]), (0, 1));
        assert_eq!(of(&[Told::Refused]), (0, 0));
    }

    #[test]
    fn what_nobody_asked_for_and_what_was_complained_of_is_untrue() {
        let mut ledger = Ledger::default();
        ledger.complain("a version went down".to_owned());
        let mut all = Ledger::default();
        all.take(ledger);
        let held = all.hold(&BTreeMap::from([("b".to_owned(), 1)]), &[]);
        assert_eq!((held.untrue, held.words.len()), (2, 2), "{held:?}");
    }

    #[test]
    fn what_is_told_again_and_again_is_counted_and_told_a_few_times() {
        let mut ledger = Ledger::default();
        (0..100).for_each(|n| ledger.complain(format!("flaw {n}")));
        let held = ledger.hold(&BTreeMap::new(), &[]);
        assert_eq!((held.untrue, held.words.len()), (100, FIRST));
    }

    #[test]
    fn answers_are_understood() {
        let problem = |name: &str| format!("urn:stockloop:problem:{name}");
        assert_eq!(Told::by(201, "", 3), Told::Done(3));
        assert_eq!(Told::by(503, &problem("unavailable"), 3), Told::NotDone);
        assert_eq!(Told::by(503, &problem("outcome-not-known"), 3), Told::Unknown);
        assert_eq!(Told::by(409, &problem("idempotency-running"), 3), Told::Unknown);
        assert_eq!(Told::by(408, "", 3), Told::NotDone, "it did not come whole");
        assert_eq!(Told::by(409, &problem("not-enough"), 3), Told::Refused);
        assert_eq!(Told::by(500, &problem("internal"), 3), Told::Unknown);
    }
}
