//! Both services, each with a database of its own, on topics that they share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::db::Conn;

use super::block_on;
use super::broker::{Broker, Topics};
use super::changes::Changes;
use super::client::{self, Client, Target};
use super::figures::Used;
use super::looks::settle;
use super::options::Options;
use super::relays::Relay;
use super::server::Server;
use super::service::{Service, program};
use crate::place::Scratch;

const OWNER: &str = "product-service";
const COPY: &str = "order-service";

/// The line with which product-service says that it follows the log.
const FOLLOWS: &str = "events come by the log";

/// The programs of both services.
pub(super) struct Programs {
    owner: PathBuf,
    copy: PathBuf,
}

impl Programs {
    /// Where they were said to be, else beside this one.
    pub(super) fn find(options: &Options, order_service: Option<&Path>) -> Result<Self> {
        Ok(Self {
            owner: program(OWNER, options.product_service.as_deref())?,
            copy: program(COPY, order_service)?,
        })
    }
}

/// Both services. What is to be ended first comes first.
pub(super) struct Pair<'a> {
    /// With the relay that it runs with.
    owner: Option<(Relay, Service)>,
    copy: Service,
    /// A connection to product-service's database.
    pub(super) of_owner: Conn,
    /// One to order-service's.
    pub(super) of_copy: Conn,
    owners: Scratch<'a>,
    _copies: Scratch<'a>,
    pub(super) topics: Topics,
    programs: &'a Programs,
    broker: &'a Broker,
    products: u32,
}

impl<'a> Pair<'a> {
    /// Starts order-service, and product-service with `relay`; puts products in, and waits until each has gone through the
    /// whole loop.
    pub(super) fn start(
        programs: &'a Programs,
        server: &'a Server,
        broker: &'a Broker,
        options: &Options,
        relay: Relay,
    ) -> Result<Self> {
        // The services make their tables themselves.
        let (owners, copies) = (server.of_service.make_with(&[])?, server.of_copy.make_with(&[])?);
        let (topics, brokers) = (broker.topics(1)?, broker.brokers());
        let copy = Service::start_with(&programs.copy, &copies.url(), &brokers, &topics.of_copy())?;
        let (of_owner, of_copy) = (owners.connect()?, copies.connect()?);
        let products = options.products;
        let mut pair = Self {
            owner: None,
            copy,
            of_owner,
            of_copy,
            owners,
            _copies: copies,
            topics,
            programs,
            broker,
            products,
        };
        pair.run_with(relay)?;
        let filled = block_on(client::fill(&pair.target()?, products));
        pair.with_logs(filled)?;
        pair.settle()?;
        Ok(pair)
    }

    /// Sees to it that product-service runs with `relay`, and that its events go through the whole loop.
    pub(super) fn run_with(&mut self, relay: Relay) -> Result<()> {
        if self.owner.as_ref().is_some_and(|(with, _)| *with == relay) {
            return Ok(());
        }
        if let Some((_, running)) = self.owner.take() {
            running.end()?;
        }
        let mut settings = self.topics.of_owner();
        settings.push(relay.setting());
        let (url, brokers) = (self.owners.url(), self.broker.brokers());
        let mut service = Service::start_with(&self.programs.owner, &url, &brokers, &settings)?;
        if relay == Relay::Log {
            service.wait_for(FOLLOWS).context("product-service does not read the log")?;
        }
        self.owner = Some((relay, service));
        Ok(())
    }

    /// One change that goes through the whole loop: then every part of it is there.
    pub(super) fn go_round(&mut self, changes: &mut Changes) -> Result<()> {
        let (target, change) = (self.target()?, changes.draw());
        let adjusted = block_on(async {
            let mut client = Client::connect(&target).await?;
            client.adjust(change).await
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
        let (_, service) = self.owner.as_ref().context("product-service does not run")?;
        Target::parse(&service.url)
    }

    /// What the services have used so far.
    pub(super) fn used(&self) -> Result<BTreeMap<&'static str, Used>> {
        let owner = self.owner.as_ref().map(|(_, service)| (OWNER, service));
        let services = owner.into_iter().chain([(COPY, &self.copy)]);
        services.map(|(name, service)| Ok((name, used(service)?))).collect()
    }

    /// The same since they had used what was used `before`; of memory, the most since their start.
    pub(super) fn used_since(
        &self,
        before: &BTreeMap<&'static str, Used>,
    ) -> Result<BTreeMap<&'static str, Used>> {
        let mut used = self.used()?;
        for (name, used) in &mut used {
            used.cpu_s -= before.get(name).map_or(0.0, |before| before.cpu_s);
        }
        Ok(used)
    }

    /// The same, with the ends of the services' logs if it failed.
    pub(super) fn with_logs<T>(&self, done: Result<T>) -> Result<T> {
        done.with_context(|| {
            let owner = self.owner.as_ref().map(|(_, service)| service.log_tail());
            format!("{}\n{}", owner.unwrap_or_default(), self.copy.log_tail())
        })
    }

    /// How many products there are.
    pub(super) fn products(&self) -> u32 {
        self.products
    }
}

fn used(service: &Service) -> Result<Used> {
    let process = service.process();
    Ok(Used { cpu_s: process.cpu_s()?, rss_mb: process.peak_mb()? })
}
