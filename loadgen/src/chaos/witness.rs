//! What is forgotten again while a trial goes on: each effect of a client's change is seen before, and none goes too soon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use common::clock::{Clock, SystemClock, Timestamp};

use super::looks::{Effect, Looks};

/// How often it looks: several times before anything goes.
const LOOK: Duration = Duration::from_secs(1);

/// A thread that looks until this value is dropped.
pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Seen>>>,
}

/// What it saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What tells the effects apart that ever were there, by what they carry.
    ever: BTreeMap<String, BTreeSet<String>>,
    /// Those that were there at the last look, with when they were made.
    last: BTreeMap<(String, String), Timestamp>,
    /// Effects that are gone, and those of them that went too soon.
    pub(super) gone: u64,
    pub(super) too_soon: Vec<String>,
}

impl Witness {
    /// Looks into these databases, where an effect is kept for `kept`.
    pub(super) fn start(urls: [String; 2], kept: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut seen, mut looks) = (Seen::default(), Looks::open(&urls)?);
            loop {
                // Asked before: what was made last is looked at, too.
                let is_last = stopped.load(Ordering::SeqCst);
                let effects = looks.each_effect()?;
                seen.take(effects, SystemClock.now(), kept);
                if is_last {
                    return Ok(seen);
                }
                thread::sleep(LOOK);
            }
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; returns what it saw.
    pub(super) fn finish(mut self) -> Result<Seen> {
        self.end().context("it has ended already")?.context("not all effects could be seen")
    }

    fn end(&mut self) -> Option<Result<Seen>> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|_| Err(anyhow!("the witness panicked"))))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Seen {
    /// How many effects there ever were, by what they carry.
    pub(super) fn effects(&self) -> BTreeMap<String, u64> {
        self.ever.iter().map(|(trace, ids)| (trace.clone(), ids.len() as u64)).collect()
    }

    /// Takes in all that were there just before `now`; what was there before and went by then has to be older than `kept`.
    pub(super) fn take(&mut self, effects: Vec<Effect>, now: Timestamp, kept: Duration) {
        let before = std::mem::take(&mut self.last);
        for Effect { trace, id, at } in effects {
            self.ever.entry(trace.clone()).or_default().insert(id.clone());
            self.last.insert((trace, id), at);
        }
        let gone = before.into_iter().filter(|(effect, _)| !self.last.contains_key(effect));
        for ((trace, id), at) in gone {
            self.gone += 1;
            if at > now.before(kept) {
                self.too_soon.push(format!("{trace} ({id}) of {at} was gone at {now}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn effects(of: &[(&str, &str, i64)]) -> Vec<Effect> {
        let effect = |(trace, id, seconds): &(&str, &str, i64)| Effect {
            trace: (*trace).to_owned(),
            id: (*id).to_owned(),
            at: at(*seconds),
        };
        of.iter().map(effect).collect()
    }

    #[test]
    fn what_went_counts_as_there_and_each_effect_once() {
        let mut seen = Seen::default();
        seen.take(effects(&[("a", "1", 100), ("a", "2", 100), ("b", "3", 100)]), at(101), KEPT);
        seen.take(effects(&[("a", "2", 100), ("c", "4", 105)]), at(115), KEPT);
        let there = seen.effects();
        assert_eq!([there["a"], there["b"], there["c"]], [2, 1, 1]);
        assert_eq!((seen.gone, seen.too_soon.len()), (2, 0), "{seen:?}");
    }

    #[test]
    fn what_goes_while_it_is_young_is_told() {
        let mut seen = Seen::default();
        seen.take(effects(&[("a", "1", 100)]), at(101), KEPT);
        seen.take(Vec::new(), at(108), KEPT);
        assert_eq!((seen.gone, seen.too_soon.len()), (1, 1), "{seen:?}");
    }
}
