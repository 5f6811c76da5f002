//! The processes of both services, started and ended as whoever supervises them would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Error, Result};

use super::tally::Tally;
use crate::chaos::fault::{WRONG_CLOCKS, Who};
use crate::chaos::instance::{Instance, PANICKED, Places, Releases};
use crate::chaos::scenarios::Scenario;
use crate::check::Side;

/// All that may ever run.
pub(super) struct Processes {
    instances: BTreeMap<Who, Instance>,
    /// How many of each service run when all is well.
    running: usize,
    releases: Releases,
    /// Whether what a process stands on may be away when it is started; then it is started again until it is there.
    may_start_late: bool,
    /// Those that are.
    started_late: BTreeSet<Who>,
    /// How much time has passed for them beside that of this machine.
    passed: Duration,
}

impl Processes {
    /// None so far.
    pub(super) fn new(scenario: &Scenario, releases: &Releases) -> Self {
        Self {
            instances: BTreeMap::new(),
            running: scenario.instances,
            releases: releases.clone(),
            may_start_late: scenario.may_start_late,
            started_late: BTreeSet::new(),
            passed: Duration::ZERO,
        }
    }

    /// Adds one of this release, or of the one before if it is to be upgraded. It does not run yet.
    pub(super) fn add(
        &mut self,
        who: Who,
        places: &Places,
        bind: &str,
        is_upgraded: bool,
    ) -> Result<()> {
        let instance = if is_upgraded {
            let before = self.releases.before.as_ref();
            let before = before.context("say where the last release is: --old-programs DIR")?;
            Instance::of_another_release(before.of(who.side), places, bind)?
        } else {
            Instance::new(self.releases.this.of(who.side), places, bind)?
        };
        self.instances.insert(who, instance);
        Ok(())
    }

    pub(super) fn get(&mut self, who: Who) -> Result<&mut Instance> {
        self.instances.get_mut(&who).with_context(|| format!("there is no {who}"))
    }

    /// Does something to one. Where it may start late, it is left alone if it is not there yet.
    pub(super) fn meet(
        &mut self,
        who: Who,
        how: fn(&mut Instance) -> Result<()>,
        tally: &mut Tally,
    ) -> Result<u64> {
        if self.may_start_late && !self.is_there(who, tally)? {
            return Ok(0);
        }
        self.started_late.remove(&who);
        let met = how(self.get(who)?);
        Ok(tally.note(who, met))
    }

    /// Whether one is there; if it was and has ended by itself, that is told.
    fn is_there(&mut self, who: Who, tally: &mut Tally) -> Result<bool> {
        let instance = self.get(who)?;
        let (ended, is_there) = (instance.take_end(), instance.is_there());
        if let Some(error) = ended {
            tally.complain(format!("{who}: {error:#}"));
        }
        Ok(is_there)
    }

    /// Starts one, and waits until it is there, unless it may start late.
    pub(super) fn start(&mut self, who: Who, tally: &mut Tally) -> Result<()> {
        if !self.may_start_late {
            return self.bring_up(who, tally);
        }
        self.started_late.insert(who);
        self.supervise(tally)
    }

    /// Starts those again that could not come up when they were started.
    pub(super) fn supervise(&mut self, tally: &mut Tally) -> Result<()> {
        for who in self.started_late.clone() {
            if !self.is_there(who, tally)? {
                self.get(who)?.begin()?;
            }
        }
        Ok(())
    }

    /// Starts one. Whatever it stands on is well at that moment, so it has to come up at once.
    fn bring_up(&mut self, who: Who, tally: &mut Tally) -> Result<()> {
        let instance = self.get(who)?;
        let (failed, has_wrong_clock) = (instance.start()?, instance.has_wrong_clock());
        // What was away when a process began may have ended it since, but that is no panic.
        let is_wrong =
            |error: &Error| !self.may_start_late || format!("{error:#}").contains(PANICKED);
        if let Some(error) = failed.filter(is_wrong) {
            tally.complain(format!("{who}: it did not come up at once: {error:#}"));
        }
        // Where time has passed for all of them, the clock that is ahead is the right one.
        if has_wrong_clock && self.passed.is_zero() {
            tally.meet(WRONG_CLOCKS, 1);
        }
        Ok(())
    }

    /// Starts those that run when all is well, unless they do.
    pub(super) fn bring_all_up(&mut self, tally: &mut Tally) -> Result<()> {
        for side in Side::BOTH {
            for number in 1..=self.running {
                self.bring_up(Who { side, number }, tally)?;
            }
        }
        Ok(())
    }

    /// Upgrades one, which ends in good order first.
    pub(super) fn upgrade(&mut self, who: Who, tally: &mut Tally) -> Result<u64> {
        let ended = self.get(who)?.terminate();
        let met = tally.note(who, ended);
        let program = self.releases.this.of(who.side).to_owned();
        match self.get(who)?.upgrade(&program) {
            Ok(true) => {}
            Ok(false) => self.end_release_before(who.side, tally),
            Err(error) => tally.complain(format!("{who}: {error:#}")),
        }
        self.bring_up(who, tally).map(|()| met)
    }

    /// Ends what still runs of the release before, where the new one can't be beside it.
    fn end_release_before(&mut self, side: Side, tally: &mut Tally) {
        for (who, instance) in &mut self.instances {
            if who.side == side && instance.is_of_another_release() {
                tally.note(*who, instance.terminate());
            }
        }
    }

    /// From now on, whichever takes much more memory than it does now dies of it; returns how many that are.
    pub(super) fn bound_memory(&mut self) -> Result<u64> {
        self.instances.values_mut().try_for_each(Instance::bound_memory)?;
        Ok(self.instances.len() as u64)
    }

    /// So much time passes for all of them, whether they run or not.
    pub(super) fn let_pass(&mut self, time: Duration) -> Result<()> {
        self.passed += time;
        let right = self.right_clock()?;
        self.instances.values_mut().try_for_each(|instance| instance.set_clock_right(right))
    }

    /// How much has passed so.
    pub(super) const fn passed(&self) -> Duration {
        self.passed
    }

    /// So many seconds a clock is ahead that is right.
    fn right_clock(&self) -> Result<i32> {
        Ok(i32::try_from(self.passed.as_secs())?)
    }

    /// Lets all go on that run when all is well, with the right time.
    pub(super) fn heal(&mut self, tally: &mut Tally) -> Result<()> {
        self.started_late.clear();
        let right = self.right_clock()?;
        for (who, instance) in &mut self.instances {
            // First: whoever has ended can't go on.
            let ended = instance.take_end();
            instance.thaw()?;
            let is_right = instance.set_clock_right(right);
            for error in ended.into_iter().chain(is_right.err()) {
                tally.complain(format!("{who}: {error:#}"));
            }
        }
        self.bring_all_up(tally)
    }

    /// Ends all in good order.
    pub(super) fn stop(&mut self, tally: &mut Tally) {
        for (who, instance) in &mut self.instances {
            tally.note(*who, instance.terminate());
        }
    }

    /// How often they have said that there was no room.
    pub(super) fn without_room(&self) -> u64 {
        self.instances.values().map(Instance::without_room).sum()
    }

    /// The last lines of all that run.
    pub(super) fn log_tails(&self) -> String {
        self.instances.values().filter_map(Instance::log_tail).collect::<Vec<_>>().join("\n")
    }
}
