//! Explores the protocol in bounds that take minutes, and prints a table: `cargo run --release -p model`.
//!
//! A word that is given as an argument is looked for in the names of the bounds.

use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use model::leases::Leases;
use model::the_loop::{Bounds, Loop};
use model::{Model, Progress, Property, explore};

/// States of one exploration at the most: some gigabytes of memory.
const MOST: usize = 3_000_000;

/// How often the progress is told.
const PAUSE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    println!("| bounds | states | steps | depth | time | |");
    println!("|---|---|---|---|---|---|");
    let mut all_hold = true;
    if "leases".contains(&word) {
        all_hold &= hold("leases", &Leases::default());
    }
    let all = Bounds::small().into_iter().chain(Bounds::large());
    for bounds in all.filter(|bounds| bounds.name.contains(&word)) {
        all_hold &= hold(bounds.name, &Loop::new(bounds));
    }
    tell("leases", &Leases::default().properties());
    tell("the loop", &Loop::new(Bounds::smallest("")).properties());
    match all_hold {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Explores `model`, prints its line, and returns whether all holds.
fn hold<M: Model>(name: &str, model: &M) -> bool {
    let (begin, mut told) = (Instant::now(), Instant::now());
    let is_watched = stderr().is_terminal();
    let found = explore(model, MOST, |Progress { found, visited }| {
        if is_watched && told.elapsed() >= PAUSE {
            told = Instant::now();
            eprint!("\r{name}: {visited} of {found} states visited");
            let _shown = stderr().flush();
        }
    });
    if is_watched {
        eprint!("\r\x1b[K");
    }
    let verdict = match (&found.counterexample, found.is_complete) {
        (Some(_), _) => "BROKEN",
        (None, true) => "holds",
        (None, false) => "too large",
    };
    let (states, steps, depth) = (found.states, found.steps, found.depth);
    let seconds = begin.elapsed().as_secs_f64();
    println!("| {name} | {states} | {steps} | {depth} | {seconds:.1} s | {verdict} |");
    if let Some(counterexample) = &found.counterexample {
        println!("\n{counterexample}");
    }
    found.holds()
}

fn tell<M: Model>(name: &str, properties: &[Property<M>]) {
    println!("\nOf {name}:\n");
    for property in properties {
        println!("- {}", property.name);
    }
}
