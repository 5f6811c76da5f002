//! Free loopback ports that stay usable when a server goes away and comes back.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, bail};

const LOWEST: u16 = 12_000;
// Where Linux starts handing out ports of its own when the range can't be read.
const USUAL_EPHEMERAL_START: u16 = 32_768;
/// How many ports a process takes at once.
const BLOCK: u16 = 64;

static TAKEN: Mutex<Blocks> = Mutex::new(Blocks::new());

/// A loopback port nothing listens on, given to nobody else in this process, nor in another one that asks here.
///
/// It lies below the range outgoing connections take theirs from: there, a client reconnecting to a
/// stopped server can be given the server's own port, connect to itself, and block the restart.
pub fn free_port() -> anyhow::Result<u16> {
    taken().next(ephemeral_start())
}

/// Lets all ports be given again, also those of servers that are stopped: for when everybody is gone who was given one.
pub fn take_back_all() {
    *taken() = Blocks::new();
}

fn taken() -> MutexGuard<'static, Blocks> {
    TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The ports that a process has to itself, also while nothing listens on them.
struct Blocks {
    /// On the first port of each block: whoever listens there has the block, for as long as its process lives.
    held: Vec<TcpListener>,
    /// What was not given yet of the last one.
    left: Range<u16>,
}

impl Blocks {
    const fn new() -> Self {
        Self { held: Vec::new(), left: 0..0 }
    }

    /// A port below `end` that was not given before.
    fn next(&mut self, end: u16) -> anyhow::Result<u16> {
        loop {
            if let Some(port) = self.left.find(|port| listen(*port).is_some()) {
                return Ok(port);
            }
            self.take_block(end)?;
        }
    }

    fn take_block(&mut self, end: u16) -> anyhow::Result<()> {
        let blocks = (end - LOWEST) / BLOCK;
        for _ in 0..1_000 {
            // By chance, so that no process goes through all that others have.
            let random = u16::from_le_bytes(
                uuid::Uuid::new_v4().as_bytes()[..2].try_into().context("two bytes of a UUID")?,
            );
            let first = LOWEST + (random % blocks) * BLOCK;
            if let Some(listener) = listen(first) {
                self.held.push(listener);
                self.left = first + 1..first + BLOCK;
                return Ok(());
            }
        }
        bail!(
            "no free loopback ports between {LOWEST} and {end} in 1,000 tries; end what listens there"
        )
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

/// How often a server is started on other ports.
const TRIES: usize = 3;

/// Runs `start`, which takes free ports for a server and starts it, and does so again where `may_help`: another program
/// may have taken one of the ports in between.
pub(crate) fn start_on_free_ports(
    mut start: impl FnMut() -> anyhow::Result<()>,
    may_help: impl Fn(&anyhow::Error) -> bool,
) -> anyhow::Result<()> {
    for _ in 1..TRIES {
        match start() {
            Err(error) if may_help(&error) => {}
            ended => return ended,
        }
    }
    start()
}

fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|start| *start >= LOWEST + 1_000)
        .unwrap_or(USUAL_EPHEMERAL_START)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Two processes have these apart from each other.
    #[test]
    fn no_port_is_given_twice_though_nobody_listens_on_it() {
        let (mut one, mut other) = (Blocks::new(), Blocks::new());
        let (end, mut given) = (ephemeral_start(), HashSet::new());
        for _ in 0..3 * BLOCK {
            for process in [&mut one, &mut other] {
                let port = process.next(end).unwrap();
                assert!((LOWEST..end).contains(&port) && given.insert(port), "{port}");
            }
        }
        assert!(one.held.len() >= 3, "one block was not enough");
    }
}
