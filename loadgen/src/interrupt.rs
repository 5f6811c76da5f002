//! Ctrl-C and SIGTERM: what a run has made on a server of somebody else must not stay there.

use std::process;
use std::thread;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::place::remove_all_and_end;

/// As a shell has it for a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// From now on, the first of these signals removes all databases of this run and ends it; another one ends it at once.
pub(crate) fn watch() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (heard(SignalKind::interrupt())?, heard(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(either(&mut interrupt, &mut terminate));
        eprintln!(
            "stockloop-loadgen: interrupted; the databases of its measurements, if any, are removed"
        );
        thread::spawn(|| remove_all_and_end(INTERRUPTED));
        runtime.block_on(either(&mut interrupt, &mut terminate));
        process::exit(INTERRUPTED)
    });
    Ok(())
}

fn heard(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("signals can't be heard")
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
