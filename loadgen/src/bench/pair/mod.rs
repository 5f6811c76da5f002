//! Both services, each with a database of its own, on topics that they share; and their [`backlogs`].

mod backlogs;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use common::config::KafkaSettings;
use common::db::Conn;

pub(super) use self::backlogs::Backlogs;
use super::block_on;
use super::load::{Changes, adjust, fill};
use super::looks::settle;
use super::options::{LoopOptions, Options, Relay};
use super::parts::{
    CONNECT, Client, Connector, Parts, Running, Server, Service, Target, Topics, log_tails,
    start_instances, used_by, wait_until_shared,
};
use crate::place::Scratch;
use crate::process::Used;
use crate::programs::{COPY, OWNER, Programs};

/// The programs of both services, and what they run on.
pub(super) struct Both {
    pub(super) programs: Programs,
    pub(super) parts: Parts,
}

impl Both {
    /// What was named, and new parts for the others: nothing is started before all that is named is there.
    pub(super) fn start(told: &LoopOptions) -> Result<Self> {
        let named = Server::named_by(&told.options)?;
        let programs = told.programs()?;
        Ok(Self { programs, parts: Parts::start(&told.options, named)? })
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
    both: &'a Both,
}

impl<'a> Pair<'a> {
    /// Starts order-service, and product-service with the first relay; puts products in, and waits until each has gone
    /// through the whole loop.
    pub(super) fn start(both: &'a Both, options: &Options) -> Result<Self> {
        Self::start_told(both, options, Vec::new())
    }

    /// The same, with what order-service is told beside its topics.
    pub(super) fn start_told(
        both: &'a Both,
        options: &Options,
        told: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let Both { programs, parts: Parts { server, broker, .. } } = both;
        let relay = *options.relays().first().context("there is no --relay")?;
        let running = Running::with(relay);
        // The services make their tables themselves.
        let (database, copies) =
            (server.of_service.make_with(&[])?, server.of_copy.make_with(&[])?);
        let topics = broker.new_topics()?;
        let settings: Vec<_> = topics.of_copy().into_iter().chain(told).collect();
        let copy = Service::start_with(&programs.copy, &copies.url(), broker, &settings)?;
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
            both,
        };
        pair.run(&running)?;
        let filled = block_on(fill(&pair.target()?, options.products));
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
        let Both { programs, parts: Parts { broker, connect, .. } } = self.both;
        let url = self.database.url();
        self.owners = start_instances(&programs.owner, &url, broker, &settings, running)?;
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
    fn is_external(&self) -> bool {
        self.external.is_some()
    }

    /// Has another program send nothing, which no pause reaches, if it is the relay.
    fn stop_external(&mut self) -> Result<()> {
        self.external.as_ref().map_or(Ok(()), |external| external.stop(&mut self.of_owner))
    }

    /// Has it go on.
    fn resume_external(&self) -> Result<()> {
        self.external.as_ref().map_or(Ok(()), Connector::resume)
    }

    /// One change that goes through the whole loop: then every part of it is there.
    pub(super) fn go_round(&mut self, changes: &mut Changes) -> Result<()> {
        let (target, change) = (self.target()?, changes.draw());
        let adjusted = block_on(async {
            let mut client = Client::connect(&target).await?;
            adjust(&mut client, change).await
        });
        self.with_logs(adjusted)?;
        self.settle()
    }

    /// Waits until no event is open.
    fn settle(&mut self) -> Result<()> {
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

    /// What was `done`, with the ends of the services' logs if it failed.
    pub(super) fn with_logs<T>(&self, done: Result<T>) -> Result<T> {
        done.with_context(|| log_tails(self.owners.iter().chain([&self.copy])))
    }

    /// What somebody is told who reads the events, or sends to their topics.
    pub(super) fn kafka(&self) -> KafkaSettings {
        self.both.parts.broker.settings_for(&self.topics)
    }
}
