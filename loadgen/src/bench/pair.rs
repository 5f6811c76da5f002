//! Both services, each with a database of its own, on topics that they share.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use common::config::KafkaSettings;
use common::db::Conn;
use engine::outbox::{self, SHARDS};

use super::block_on;
use super::broker::{Broker, Topics};
use super::changes::Changes;
use super::clients;
use super::external::{CONNECT, Connect, Connector};
use super::http_client::{Client, Target};
use super::looks::settle;
use super::options::{LoopOptions, Options, Relay};
use super::process::Used;
use super::server::Server;
use super::service::Service;
use super::wait::Wait;
use crate::place::Scratch;
use crate::programs::{COPY, OWNER, Programs};

/// Until instances have shared the shards: one that was killed counts until its lease ends.
const SHARING: Wait = Wait { look: Duration::from_millis(100), within: Duration::from_secs(60) };

/// What both services run on.
pub(super) struct Parts {
    pub(super) broker: Broker,
    pub(super) server: Server,
    pub(super) programs: Programs,
    /// Where another program is the relay.
    connect: Option<Connect>,
}

impl Parts {
    /// Those that were named, and new ones for the others: nothing is started before all that is named is there.
    pub(super) fn start(both: &LoopOptions) -> Result<Self> {
        let LoopOptions { options, .. } = both;
        let named = Server::named_by(options)?;
        let programs = both.programs()?;
        let server = named.map_or_else(Server::start_logical, Ok)?;
        let broker = Broker::start(options.broker)?;
        let connect = Connect::start_for(&options.relays(), &broker)?;
        Ok(Self { broker, server, programs, connect })
    }
}

/// How product-service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) relay: Relay,
    /// Processes on its one database.
    pub(super) instances: usize,
    /// What else it is told.
    pub(super) settings: Vec<(&'static str, String)>,
}

impl Running {
    /// As it ordinarily does: one process.
    pub(super) fn with(relay: Relay) -> Self {
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

/// Both services. What is to be ended first comes first.
pub(super) struct Pair<'a> {
    /// product-service's processes.
    owners: Vec<Service>,
    /// How those run.
    running: Running,
    /// What sends for them, where they do not.
    external: Option<Connector<'a>>,
    copy: Service,
    /// A connection to product-service's database.
    pub(super) of_owner: Conn,
    /// One to order-service's.
    pub(super) of_copy: Conn,
    database: Scratch<'a>,
    _copies: Scratch<'a>,
    pub(super) topics: Topics,
    parts: &'a Parts,
}

impl<'a> Pair<'a> {
    /// Starts order-service, and product-service with the first relay; puts products in, and waits until each has gone
    /// through the whole loop.
    pub(super) fn start(parts: &'a Parts, options: &Options) -> Result<Self> {
        Self::start_told(parts, options, Vec::new())
    }

    /// The same, with what order-service is told beside its topics.
    pub(super) fn start_told(
        parts: &'a Parts,
        options: &Options,
        told: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let Parts { programs, server, broker, .. } = parts;
        let relay = *options.relays().first().context("there is no --relay")?;
        let running = Running::with(relay);
        // The services make their tables themselves.
        let (database, copies) =
            (server.of_service.make_with(&[])?, server.of_copy.make_with(&[])?);
        let (topics, brokers) = (broker.new_topics()?, broker.brokers());
        let settings: Vec<_> = topics.of_copy().into_iter().chain(told).collect();
        let copy = Service::start_with(&programs.copy, &copies.url(), &brokers, &settings)?;
        let (of_owner, of_copy) = (database.connect()?, copies.connect()?);
        let mut pair = Self {
            owners: Vec::new(),
            running: running.clone(),
            external: None,
            copy,
            of_owner,
            of_copy,
            database,
            _copies: copies,
            topics,
            parts,
        };
        pair.run(&running)?;
        let filled = block_on(clients::fill(&pair.target()?, options.products));
        pair.with_logs(filled)?;
        pair.settle()?;
        Ok(pair)
    }

    /// Sees to it that product-service runs like this, and that its instances have shared what there is to send.
    pub(super) fn run(&mut self, running: &Running) -> Result<()> {
        if self.running == *running && !self.owners.is_empty() {
            return Ok(());
        }
        for owner in self.owners.drain(..) {
            owner.end()?;
        }
        if let Some(external) = self.external.take() {
            external.end(&mut self.of_owner)?;
        }
        let mut settings = self.topics.of_owner();
        settings.push(running.relay.setting());
        settings.extend(running.settings.iter().cloned());
        let Parts { programs, broker, connect, .. } = self.parts;
        let (url, brokers) = (self.database.url(), broker.brokers());
        self.owners = start_instances(&programs.owner, &url, &brokers, &settings, running)?;
        self.running = running.clone();
        let shared = wait_until_shared(&mut self.of_owner, running);
        self.with_logs(shared)?;
        if running.relay == Relay::External {
            let connect = connect.as_ref().context("Kafka Connect was not started")?;
            self.external = Some(connect.read(&mut self.of_owner, &url, &self.topics)?);
        }
        Ok(())
    }

    /// Whether another program sends for product-service.
    pub(super) fn is_external(&self) -> bool {
        self.external.is_some()
    }

    /// Has another program send nothing, which no pause reaches, if it is the relay.
    pub(super) fn stop_external(&mut self) -> Result<()> {
        self.external.as_ref().map_or(Ok(()), |external| external.stop(&mut self.of_owner))
    }

    /// Has it go on.
    pub(super) fn resume_external(&self) -> Result<()> {
        self.external.as_ref().map_or(Ok(()), Connector::resume)
    }

    /// One change that goes through the whole loop: then every part of it is there.
    pub(super) fn go_round(&mut self, changes: &mut Changes) -> Result<()> {
        let (target, change) = (self.target()?, changes.draw());
        let adjusted = block_on(async {
            let mut client = Client::connect(&target).await?;
            clients::adjust(&mut client, change).await
        });
        self.with_logs(adjusted)?;
        self.settle()
    }

    /// Waits until no event is open.
    pub(super) fn settle(&mut self) -> Result<()> {
        let settled = settle(&mut self.of_owner).map(drop);
        self.with_logs(settled)
    }

    /// Where product-service listens.
    pub(super) fn target(&self) -> Result<Target> {
        let owner = self.owners.first().context("product-service does not run")?;
        Target::parse(&owner.url)
    }

    /// Where order-service listens.
    pub(super) fn copy_url(&self) -> String {
        self.copy.url.clone()
    }

    /// What the services, and another program that sends, have used so far, product-service's processes together.
    pub(super) fn used(&self) -> Result<BTreeMap<&'static str, Used>> {
        let mut used = BTreeMap::from([(OWNER, used_by(&self.owners)?), (COPY, self.copy.used()?)]);
        if let Some(external) = &self.external {
            used.insert(CONNECT, external.used()?);
        }
        Ok(used)
    }

    /// The same since they had used what was used `before`; of memory, the most since their start.
    pub(super) fn used_since(
        &self,
        before: &BTreeMap<&'static str, Used>,
    ) -> Result<BTreeMap<&'static str, Used>> {
        let mut used = self.used()?;
        for (name, used) in &mut used {
            if let Some(before) = before.get(name) {
                *used = used.since(*before);
            }
        }
        Ok(used)
    }

    /// The same, with the ends of the services' logs if it failed.
    pub(super) fn with_logs<T>(&self, done: Result<T>) -> Result<T> {
        done.with_context(|| log_tails(self.owners.iter().chain([&self.copy])))
    }

    /// What somebody is told who reads the events, or sends to their topics.
    pub(super) fn kafka(&self) -> KafkaSettings {
        self.parts.broker.settings_for(&self.topics)
    }
}

/// Starts as many processes of product-service as `running` says, on one database.
pub(super) fn start_instances(
    program: &Path,
    database: &str,
    brokers: &str,
    settings: &[(&'static str, String)],
    running: &Running,
) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    for number in 0..running.instances {
        let mut service = Service::start_with(program, database, brokers, settings)?;
        // One of them reads it, and the first one finds nobody who does.
        if running.relay == Relay::Log && number == 0 {
            service.wait_until_it_follows_the_log()?;
        }
        services.push(service);
    }
    Ok(services)
}

/// Waits until all instances live and have shared the shards: each has its part, or the one that reads the log has all.
pub(super) fn wait_until_shared(conn: &mut Conn, running: &Running) -> Result<()> {
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
pub(super) fn log_tails<'a>(services: impl IntoIterator<Item = &'a Service>) -> String {
    services.into_iter().map(Service::log_tail).collect::<Vec<_>>().join("\n")
}

/// What processes have used together since their starts.
pub(super) fn used_by(services: &[Service]) -> Result<Used> {
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
