//! What is written down of a series of runs while it lasts, so that it can be gone on with where it was ended.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::arguments::Trial;
use super::instance::Releases;
use super::outcome::Outcome;
use super::scenarios::ALL;

/// What the file of `--json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What was asked for.
    pub(super) command: String,
    /// The seed that is the first one.
    pub(super) first_seed: u64,
    /// By which programs all of it was run.
    pub(super) programs: Vec<Build>,
    /// How long each sitting has taken, in ms; the last one is this one.
    sittings_ms: Vec<u64>,
    /// What has come of the runs that have ended, in the order in which they begin.
    pub(super) outcomes: Vec<Outcome>,
}

/// A program as it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Build {
    path: PathBuf,
    bytes: u64,
    modified_us: u64,
}

impl Record {
    /// Of a series that begins.
    pub(super) fn new(command: String, first_seed: u64, programs: Vec<Build>) -> Self {
        Self { command, first_seed, programs, sittings_ms: vec![0], outcomes: Vec::new() }
    }

    /// What `file` has of this series, for another sitting; this itself where there is no such file, or nothing in it.
    ///
    /// # Errors
    /// If `file` can't be read, or is of other runs or other programs: what comes of those is no part of this.
    pub(super) fn resumed(self, file: &Path) -> Result<Self> {
        let name = file.display();
        let json = match fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self),
            read => read.with_context(|| format!("cannot read {name}"))?,
        };
        if json.is_empty() {
            return Ok(self);
        }
        let mut begun: Self = serde_json::from_slice(&json)
            .with_context(|| format!("{name} has no runs that could be gone on with"))?;
        ensure!(
            begun.command == self.command,
            "{name} was begun by other words, which go on with it (beside --json, --report and where programs are):\n  {}",
            begun.command
        );
        begun.ensure_of(&self.programs).with_context(|| {
            format!("what {name} has can't be gone on with: begin anew, without --resume")
        })?;
        begun.sittings_ms.push(0);
        Ok(begun)
    }

    /// Fails where these are not the programs that all of it was run by.
    pub(super) fn ensure_of(&self, programs: &[Build]) -> Result<()> {
        if let Some(build) = first_difference(programs, &self.programs) {
            let path = build.path.display();
            bail!(
                "{path} is another one than at the beginning, and all runs have to be of one build"
            );
        }
        Ok(())
    }

    /// Whether it has what came of this one.
    pub(super) fn has(&self, trial: &Trial) -> bool {
        let Trial { scenario, seed } = trial;
        self.outcomes.iter().any(|run| run.seed == *seed && run.scenario == scenario.name)
    }

    /// Takes what came of one, so long after this sitting began.
    pub(super) fn take(&mut self, outcome: Outcome, since: Duration) {
        self.outcomes.push(outcome);
        let first = self.first_seed;
        let place = |name: &str| ALL.iter().position(|scenario| scenario.name == name);
        self.outcomes.sort_by_key(|run| (run.seed.wrapping_sub(first), place(&run.scenario)));
        if let Some(sitting) = self.sittings_ms.last_mut() {
            *sitting = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        }
    }

    /// How long each sitting has taken in which runs have ended.
    pub(super) fn sittings(&self) -> Vec<Duration> {
        let ended = self.sittings_ms.iter().filter(|ms| **ms > 0);
        ended.copied().map(Duration::from_millis).collect()
    }

    pub(super) fn is_well(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_well)
    }

    /// What it has of one run alone.
    pub(super) fn only(json: &[u8]) -> Result<Outcome> {
        let record: Self = serde_json::from_slice(json)?;
        let [only] =
            <[_; 1]>::try_from(record.outcomes).ok().context("it is not of one run alone")?;
        Ok(only)
    }
}

/// A program that only one of both has.
fn first_difference<'a>(one: &'a [Build], other: &'a [Build]) -> Option<&'a Build> {
    let only =
        |these: &'a [Build], those: &'a [Build]| these.iter().find(|build| !those.contains(build));
    only(one, other).or_else(|| only(other, one))
}

impl Build {
    /// All programs of a run: this one, which judges, and those of the services.
    pub(super) fn all(releases: &Releases) -> Result<Vec<Self>> {
        let this = env::current_exe()?;
        let services = std::iter::once(&releases.this).chain(&releases.before);
        let services = services.flat_map(|programs| [&programs.owner, &programs.copy]);
        std::iter::once(&this).chain(services).map(|path| Self::of(path)).collect()
    }

    fn of(path: &Path) -> Result<Self> {
        let of = || format!("{} can't be looked at", path.display());
        let found = fs::metadata(path).with_context(of)?;
        let modified = found.modified()?.duration_since(UNIX_EPOCH).with_context(of)?;
        let modified_us = u64::try_from(modified.as_micros())?;
        Ok(Self { path: path.to_owned(), bytes: found.len(), modified_us })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn run(scenario: &str, seed: u64) -> Outcome {
        Outcome { scenario: scenario.to_owned(), seed, ..Outcome::default() }
    }

    fn build(path: &str, bytes: u64) -> Build {
        Build { path: path.into(), bytes, modified_us: 1 }
    }

    fn new() -> Record {
        Record::new("chaos --seed 7".to_owned(), 7, vec![build("a", 1), build("b", 2)])
    }

    fn names(record: &Record) -> Vec<(&str, u64)> {
        record.outcomes.iter().map(|run| (run.scenario.as_str(), run.seed)).collect()
    }

    #[test]
    fn a_series_goes_on_where_it_was_ended() {
        let folder = tempdir().unwrap();
        let file = folder.path().join("runs.json");
        assert_eq!(new().resumed(&file).unwrap(), new(), "there is nothing to go on with");
        fs::write(&file, "").unwrap();
        assert_eq!(new().resumed(&file).unwrap(), new());
        let mut begun = new();
        begun.take(run("poison", 7), Duration::from_secs(3));
        begun.take(run("kill", 7), Duration::from_secs(5));
        fs::write(&file, serde_json::to_vec(&begun).unwrap()).unwrap();
        let mut resumed = new().resumed(&file).unwrap();
        assert_eq!(resumed.sittings(), [Duration::from_secs(5)], "nothing has ended since");
        resumed.take(run("kill", 8), Duration::from_secs(2));
        assert_eq!(resumed.sittings(), [5, 2].map(Duration::from_secs));
        assert_eq!(names(&resumed), [("kill", 7), ("poison", 7), ("kill", 8)]);
        for (name, seed, expected) in [("kill", 8, true), ("poison", 8, false), ("kill", 9, false)]
        {
            let scenario = ALL.iter().find(|scenario| scenario.name == name).unwrap();
            assert_eq!(resumed.has(&Trial { scenario, seed }), expected, "{name} {seed}");
        }
    }

    #[test]
    fn seeds_stay_in_their_order_behind_the_greatest_one() {
        let mut record = Record::new("chaos".to_owned(), u64::MAX, Vec::new());
        record.take(run("kill", 0), Duration::from_secs(1));
        record.take(run("kill", u64::MAX), Duration::from_secs(2));
        assert_eq!(names(&record), [("kill", u64::MAX), ("kill", 0)]);
    }

    #[test]
    fn what_is_of_others_is_not_gone_on_with() {
        let folder = tempdir().unwrap();
        let file = folder.path().join("runs.json");
        let mut begun = new();
        begun.take(run("kill", 7), Duration::from_secs(5));
        fs::write(&file, serde_json::to_vec(&begun).unwrap()).unwrap();
        let of_others = |change: fn(&mut Record)| {
            let mut asked = new();
            change(&mut asked);
            format!("{:#}", asked.resumed(&file).unwrap_err())
        };
        let words = of_others(|asked| asked.command.push_str(" --seconds 9"));
        assert!(words.ends_with("\n  chaos --seed 7"), "{words}");
        let words = of_others(|asked| asked.programs = vec![build("a", 1), build("b", 3)]);
        assert!(words.contains("without --resume: b is another one"), "{words}");
        let words = of_others(|asked| asked.programs.truncate(1));
        assert!(words.contains("without --resume: b is another one"), "{words}");
        fs::write(&file, "[]").unwrap();
        let words = of_others(|_| {});
        assert!(words.contains("no runs that could be gone on with"), "{words}");
    }

    #[test]
    fn a_program_that_is_built_anew_is_another_one() {
        let folder = tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, "one").unwrap();
        let before = Build::of(&file).unwrap();
        assert_eq!(before, Build::of(&file).unwrap());
        fs::write(&file, "another").unwrap();
        assert_ne!(before, Build::of(&file).unwrap());
        assert!(Build::of(&folder.path().join("none")).is_err());
    }

    #[test]
    fn what_one_run_wrote_is_read_as_it_was() {
        let mut outcome = run("kill", u64::MAX);
        outcome.drain_s = Some(2.5);
        outcome.take_met([("kills", 3), ("cuts", 0)].into());
        let json = |outcomes: &[&Outcome]| {
            let mut record = new();
            outcomes.iter().for_each(|run| record.take((*run).clone(), Duration::from_secs(1)));
            serde_json::to_vec_pretty(&record).unwrap()
        };
        assert_eq!(Record::only(&json(&[&outcome])).unwrap(), outcome);
        let (none, two) = (json(&[]), json(&[&outcome, &outcome]));
        for other in [&none[..], &two, &two[..20], b""] {
            assert!(Record::only(other).is_err(), "{}", String::from_utf8_lossy(other));
        }
    }
}
