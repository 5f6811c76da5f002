//! Free loopback ports that stay usable when a server goes away and comes back.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use anyhow::{Context, bail};

const LOWEST: u16 = 12_000;
// Where Linux starts handing out ports of its own when the range can't be read.
const USUAL_EPHEMERAL_START: u16 = 32_768;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback port nothing listens on, given to nobody else in this process.
///
/// It lies below the range outgoing connections take theirs from: there, a client reconnecting to a
/// stopped server can be given the server's own port, connect to itself, and block the restart.
pub fn free_port() -> anyhow::Result<u16> {
    let end = ephemeral_start();
    let mut taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let taken = taken.get_or_insert_default();
    for _ in 0..1_000 {
        // A random start keeps test processes that run side by side apart.
        let random = u16::from_le_bytes(
            uuid::Uuid::new_v4().as_bytes()[..2].try_into().context("two bytes of a UUID")?,
        );
        let port = LOWEST + random % (end - LOWEST);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return Ok(port);
        }
    }
    bail!("no free loopback port between {LOWEST} and {end} in 1,000 tries; end what listens there")
}

/// Lets all ports be given again, also those of servers that are stopped: for when everybody is gone who was given one.
pub fn take_back_all() {
    *TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
}

/// How often a server is started on other ports.
const TRIES: usize = 3;

/// Runs `start`, which takes free ports for a server and starts it, and does so again where `may_help`: another process
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
