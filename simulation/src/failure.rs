//! Many seeds, and what is left of the script of one that fails.

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use common::db::DbError;

use crate::flaw::Flaw;
use crate::lock;
use crate::script::Script;
use crate::stage::{Run, Stage};
use crate::violation::Violation;

/// A run that breaks a property, without the steps that it breaks it without.
#[derive(Debug)]
pub struct Failure {
    /// What it was drawn from.
    pub seed: u64,
    /// How many consumers are asked.
    pub consumers: usize,
    /// How many steps the seed draws.
    pub drawn: usize,
    /// Each step that is left, with how everything stood after it.
    pub trace: Vec<String>,
    /// What does not hold.
    pub violation: Violation,
}

/// Plays `seeds`, on as many threads as there are processors, until one fails: the first of those that do.
///
/// # Errors
/// When a database can't be made.
pub fn first_failure(seeds: Range<u64>, flaw: Option<Flaw>) -> Result<Option<Failure>, DbError> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(seeds.end));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let play = || play_on(&Stage::new()?, &next, &found, flaw);
        let playing: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        playing.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(DbError::Panicked)))
    })?;
    let failed = *lock(&found);
    match failed < seeds.end {
        true => Failure::of(&Stage::new()?, failed, flaw).map(Some),
        false => Ok(None),
    }
}

/// Takes one seed after the other, up to the first of which it is `found` that it fails.
fn play_on(
    stage: &Stage,
    next: &AtomicU64,
    found: &Mutex<u64>,
    flaw: Option<Flaw>,
) -> Result<(), DbError> {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= *lock(found) {
            return Ok(());
        }
        if stage.play(&Script::of(seed), flaw).violation.is_some() {
            let mut found = lock(found);
            *found = seed.min(*found);
        }
    }
}

impl Failure {
    /// The script of `seed`, which is known to fail, without what it fails without.
    fn of(stage: &Stage, seed: u64, flaw: Option<Flaw>) -> Result<Self, DbError> {
        let whole = Script::of(seed);
        let drawn = whole.steps.len();
        let property = stage.play(&whole, flaw).violation.map(|violation| violation.property);
        let script = shrink(whole, |script| {
            stage.play(script, flaw).violation.map(|violation| violation.property) == property
        });
        let Run { trace, violation } = stage.play(&script, flaw);
        let violation = violation.unwrap_or_else(|| Violation::of_itself("it failed once"));
        Ok(Self { seed, consumers: script.consumers, drawn, trace, violation })
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
        let Self { seed, consumers, drawn, trace, violation } = self;
        writeln!(f, "seed {seed}, consumers: {consumers}: {violation}")?;
        writeln!(f, "STOCKLOOP_SIM_SEED={seed} cargo test -p simulation every_seed")?;
        writeln!(f, "what is left of its {drawn} steps:")?;
        for (number, line) in trace.iter().enumerate() {
            writeln!(f, "{:4}. {line}", number + 1)?;
        }
        Ok(())
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
