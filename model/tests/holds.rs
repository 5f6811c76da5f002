//! The protocol as it is, explored to the end in small bounds, and what docs/MODEL.md says of them.

#![allow(clippy::panic, reason = "tests")]

use model::leases::Leases;
use model::the_loop::{Bounds, Loop};
use model::{Model, explore};

/// Has a line of what the program prints for each of these bounds.
const DOCUMENTED: &str = include_str!("../../docs/MODEL.md");

/// Far more than there are in any of these bounds.
const MOST: usize = 1_000_000;

fn holds<M: Model>(name: &str, model: &M) {
    let found = explore(model, MOST, |_| {});
    if let Some(counterexample) = &found.counterexample {
        panic!("{name}: {counterexample}");
    }
    assert!(found.is_complete, "{name}: more than {MOST} states");
    let (states, steps, depth) = (found.states, found.steps, found.depth);
    let line = format!("| {name} | {states} | {steps} | {depth} | holds |");
    assert!(DOCUMENTED.lines().any(|known| known == line), "docs/MODEL.md should say: {line}");
}

fn hold_in(chosen: impl Fn(&Bounds) -> bool) {
    let bounds: Vec<Bounds> = Bounds::small().into_iter().filter(chosen).collect();
    assert!(!bounds.is_empty());
    for bounds in bounds {
        holds(bounds.name, &Loop::new(bounds.clone()));
    }
}

#[test]
fn the_loop_holds_whatever_relays_do() {
    hold_in(|bounds| bounds.relays > 1);
}

#[test]
fn the_loop_holds_whatever_a_consumer_does() {
    hold_in(|bounds| bounds.relays == 1 && bounds.consumers == 1);
}

#[test]
fn the_loop_holds_with_several_consumers() {
    hold_in(|bounds| bounds.consumers > 1);
}

#[test]
fn one_relay_at_a_time_holds_a_lease() {
    holds("leases", &Leases::default());
}
