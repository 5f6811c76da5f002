//! What came of a run of a scenario, as a line of the table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ledger::Held;
use super::scenarios::EVERY;
use crate::check::Kind;

/// A run of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) scenario: String,
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
    pub(super) met: BTreeMap<String, u64>,
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
        self.met = met.into_iter().map(|(what, many)| (what.to_owned(), many)).collect();
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
        if self.met.is_empty() {
            return "nothing".to_owned();
        }
        let met = self.met.iter().map(|(what, many)| format!("{many} {what}"));
        met.collect::<Vec<_>>().join(", ")
    }
}

/// What some runs came to together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) changes: u64,
    pub(super) unknown: u64,
    pub(super) lost: u64,
    pub(super) applied_twice: u64,
    pub(super) unalerted: u64,
    pub(super) other: u64,
    pub(super) exhausted: u64,
    pub(super) mails: usize,
    /// The longest; nothing if it did not come in one of them.
    pub(super) drain_s: Option<f64>,
}

impl Sum {
    pub(super) fn of(runs: &[&Outcome]) -> Self {
        let sum = |of: fn(&Outcome) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
        // One that never drained is longer than all others.
        let drains = runs.iter().map(|run| run.drain_s);
        let longest = drains.reduce(|one, next| one.zip(next).map(|(one, next)| one.max(next)));
        Self {
            changes: sum(|run| run.changes),
            unknown: sum(|run| run.unknown),
            lost: sum(|run| run.lost),
            applied_twice: sum(|run| run.applied_twice),
            unalerted: sum(|run| run.unalerted),
            other: sum(|run| run.other),
            exhausted: sum(|run| run.exhausted),
            mails: runs.iter().map(|run| run.mails).sum(),
            drain_s: longest.flatten(),
        }
    }

    /// How long it took until nothing waited, in words.
    pub(super) fn time_to_drain(&self) -> String {
        self.drain_s.map_or("never".to_owned(), |seconds| format!("{seconds:.1} s"))
    }
}

/// What stands for the names of all scenarios, and for the seeds of so many runs, where a table has their sum.
pub(super) fn of_all(runs: usize) -> [String; 2] {
    [EVERY.to_owned(), number_of(runs)]
}

/// How many runs there were, how long each sitting took, and how many runs there were at a time, in words.
pub(super) fn effort(runs: usize, sittings: &[Duration], at_once: usize) -> String {
    let beside = if at_once > 1 { format!(", {at_once} at a time") } else { String::new() };
    let sat = if let more @ 2.. = sittings.len() {
        format!(", in {more} sittings")
    } else {
        String::new()
    };
    format!("{} in {}{beside}{sat}", number_of(runs), length(sittings.iter().sum()))
}

fn number_of(runs: usize) -> String {
    format!("{runs} {}", if runs == 1 { "run" } else { "runs" })
}

fn length(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} minutes", (seconds + 30) / 60),
    }
}

/// A line for each run, and one for all.
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
    let mut lines = vec![headings];
    for run in outcomes {
        lines.push(cells([run.scenario.clone(), run.seed.to_string()], &Sum::of(&[run])));
    }
    if outcomes.len() > 1 {
        let all: Vec<&Outcome> = outcomes.iter().collect();
        lines.push(cells(of_all(all.len()), &Sum::of(&all)));
    }
    let width = |column: usize| {
        let lengths = lines.iter().filter_map(|line| line.get(column)).map(String::len);
        lengths.max().unwrap_or_default()
    };
    let widths: [usize; 11] = std::array::from_fn(width);
    let write = |line: &[String; 11]| {
        let cell = |(column, (text, width)): (usize, (&String, usize))| {
            if column == 0 { format!("{text:<width$}") } else { format!("  {text:>width$}") }
        };
        line.iter().zip(widths).enumerate().map(cell).collect::<String>() + "\n"
    };
    lines.iter().map(write).collect()
}

fn cells([scenario, seed]: [String; 2], sum: &Sum) -> [String; 11] {
    [
        scenario,
        seed,
        sum.changes.to_string(),
        sum.unknown.to_string(),
        sum.lost.to_string(),
        sum.applied_twice.to_string(),
        sum.unalerted.to_string(),
        sum.other.to_string(),
        sum.exhausted.to_string(),
        sum.mails.to_string(),
        sum.time_to_drain(),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
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
        let run = Outcome { scenario: "kill".to_owned(), seed: u64::MAX, ..Outcome::default() };
        let one = table(std::slice::from_ref(&run));
        assert!(one.contains("18446744073709551615") && one.contains("never"), "{one}");
        let two = table(&[run.clone(), run]);
        for (table, expected) in [(one, 2), (two, 4)] {
            let lengths: Vec<usize> = table.lines().map(str::len).collect();
            assert_eq!(lengths, vec![lengths[0]; expected], "{table}");
        }
    }

    #[test]
    fn a_sum_has_the_longest_time_to_drain_if_all_did() {
        let run =
            |drain_s| Outcome { changes: 3, lost: 1, mails: 2, drain_s, ..Outcome::default() };
        let (one, longer, endless) = (run(Some(1.5)), run(Some(2.5)), run(None));
        let sum = Sum::of(&[&longer, &one]);
        let expected = Sum { changes: 6, lost: 2, mails: 4, drain_s: Some(2.5), ..Sum::default() };
        assert_eq!((&sum, sum.time_to_drain()), (&expected, "2.5 s".to_owned()));
        for runs in [[&one, &endless], [&endless, &one]] {
            assert_eq!(Sum::of(&runs).time_to_drain(), "never");
        }
    }

    #[test]
    fn what_runs_took_is_told_in_units_that_people_count_in() {
        for (runs, seconds, at_once, expected) in [
            (1, 0, 1, "1 run in 0 s"),
            (2, 119, 2, "2 runs in 119 s, 2 at a time"),
            (3, 120, 1, "3 runs in 2 minutes"),
            (50, 3_570, 4, "50 runs in 60 minutes, 4 at a time"),
        ] {
            assert_eq!(effort(runs, &[Duration::from_secs(seconds)], at_once), expected);
        }
        let sittings = [3_600, 1_800].map(Duration::from_secs);
        assert_eq!(effort(9, &sittings, 4), "9 runs in 90 minutes, 4 at a time, in 2 sittings");
    }
}
