//! Processes of product-service that share one database.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use common::db::Conn;
use engine::outbox::{self, SHARDS};

use super::broker::Broker;
use super::service::Service;
use crate::bench::options::Relay;
use crate::bench::wait::Wait;
use crate::process::Used;

/// Until instances have shared the shards: one that was killed counts until its lease ends.
const SHARING: Wait = Wait { look: Duration::from_millis(100), within: Duration::from_secs(60) };

/// How product-service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bench) struct Running {
    pub(in crate::bench) relay: Relay,
    /// Processes on its one database.
    pub(in crate::bench) instances: usize,
    /// What else it is told.
    pub(in crate::bench) settings: Vec<(&'static str, String)>,
}

impl Running {
    /// As it ordinarily does: one process.
    pub(in crate::bench) fn with(relay: Relay) -> Self {
        Self { relay, instances: 1, settings: Vec::new() }
    }

    /// Whether instances that hold so many shards each are all that there should be, and none has too many.
    fn is_shared(&self, held: &[usize]) -> bool {
        let all = usize::from(SHARDS.unsigned_abs());
        let part = match self.relay {
            Relay::Table | Relay::External => all.div_ceil(self.instances),
            Relay::Log => all,
        };
        held.len() == self.instances
            && held.iter().sum::<usize>() == all
            && held.iter().all(|shards| *shards <= part)
    }
}

/// Starts as many processes of product-service as `running` says, on one database.
pub(in crate::bench) fn start_instances(
    program: &Path,
    database: &str,
    broker: &Broker,
    settings: &[(&'static str, String)],
    running: &Running,
) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    for number in 0..running.instances {
        let mut service = Service::start_with(program, database, broker, settings)?;
        // One of them reads it, and the first one finds nobody who does.
        if running.relay == Relay::Log && number == 0 {
            service.wait_until_it_follows_the_log()?;
        }
        services.push(service);
    }
    Ok(services)
}

/// Waits until all instances live and have shared the shards: each has its part, or the one that reads the log has all.
pub(in crate::bench) fn wait_until_shared(conn: &mut Conn, running: &Running) -> Result<()> {
    let unshared = || -> Result<Option<Vec<usize>>> {
        let live = outbox::instances(conn)?;
        let held: Vec<usize> = live.iter().map(|instance| instance.shards.len()).collect();
        Ok((!running.is_shared(&held)).then_some(held))
    };
    SHARING.until_none(unshared, |held| {
        let (within, started) = (SHARING.within, running.instances);
        format!("after {within:?}, the instances hold {held:?} shards, and {started} were started")
    })
}

/// The ends of their logs.
pub(in crate::bench) fn log_tails<'a>(services: impl IntoIterator<Item = &'a Service>) -> String {
    services.into_iter().map(Service::log_tail).collect::<Vec<_>>().join("\n")
}

/// What processes have used together since their starts.
pub(in crate::bench) fn used_by(services: &[Service]) -> Result<Used> {
    let each = services.iter().map(Service::used).collect::<Result<Vec<_>>>()?;
    Ok(Used {
        cpu_s: each.iter().map(|used| used.cpu_s).sum(),
        rss_mb: each.iter().map(|used| used.rss_mb).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_shared_once_nobody_has_too_many_and_none_is_left() {
        let is_shared = |relay, held: &[usize], instances| {
            Running { instances, ..Running::with(relay) }.is_shared(held)
        };
        assert!(is_shared(Relay::Table, &[64], 1));
        assert!(is_shared(Relay::Table, &[22, 22, 20], 3));
        assert!(is_shared(Relay::Log, &[0, 64], 2));
        for held in [&[][..], &[64], &[64, 0], &[33, 31], &[32, 31], &[32, 16, 16]] {
            assert!(!is_shared(Relay::Table, held, 2), "{held:?}");
        }
        assert!(!is_shared(Relay::Log, &[64], 2) && !is_shared(Relay::Log, &[0, 63], 2));
    }
}
