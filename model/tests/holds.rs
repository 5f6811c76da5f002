//! The protocol as it is, explored to the end in small bounds.

#![allow(clippy::panic, reason = "tests")]

use model::leases::Leases;
use model::the_loop::{Bounds, Loop};
use model::{Model, explore};

/// Far more than there are in any of these bounds.
const MOST: usize = 1_000_000;

fn holds<M: Model>(name: &str, model: &M) {
    let found = explore(model, MOST, |_| {});
    if let Some(counterexample) = &found.counterexample {
        panic!("{name}: {counterexample}");
    }
    assert!(found.is_complete, "{name}: more than {MOST} states");
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
