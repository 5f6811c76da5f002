//! One run of a scenario: the system starts, clients change it, faults happen, all is put right, it comes to rest, and then
//! it is judged.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stockloop_tests::ports;
use stockloop_tests::process::{discard_scratch_again, keep_scratch};
use tokio::runtime::{Builder, Runtime};

use super::instance::{Relay, Releases};
use super::ledger::Ledger;
use super::load::{Habits, Load};
use super::looks::Looks;
use super::outcome::Outcome;
use super::plan::Plan;
use super::scenarios::Scenario;
use super::system::System;
use crate::check;

/// What a run is made of.
pub(super) struct Round<'a> {
    pub(super) releases: &'a Releases,
    pub(super) scenario: &'static Scenario,
    pub(super) seed: u64,
    pub(super) seconds: u64,
    pub(super) clients: u16,
    pub(super) relay: Relay,
    pub(super) backlog: u32,
    /// What runs it again.
    pub(super) command: String,
}

impl Round<'_> {
    /// Runs it; what could not be done is wrong, too.
    pub(super) fn run(&self) -> Outcome {
        // All of the one before has ended: its ports are free, and its data is kept if it went wrong.
        ports::take_back_all();
        discard_scratch_again();
        let mut outcome = Outcome {
            scenario: self.scenario.name.to_owned(),
            seed: self.seed,
            seconds: self.seconds,
            command: self.command.clone(),
            ..Outcome::default()
        };
        if let Err(error) = self.try_run(&mut outcome) {
            outcome.complain(format!("it could not be run to its end: {error:#}"));
        }
        outcome
    }

    fn try_run(&self, outcome: &mut Outcome) -> Result<()> {
        let Scenario { name, about, .. } = self.scenario;
        let plan = Plan::draw(self.scenario, self.seed, Duration::from_secs(self.seconds));
        // At once: who ends it in the middle may want to see it again, too.
        println!("{name}: {about}\n  {}", self.command);
        plan.steps.iter().for_each(|step| println!("{step}"));
        // Clients and proxies; faults happen on this thread.
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let sizes = (self.seed, self.backlog);
        let started = System::start(&runtime, self.releases, self.scenario, self.relay, sizes);
        let mut system = started.inspect_err(|_| keep(name))?;
        let done = self.trouble(&runtime, &mut system, &plan, outcome);
        let done = done.with_context(|| system.log_tails());
        // While its databases are still there.
        if done.is_err() || !outcome.is_well() {
            keep(name);
        }
        done
    }

    fn trouble(
        &self,
        runtime: &Runtime,
        system: &mut System,
        plan: &Plan,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let Self { clients, seed, scenario, .. } = *self;
        let habits = Habits {
            clients,
            seed,
            remove: scenario.removes,
            is_wordy: scenario.is_wordy,
            setbacks: system.setbacks(),
            rest: system.rest(),
        };
        let load = Load::start(runtime, system.addresses(), &habits);
        let mut began = Instant::now();
        for step in &plan.steps {
            thread::sleep(step.at.saturating_sub(began.elapsed()));
            let asked = Instant::now();
            system.suffer(runtime, step.fault).with_context(|| step.to_string())?;
            // On top, so that what is away, and what is well between two faults, is so for as long as was drawn.
            began += asked.elapsed();
        }
        thread::sleep(plan.length.saturating_sub(began.elapsed()));
        system.heal(runtime).context("not all could be put right")?;
        let healed = Instant::now();
        let mut ledger = load.finish(runtime)?;
        ledger.take(std::mem::take(&mut system.ledger));
        match system.drain().and_then(|()| system.retry(runtime)) {
            Ok(()) => outcome.drain_s = Some(healed.elapsed().as_secs_f64()),
            Err(error) => outcome.complain(format!("it did not come to rest: {error:#}")),
        }
        system.stop();
        judge(system, self.scenario, &ledger, outcome)
    }
}

/// Has the logs and the data stay, and says where they are.
fn keep(scenario: &str) {
    let kept = keep_scratch().map(Path::display);
    let told = kept.map_or_else(|error| format!("nowhere: {error:#}"), |path| path.to_string());
    println!("{scenario}: logs and databases are kept in {told}");
}

/// Holds everything against everything.
fn judge(
    system: &mut System,
    scenario: &Scenario,
    ledger: &Ledger,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut looks = system.look()?;
    system.note_met_in(&mut looks)?;
    let held = ledger.hold(&system.effects(&mut looks)?, system.lost_times());
    system.note_taken_back(held.taken_back);
    let judged = system.judged();
    let tally = std::mem::take(&mut system.tally);
    for complaint in tally.complaints {
        outcome.complain(complaint);
    }
    outcome.take_met(tally.met);
    outcome.exhausted = looks.exhausted()?;
    outcome.take_held(held);
    judge_told(system, &mut looks, outcome)?;
    judge_blame(scenario, &mut looks, outcome)?;
    judge_excuses(scenario, &mut looks, outcome)?;
    let report = check::check(&judged).context("the judge can't look")?;
    for (kind, many) in report.kinds() {
        outcome.take_finding(kind, many);
    }
    if !report.is_whole() {
        outcome.complain("the judge could not look at everything".to_owned());
    }
    if report.has_findings() || !report.is_whole() {
        report.print(&mut io::stdout().lock())?;
    }
    Ok(())
}

/// Whether there is anything that excuses to the judge what is missing, and has not happened; or nothing though it has.
fn judge_excuses(scenario: &Scenario, looks: &mut Looks, outcome: &mut Outcome) -> Result<()> {
    for excuse in looks.excuses()? {
        outcome
            .complain(format!("the judge would excuse what is missing, since there are {excuse}"));
    }
    match (looks.restored()?, scenario.store.may_lose()) {
        (0, true) => outcome.complain("nobody found that a database had come back".to_owned()),
        (1.., false) => outcome.complain("a database counts as restored, and is not".to_owned()),
        _ => {}
    }
    Ok(())
}

/// Whether an event was blamed though none may be.
fn judge_blame(scenario: &Scenario, looks: &mut Looks, outcome: &mut Outcome) -> Result<()> {
    if !scenario.blames_nobody {
        return Ok(());
    }
    for (what, many) in [("gave up", looks.exhausted()?), ("were blamed", looks.blamed()?)] {
        if many > 0 {
            outcome.complain(format!("it is no event's fault, and {many} {what}"));
        }
    }
    Ok(())
}

/// Whether all arrived that counts as sent: nobody refuses anything for good.
fn judge_told(system: &System, looks: &mut Looks, outcome: &mut Outcome) -> Result<()> {
    let (mails, again) = system.mails();
    (outcome.mails, outcome.mails_again) = (mails.len(), again);
    for mail in looks.mails()?.iter().filter(|mail| !mails.contains(*mail)) {
        outcome.miss(format!("the mail {mail} counts as sent, and did not come"));
    }
    for call in looks.calls()?.iter().filter(|call| !system.has_call(call)) {
        outcome.miss(format!("the call {call} of the webhook counts as taken, and did not come"));
    }
    Ok(())
}
