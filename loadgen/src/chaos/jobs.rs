//! Several runs at a time, each by a process of its own: this program, which is told to run that one alone.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use stockloop_tests::process::{Child, Launch, ScratchFolder};

use super::arguments::{Arguments, Trial};
use super::outcome::Outcome;
use super::record::Record;
use super::tell;
use crate::progress::turns_bar;

/// Between two looks for a process that has ended.
const LOOK: Duration = Duration::from_millis(100);

/// Where a process writes what came of its run, in a folder for it alone.
const OUTCOME: &str = "outcome.json";

/// Runs all of `trials`, up to `at_once` at a time, and hands over what came of each as it ends. What a run says is printed
/// then, and no other one's in between.
///
/// # Errors
/// Where a process can't be started, or what came of one is not taken; those that still run are ended.
pub(super) fn run(
    arguments: &Arguments,
    at_once: usize,
    trials: Vec<Trial>,
    mut take: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    // Asked once: a file that was built anew meanwhile is no longer found by its name.
    let program = env::current_exe()?;
    let bar = turns_bar(trials.len());
    let mut running: Vec<Job> = Vec::new();
    let mut waiting = trials.into_iter();
    loop {
        while running.len() < at_once
            && let Some(trial) = waiting.next()
        {
            running.push(Job::start(&program, arguments, trial)?);
            if bar.is_hidden() {
                println!("{} begins, with seed {}", trial.scenario.name, trial.seed);
            }
            show(&bar, &running);
        }
        match take_ended(&mut running) {
            Some((job, status)) => {
                take(bar.suspend(|| job.tell(arguments, status)))?;
                bar.inc(1);
                show(&bar, &running);
            }
            None if running.is_empty() => break,
            None => thread::sleep(LOOK),
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Shows which scenarios are run.
fn show(bar: &ProgressBar, running: &[Job]) {
    let names: Vec<&str> = running.iter().map(|job| job.trial.scenario.name).collect();
    bar.set_message(names.join(", "));
}

fn take_ended(running: &mut Vec<Job>) -> Option<(Job, ExitStatus)> {
    let ended = |(index, job): (usize, &mut Job)| Some((index, job.process.exited()?));
    let (index, status) = running.iter_mut().enumerate().find_map(ended)?;
    Some((running.remove(index), status))
}

/// A run, while its process lives.
struct Job {
    trial: Trial,
    process: Child,
    folder: ScratchFolder,
}

impl Job {
    fn start(program: &Path, arguments: &Arguments, trial: Trial) -> Result<Self> {
        let folder = ScratchFolder::new("run")?;
        let launch = Launch::new(program)
            .args(arguments.of_trial(trial))
            .arg("--json")
            .arg(folder.path().join(OUTCOME))
            // Paths are meant from here.
            .folder(env::current_dir()?)
            // Whatever ends this process: it has servers to end, too.
            .last_signal("TERM");
        let name = trial.scenario.name;
        let process = launch.spawn().with_context(|| format!("{name} can't be started"))?;
        Ok(Self { trial, process, folder })
    }

    /// Prints what it has said, and returns what came of it, now that it has ended like this.
    fn tell(&self, arguments: &Arguments, status: ExitStatus) -> Outcome {
        println!("\n{}", self.process.log().trim_end());
        let file = self.folder.path().join(OUTCOME);
        let written = fs::read(file).map_err(Into::into).and_then(|json| Record::only(&json));
        let objection = objection(&written, status);
        let mut outcome = written.unwrap_or_else(|_| self.no_outcome(arguments));
        if let Some(objection) = objection {
            outcome.complain(format!("{objection}\n{}", self.process.log_tail()));
            // It could not say so itself.
            tell(&outcome);
        }
        outcome
    }

    /// What is known of a run that did not come to its end.
    fn no_outcome(&self, arguments: &Arguments) -> Outcome {
        let Trial { scenario, seed } = self.trial;
        Outcome {
            scenario: scenario.name.to_owned(),
            seed,
            seconds: arguments.seconds,
            command: arguments.command(self.trial),
            ..Outcome::default()
        }
    }
}

/// What is wrong about a process that has written this and ended like that.
fn objection(written: &Result<Outcome>, status: ExitStatus) -> Option<String> {
    let what = match written {
        Ok(outcome) if outcome.is_well() == status.success() => return None,
        Ok(_) => "which is not what it wrote".to_owned(),
        Err(error) => format!("and wrote no outcome ({error:#})"),
    };
    Some(format!("its process ended with {status}, {what}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_process_has_to_end_as_it_wrote() {
        let well = || Ok(Outcome::default());
        let wrong = || Ok(Outcome { lost: 1, ..Outcome::default() });
        let none = || Err(anyhow!("there is no file"));
        let (code, killed) = (|code: i32| ExitStatus::from_raw(code << 8), ExitStatus::from_raw(9));
        for (written, status) in [(well(), code(0)), (wrong(), code(1))] {
            assert_eq!(objection(&written, status), None);
        }
        for (written, status, words) in [
            (well(), code(1), "not what it wrote"),
            (well(), killed, "signal: 9"),
            (wrong(), code(0), "not what it wrote"),
            (none(), code(101), "101, and wrote no outcome (there is no file)"),
            (none(), code(0), "no outcome"),
        ] {
            let objection = objection(&written, status).unwrap_or_default();
            assert!(objection.contains(words), "{objection}");
        }
    }
}
