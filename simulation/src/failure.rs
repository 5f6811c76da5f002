//! Many seeds, and what is left of the script of one that fails.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use common::db::DbError;

use crate::flaw::Flaw;
use crate::script::Script;
use crate::stage::{Run, Stage};
use crate::violation::{ITSELF, Violation};

/// A run that breaks a property, without the steps that it breaks it without.
#[derive(Debug)]
pub struct Failure {
    /// What it was drawn from.
    pub seed: u64,
    /// How many steps the seed draws.
    pub drawn: usize,
    /// What is left of them.
    pub script: Script,
    /// Each of these, and each round behind them, with how everything stood after it.
    pub trace: Vec<String>,
    /// What does not hold.
    pub violation: Violation,
}

/// Plays `seeds`, on as many threads as there are processors, until one fails: the first of those that do.
///
/// # Errors
/// When a database can't be made.
pub fn first_failure(seeds: Range<u64>, flaw: Option<Flaw>) -> Result<Option<Failure>, DbError> {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let play = || -> Result<(), DbError> {
        let stage = Stage::new()?;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if stage.play(&Script::of(seed), flaw).violation.is_some() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        threads.into_iter().try_for_each(|one| one.join().unwrap_or(Err(DbError::Panicked)))
    })?;
    let failed = failed.into_inner();
    match failed < seeds.end {
        true => Failure::of(&Stage::new()?, failed, flaw).map(Some),
        false => Ok(None),
    }
}

impl Failure {
    /// The script of `seed`, which is known to fail, without what it fails without.
    fn of(stage: &Stage, seed: u64, flaw: Option<Flaw>) -> Result<Self, DbError> {
        let whole = Script::of(seed);
        let drawn = whole.steps.len();
        let broken = |script: &Script| stage.play(script, flaw).violation.map(|one| one.property);
        let property = broken(&whole);
        let script = shrink(whole, |script| broken(script) == property);
        let Run { trace, violation } = stage.play(&script, flaw);
        let violation = violation.unwrap_or_else(|| Violation::of(ITSELF, "it failed only once"));
        Ok(Self { seed, drawn, script, trace, violation })
    }
}

/// Leaves steps out, many at a time at first, as long as it still `fails`: delta debugging.
fn shrink(mut script: Script, fails: impl Fn(&Script) -> bool) -> Script {
    let mut many = script.steps.len();
    loop {
        many = many.div_ceil(2).max(1);
        let (mut place, before) = (0, script.steps.len());
        while place < script.steps.len() {
            let mut fewer = script.clone();
            fewer.steps.drain(place..(place + many).min(script.steps.len()));
            match fails(&fewer) {
                true => script = fewer,
                false => place += many,
            }
        }
        if many == 1 && script.steps.len() == before {
            return script;
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, drawn, script, trace, violation } = self;
        let Violation { property, detail } = violation;
        let again = "cargo test -p simulation --features paused every_seed";
        writeln!(f, "seed {seed}, consumers: {}: does not hold: {property}", script.consumers)?;
        writeln!(f, "{detail}")?;
        writeln!(f, "STOCKLOOP_SIM_SEED={seed} {again}")?;
        writeln!(f, "what is left of its {drawn} steps:")?;
        trace.iter().zip(1..).try_for_each(|(line, number)| writeln!(f, "{number:4}. {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Step;

    #[test]
    fn what_fails_together_is_left() {
        let needed = [Step::Change(1), Step::Pass(7), Step::Retire];
        let fails = |script: &Script| needed.iter().all(|step| script.steps.contains(step));
        let mut steps: Vec<Step> = (0..50).map(Step::Land).collect();
        for (place, step) in [3, 20, 44].into_iter().zip(needed) {
            steps.insert(place, step);
        }
        let shrunk = shrink(Script { seed: 0, consumers: 1, steps }, fails);
        assert_eq!(shrunk.steps, needed);
    }
}
