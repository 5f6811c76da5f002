//! What came of a run of a scenario, as a line of the table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ledger::Held;
use crate::check::Kind;

/// A run of a scenario.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Outcome {
    pub(super) scenario: &'static str,
    pub(super) seed: u64,
    pub(super) seconds: u64,
    /// Changes that clients were told are done.
    pub(super) changes: u64,
    /// Changes of which they never learned.
    pub(super) unknown: u64,
    /// Changes and events that are not there, or not everywhere.
    pub(super) lost: u64,
    pub(super) applied_twice: u64,
    /// What nobody was told of who has to know.
    pub(super) unalerted: u64,
    /// What else is wrong.
    pub(super) other: u64,
    /// Events that gave up; a person knows of each, or it counts above.
    pub(super) exhausted: u64,
    /// Mails that arrived, and how many of them came again.
    pub(super) mails: usize,
    pub(super) mails_again: usize,
    /// From the end of all faults until nothing waited; nothing if that did not come.
    pub(super) drain_s: Option<f64>,
    /// What the faults met.
    pub(super) met: BTreeMap<&'static str, u64>,
    /// What is wrong, in words.
    pub(super) words: Vec<String>,
    /// What runs it again.
    pub(super) command: String,
}

/// Which column of the table a finding of the judge belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Lost,
    Twice,
    Unalerted,
    Other,
}

fn column(kind: Kind) -> Column {
    match kind {
        Kind::EventLost
        | Kind::EventWithoutBody
        | Kind::ChangeUntold
        | Kind::EffectMissing
        | Kind::CopyMissing
        | Kind::CopyOlder
        | Kind::CauseMissing
        | Kind::AdjustmentWithoutChange
        | Kind::DeductionWithoutChange
        | Kind::ConfirmedNotDeducted
        | Kind::CancelledNotReturned => Column::Lost,
        Kind::EventInTwoPlaces | Kind::DeductedTwice => Column::Twice,
        Kind::ExhaustedWithoutAlert | Kind::AlertUntold | Kind::MailUnsent | Kind::MailLost => {
            Column::Unalerted
        }
        _ => Column::Other,
    }
}

impl Outcome {
    /// What the clients know, held against the databases.
    pub(super) fn take_held(&mut self, held: Held) {
        (self.changes, self.unknown) = (held.changes, held.unknown);
        self.lost += held.lost;
        self.applied_twice += held.twice;
        self.other += held.untrue;
        self.words.extend(held.words);
        if self.changes == 0 {
            self.complain("no change was answered, so nothing could be lost".to_owned());
        }
    }

    /// So many findings of the judge.
    pub(super) fn take_finding(&mut self, kind: Kind, many: u64) {
        let count = match column(kind) {
            Column::Lost => &mut self.lost,
            Column::Twice => &mut self.applied_twice,
            Column::Unalerted => &mut self.unalerted,
            Column::Other => &mut self.other,
        };
        *count += many;
        self.words.push(format!("the judge: {} ({many} found)", kind.name()));
    }

    /// What faults met. One that met nothing did not happen, and the run says nothing of it.
    pub(super) fn take_met(&mut self, met: BTreeMap<&'static str, u64>) {
        for (what, _) in met.iter().filter(|(_, many)| **many == 0) {
            self.complain(format!("a fault met nothing: there were no {what}"));
        }
        self.met = met;
    }

    /// Somebody who has to know was not told.
    pub(super) fn miss(&mut self, words: String) {
        self.unalerted += 1;
        self.words.push(words);
    }

    /// Something else is wrong.
    pub(super) fn complain(&mut self, words: String) {
        self.other += 1;
        self.words.push(words);
    }

    pub(super) fn is_well(&self) -> bool {
        [self.lost, self.applied_twice, self.unalerted, self.other] == [0; 4]
    }

    /// What the faults met, in words.
    pub(super) fn met(&self) -> String {
        let met = self.met.iter().map(|(what, many)| format!("{many} {what}"));
        met.collect::<Vec<_>>().join(", ")
    }
}

/// How long it took until nothing waited, in words.
pub(super) fn time_to_drain(seconds: Option<f64>) -> String {
    seconds.map_or("never".to_owned(), |seconds| format!("{seconds:.1} s"))
}

/// A line for each run.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let headings = [
        "scenario",
        "seed",
        "changes",
        "unknown",
        "lost",
        "applied twice",
        "unalerted",
        "other",
        "exhausted",
        "mails",
        "time to drain",
    ]
    .map(str::to_owned);
    let lines: Vec<[String; 11]> =
        std::iter::once(headings).chain(outcomes.iter().map(cells)).collect();
    let width = |column: usize| {
        let lengths = lines.iter().filter_map(|line| line.get(column)).map(String::len);
        lengths.max().unwrap_or_default()
    };
    let write = |line: &[String; 11]| {
        let cell = |(column, text): (usize, &String)| {
            let width = width(column);
            if column == 0 { format!("{text:<width$}") } else { format!("  {text:>width$}") }
        };
        line.iter().enumerate().map(cell).collect::<String>() + "\n"
    };
    lines.iter().map(write).collect()
}

fn cells(outcome: &Outcome) -> [String; 11] {
    [
        outcome.scenario.to_owned(),
        outcome.seed.to_string(),
        outcome.changes.to_string(),
        outcome.unknown.to_string(),
        outcome.lost.to_string(),
        outcome.applied_twice.to_string(),
        outcome.unalerted.to_string(),
        outcome.other.to_string(),
        outcome.exhausted.to_string(),
        outcome.mails.to_string(),
        time_to_drain(outcome.drain_s),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_where_they_belong() {
        let mut outcome = Outcome::default();
        assert!(outcome.is_well());
        for (kind, many) in [
            (Kind::CopyOlder, 2),
            (Kind::DeductedTwice, 3),
            (Kind::AlertUntold, 4),
            (Kind::StillOpen, 5),
        ] {
            outcome.take_finding(kind, many);
        }
        let Outcome { lost, applied_twice, unalerted, other, .. } = outcome;
        assert_eq!([lost, applied_twice, unalerted, other], [2, 3, 4, 5]);
        for kind in [Kind::CopyOlder, Kind::DeductedTwice, Kind::AlertUntold, Kind::StillOpen] {
            let mut outcome = Outcome::default();
            outcome.take_finding(kind, 1);
            assert!(!outcome.is_well(), "{kind:?}");
        }
    }

    #[test]
    fn what_clients_found_is_added_to_what_the_judge_found() {
        let mut outcome = Outcome { lost: 1, ..Outcome::default() };
        outcome.take_held(Held { changes: 9, lost: 2, twice: 1, untrue: 1, ..Held::default() });
        assert_eq!((outcome.changes, outcome.lost), (9, 3));
        assert_eq!((outcome.applied_twice, outcome.other), (1, 1));
    }

    #[test]
    fn a_run_in_which_nothing_happened_proves_nothing() {
        let mut idle = Outcome::default();
        idle.take_held(Held::default());
        assert!(!idle.is_well(), "nobody changed anything");
        let mut calm = Outcome::default();
        calm.take_met(BTreeMap::from([("kills", 3), ("cuts", 0)]));
        assert!(!calm.is_well(), "no connection was cut");
        assert!(calm.words.iter().all(|words| words.contains("cuts")), "{calm:?}");
        let mut untold = Outcome::default();
        untold.miss("a call".to_owned());
        assert_eq!((untold.unalerted, untold.is_well()), (1, false));
    }

    #[test]
    fn columns_of_the_table_stand_below_their_headings() {
        let outcome = Outcome { scenario: "kill", seed: u64::MAX, ..Outcome::default() };
        let table = table(&[outcome]);
        let lengths: Vec<usize> = table.lines().map(str::len).collect();
        assert_eq!(lengths.len(), 2);
        assert_eq!(lengths[0], lengths[1], "{table}");
        assert!(table.contains("18446744073709551615") && table.contains("never"), "{table}");
    }
}
