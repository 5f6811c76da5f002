//! The loop as it is, by many seeds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Instant;

use simulation::{Script, Stage, first_failure};

/// Few enough for a build without the optimizer.
const SEEDS: u64 = 300;

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

/// `STOCKLOOP_SIM_SEEDS=n` plays more, `STOCKLOOP_SIM_SEED=s` repeats one.
#[test]
#[cfg_attr(not(feature = "paused"), ignore = "time has to stand still: --features paused")]
fn every_seed_keeps_the_invariants() {
    let seeds = match told("STOCKLOOP_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..told("STOCKLOOP_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let begun = Instant::now();
    if let Some(failure) = first_failure(seeds.clone(), None).unwrap() {
        panic!("{failure}");
    }
    println!("{} seeds in {:.1} s", seeds.end - seeds.start, begun.elapsed().as_secs_f64());
}

#[test]
#[cfg_attr(not(feature = "paused"), ignore = "time has to stand still: --features paused")]
fn a_seed_is_one_run() {
    let (stage, another) = (Stage::new().unwrap(), Stage::new().unwrap());
    for seed in 0..20 {
        let script = Script::of(seed);
        let run = stage.play(&script, None);
        assert_eq!(run.violation, None, "seed {seed}");
        // On databases that were used, and on others.
        assert_eq!(run.trace, stage.play(&script, None).trace, "seed {seed}");
        assert_eq!(run.trace, another.play(&script, None).trace, "seed {seed}");
    }
}
