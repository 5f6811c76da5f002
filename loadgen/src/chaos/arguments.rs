//! What people choose, and the commands that run it again.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use stockloop_tests::real::REQUIRE_REAL;

use super::instance::{Relay, Releases};
use super::scenarios::{self, ALL, EVERY, Scenario};
use crate::programs::{COPY, OWNER, Programs};

/// Runs both services under load while faults happen to them, and then holds everything against everything.
///
/// Both are child processes, on a PostgreSQL, or on files of SQLite, and an Apache Kafka of their own, which need a JDK
/// 17, and Maven to fetch Kafka once. Clients change products, place orders and cancel them over HTTP, each write with
/// an Idempotency-Key, and repeat what got no answer. What happens, and when, is drawn from the seed and printed. In
/// the end all is put right, and when nothing waits any more, the judge looks (as `stockloop-loadgen check --settled`),
/// and what clients were told is held against the databases: what was answered is there exactly once, and of what
/// nobody knows, all or nothing.
///
/// The exit code is 0 if all is well, and 1 if anything is wrong, also if a fault met nothing. Then the command that runs the
/// same again is printed, and logs and databases are kept. The same seed makes the same faults and the same clients; how they
/// meet is not repeated to the millisecond. docs/RELIABILITY.md says what each scenario does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen chaos --scenario kill --seconds 30
  stockloop-loadgen chaos --scenario lost-commit,lost-send --seed 42 --seeds 5
  stockloop-loadgen chaos --seeds 10 --jobs 4
  stockloop-loadgen chaos --seconds 60 --json chaos.json --report docs/RELIABILITY.md
  stockloop-loadgen chaos --seed 1 --seeds 10 --jobs 4 --json chaos.json --resume")]
pub(crate) struct Arguments {
    /// What happens: one of these, or several with commas in between
    #[arg(
        long = "scenario",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = EVERY,
        value_parser = scenarios::names()
    )]
    scenarios: Vec<String>,
    /// Where plan and clients begin [default: a new one, which is printed]
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// With how many seeds each scenario is run: this one and those that follow it, each with all scenarios before the next
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// How long faults happen, if none of them lasts longer; what starts and ends of processes take comes on top
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(super) seconds: u64,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(super) clients: u16,
    /// Where the services' relays find events
    #[arg(long, value_enum, default_value_t = Relay::Table)]
    pub(super) relay: Relay,
    /// Changes that wait at once, and messages, in the scenario backlog; each takes some ms, and a million some GB of disk
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    pub(super) backlog: u32,
    /// How many runs there are at a time, each with a PostgreSQL, a Kafka and both services of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(super) jobs: u16,
    /// The program of product-service [default: product-service beside this program]
    #[arg(long, value_name = "PATH")]
    product_service: Option<PathBuf>,
    /// The program of order-service [default: order-service beside this program]
    #[arg(long, value_name = "PATH")]
    order_service: Option<PathBuf>,
    /// A folder with both programs of the last release, for the scenario upgrade
    #[arg(long, value_name = "DIR")]
    old_programs: Option<PathBuf>,
    /// Also write the outcomes to this file as JSON, each time that a run has ended
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Go on with runs that were ended early: what the file of --json has is not run again. All else has to be told as before,
    /// also the seed; without such a file they begin
    #[arg(long, requires = "json", requires = "seed")]
    pub(super) resume: bool,
    /// Also write them as a table into this Markdown file, in the place of the one that is there
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}

/// A scenario that is to be run with a seed.
#[derive(Clone, Copy)]
pub(super) struct Trial {
    pub(super) scenario: &'static Scenario,
    pub(super) seed: u64,
}

impl Arguments {
    /// The programs of this release, and of the last one if they are named.
    pub(super) fn releases(&self) -> Result<Releases> {
        let in_folder = |folder: &Path| {
            let found = Programs::find(Some(&folder.join(OWNER)), Some(&folder.join(COPY)));
            found.with_context(|| format!("--old-programs {}", folder.display()))
        };
        let before = self.old_programs.as_deref().map(in_folder).transpose()?;
        let this = Programs::find(self.product_service.as_deref(), self.order_service.as_deref())?;
        Ok(Releases { this, before })
    }

    /// All that is to be run, from the seed `first` on: whoever ends it early has tried each scenario about as often as the
    /// others.
    pub(super) fn trials(&self, first: u64, releases: &Releases) -> Vec<Trial> {
        let chosen = chosen(&self.scenarios, releases);
        let seeds = (0..self.seeds).map(|more| first.wrapping_add(more));
        let with = |seed| chosen.iter().map(move |scenario| Trial { scenario, seed });
        seeds.flat_map(with).collect()
    }

    /// The command that runs one of them again, by this very program.
    pub(super) fn command(&self, trial: Trial) -> String {
        command(&this_program(), &self.of_trial(trial))
    }

    /// The command that runs all of them again, by this very program.
    pub(super) fn whole_command(&self, first: u64) -> String {
        command(&this_program(), &[self.of_all(first), self.programs()].concat())
    }

    /// The same for people who have their programs elsewhere.
    pub(super) fn command_for_others(&self, first: u64) -> String {
        command(OsStr::new("stockloop-loadgen"), &self.of_all(first))
    }

    /// What this program is told to run one of them.
    pub(super) fn of_trial(&self, Trial { scenario, seed }: Trial) -> Vec<OsString> {
        [self.of(scenario.name, seed), self.programs()].concat()
    }

    fn of_all(&self, first: u64) -> Vec<OsString> {
        let mut words = self.of(&self.scenarios.join(","), first);
        for (name, number) in [("--seeds", self.seeds), ("--jobs", self.jobs.into())] {
            words.extend([OsString::from(name), number.to_string().into()]);
        }
        words
    }

    fn of(&self, scenarios: &str, seed: u64) -> Vec<OsString> {
        let Self { seconds, clients, relay, backlog, .. } = self;
        let options = [
            ("--scenario", scenarios.to_owned()),
            ("--seed", seed.to_string()),
            ("--seconds", seconds.to_string()),
            ("--clients", clients.to_string()),
            ("--relay", relay.to_string()),
            ("--backlog", backlog.to_string()),
        ];
        let options = options.map(|(name, value)| [OsString::from(name), value.into()]);
        [vec!["chaos".into()], options.concat()].concat()
    }

    /// Where the services' programs are, as far as that was said.
    fn programs(&self) -> Vec<OsString> {
        let paths = [
            ("--product-service", &self.product_service),
            ("--order-service", &self.order_service),
            ("--old-programs", &self.old_programs),
        ];
        let said = paths.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
        said.flat_map(|(name, path)| [OsString::from(name), path.into()]).collect()
    }
}

/// What was asked for, each once; of all scenarios, those that can be run here.
fn chosen(names: &[String], releases: &Releases) -> Vec<&'static Scenario> {
    let is_forced = env::var_os(REQUIRE_REAL).is_some_and(|value| value == "1");
    let can_run = |scenario: &Scenario| match (scenario.missing)(releases) {
        // Nobody can install the programs of another release.
        Some(missing) if !is_forced || scenario.is_upgraded => {
            println!("SKIPPED: {}: {missing}", scenario.name);
            false
        }
        _ => true,
    };
    let is_named = |name: &str| names.iter().any(|named| named == name);
    let is_every = is_named(EVERY);
    let is_chosen =
        |scenario: &Scenario| is_named(scenario.name) || (is_every && can_run(scenario));
    ALL.iter().filter(|scenario| is_chosen(scenario)).collect()
}

/// As it was called.
fn this_program() -> OsString {
    env::args_os().next().unwrap_or_default()
}

/// A program and what it is told, as a shell takes it.
fn command(program: &OsStr, words: &[OsString]) -> String {
    let words = words.iter().map(OsString::as_os_str);
    std::iter::once(program).chain(words).map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-,".contains(c);
    if text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn told(words: &[&str]) -> Arguments {
        let command = Arguments::augment_args(Command::new("chaos"));
        let words = std::iter::once("chaos").chain(words.iter().copied());
        Arguments::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    fn releases() -> Releases {
        let [owner, copy] = [OWNER, COPY].map(PathBuf::from);
        Releases { this: Programs { owner, copy }, before: None }
    }

    /// What is run, from the seed 7 on, if no other is told.
    fn trials(words: &[&str]) -> Vec<(&'static str, u64)> {
        let arguments = told(words);
        let trials = arguments.trials(arguments.seed.unwrap_or(7), &releases());
        trials.iter().map(|trial| (trial.scenario.name, trial.seed)).collect()
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_cut_it() {
        let quoted = |word: &str| quoted(OsStr::new(word));
        assert_eq!(quoted("target/release/order-service"), "target/release/order-service");
        assert_eq!(quoted("kill,lost-commit"), "kill,lost-commit");
        assert_eq!(quoted("my target/a'b"), r"'my target/a'\''b'");
    }

    #[test]
    fn scenarios_are_chosen_by_their_names() {
        assert_eq!(trials(&["--scenario", "kill"]), [("kill", 7)]);
        let upgrade = trials(&["--scenario", "upgrade"]);
        assert_eq!(upgrade, [("upgrade", 7)], "also where it can't be run, which is said then");
        let some = ["--scenario", "scale,kill", "--scenario", "freeze,scale"];
        assert_eq!(trials(&some), [("kill", 7), ("freeze", 7), ("scale", 7)], "each once");
    }

    #[test]
    fn of_all_scenarios_those_are_chosen_that_can_be_run() {
        let all = trials(&[]);
        assert!(!all.contains(&("upgrade", 7)), "there are no programs of the last release");
        let needing = ALL.iter().filter(|scenario| (scenario.missing)(&releases()).is_some());
        assert!(all.len() + needing.count() >= ALL.len());
        let with_named = trials(&["--scenario", "all,upgrade"]);
        assert_eq!(with_named.len(), all.len() + 1, "what is named is tried");
    }

    #[test]
    fn each_seed_has_its_turn_with_all_scenarios() {
        let words = ["--scenario", "kill,freeze", "--seed", "8", "--seeds", "2"];
        assert_eq!(trials(&words), [("kill", 8), ("freeze", 8), ("kill", 9), ("freeze", 9)]);
        let last = ["--scenario", "kill", "--seed", "18446744073709551615", "--seeds", "2"];
        assert_eq!(trials(&last), [("kill", u64::MAX), ("kill", 0)]);
    }

    #[test]
    fn a_command_runs_the_same_again() {
        let words = ["--scenario", "scale,kill", "--seeds", "2", "--seconds", "6"];
        let more = ["--clients", "3", "--relay", "log", "--old-programs", "my target"];
        let arguments = told(&[&words[..], &more].concat());
        assert_eq!(
            arguments.command_for_others(7),
            "stockloop-loadgen chaos --scenario scale,kill --seed 7 --seconds 6 --clients 3 --relay log --backlog 100000 --seeds 2 --jobs 1"
        );
        let whole = arguments.whole_command(7);
        assert!(whole.ends_with(" --seeds 2 --jobs 1 --old-programs 'my target'"), "{whole}");
        let kill = arguments.trials(7, &releases())[0];
        let one = arguments.command(kill);
        assert!(one.contains(" chaos --scenario kill --seed 7 --seconds 6 "), "{one}");
        assert!(one.ends_with(" --backlog 100000 --old-programs 'my target'"), "{one}");
        let words = arguments.of_trial(kill);
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(trials(&words[1..]), [("kill", 7)]);
        assert_eq!(told(&words[1..]).of_trial(kill), arguments.of_trial(kill));
    }
}
