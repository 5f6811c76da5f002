//! How a system is made, and what is in it at first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::json;
use stockloop_tests::ports::free_port;
use stockloop_tests::smtp::SmtpSink;
use tokio::runtime::Runtime;

use super::System;
use super::failovers::Failovers;
use super::network::Network;
use super::processes::Processes;
use super::tally::Tally;
use crate::chaos::brokers::Brokers;
use crate::chaos::catcher;
use crate::chaos::databases::Databases;
use crate::chaos::fault::{Link, Part, REMOVALS, Who};
use crate::chaos::instance::{Places, Relay, Releases};
use crate::chaos::ledger::Ledger;
use crate::chaos::load::{Addresses, Rest, products};
use crate::chaos::rights;
use crate::chaos::scenarios::{Cluster, Scenario, Store};
use crate::chaos::webhook::Receiver;
use crate::check::Side;

impl System {
    /// Starts everything, puts products in, and waits until both services have them.
    pub(in crate::chaos) fn start(
        runtime: &Runtime,
        releases: &Releases,
        scenario: &Scenario,
        relay: Relay,
        (seed, backlog): (u64, u32),
    ) -> Result<Self> {
        // A file has no log that could be read.
        let relay = if scenario.store == Store::Files { Relay::Table } else { relay };
        let databases = Databases::start(scenario.store, relay)?;
        let brokers = Brokers::start(runtime, scenario.cluster)?;
        let mails = SmtpSink::start()?;
        let catcher = catcher::serve(mails.later_mails())?;
        let mut system = Self {
            processes: Processes::new(scenario, releases),
            duplicator: None,
            witness: None,
            aging: None,
            network: Network::default(),
            brokers,
            databases,
            mails,
            catcher,
            webhook: Receiver::start()?,
            addresses: addresses(scenario.most)?,
            quarantined: Vec::new(),
            backlog,
            more_time: Duration::ZERO,
            seed,
            failovers: Failovers::default(),
            rest: Rest::default(),
            revoked: None,
            hung: None,
            chores: BTreeMap::new(),
            unanswered: Vec::new(),
            unhelpful: BTreeMap::new(),
            tally: Tally::default(),
            ledger: Ledger::default(),
        };
        if scenario.removes {
            system.tally.meet(REMOVALS, 0);
        }
        for side in Side::BOTH {
            let places = system.connect(runtime, scenario, side, relay)?;
            system.place(runtime, scenario, &places)?;
        }
        system.processes.bring_all_up(&mut system.tally)?;
        system.fill(runtime)?;
        Ok(system)
    }

    /// Makes the proxies between a service and what it stands on.
    fn connect(
        &mut self,
        runtime: &Runtime,
        scenario: &Scenario,
        side: Side,
        relay: Relay,
    ) -> Result<Places> {
        let [mail, webhook] = [free_port()?, free_port()?];
        let kafka = self.brokers.ways(side)?;
        let others =
            [(Part::Mail, mail, self.mails.port()), (Part::Webhook, webhook, self.webhook.port())];
        let to_kafka = kafka.iter().map(|(port, listener)| (Part::Kafka, *port, *listener));
        for (part, port, server) in others.into_iter().chain(to_kafka) {
            self.network.pass_on(runtime, Link { side, part }, port, server)?;
        }
        let brokers: Vec<String> =
            kafka.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        let [product, order] = self.databases.urls();
        let url = match side {
            Side::Product => product,
            Side::Order => order,
        };
        let database = self.connect_to_database(runtime, side, &url)?;
        let peer = self.addresses.of(side.other()).first().context("there is no other service")?;
        Ok(Places {
            side,
            database,
            behind_pooler: self.databases.is_pooled().then_some(url),
            relay,
            brokers: brokers.join(","),
            user: (scenario.cluster == Cluster::Guarded).then(|| rights::user(side)),
            peer: peer.clone(),
            mail_port: mail,
            webhook_port: webhook,
            clocks_jump: scenario.clocks_jump,
            settings: scenario.settings,
        })
    }

    /// Makes the proxy to a service's database, if there is a way to it; returns the URL that the service is told.
    fn connect_to_database(&mut self, runtime: &Runtime, side: Side, url: &str) -> Result<String> {
        let Some(server) = self.databases.port() else { return Ok(url.to_owned()) };
        let port = free_port()?;
        self.network.pass_on(runtime, Link { side, part: Part::Postgres }, port, server)?;
        let (_, database) = url.rsplit_once('/').context("the URL has no database")?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{database}"))
    }

    /// Makes the processes of a service, which do not run yet.
    fn place(&mut self, runtime: &Runtime, scenario: &Scenario, places: &Places) -> Result<()> {
        let side = places.side;
        let addresses = self.addresses.of(side).to_vec();
        for (number, address) in (1..).zip(addresses) {
            let bind = if scenario.is_called_by_network {
                let (called, bind) = (address.parse::<SocketAddr>()?.port(), free_port()?);
                self.network.pass_on(runtime, Link { side, part: Part::Clients }, called, bind)?;
                format!("127.0.0.1:{bind}")
            } else {
                address
            };
            self.processes.add(Who { side, number }, places, &bind, scenario.is_upgraded)?;
        }
        Ok(())
    }

    fn fill(&self, runtime: &Runtime) -> Result<()> {
        self.drain().context("the new services do not come to rest")?;
        let body = json!({ "mode": "replace", "lines": products() });
        let answer = self.ask(runtime, Side::Product, Method::POST, "/api/v1/inventory", body)?;
        ensure!(answer["refused"] == 0, "products were refused: {answer}");
        self.drain().context("the first products do not arrive")?;
        Ok(())
    }
}

/// An address for each process that may ever run.
fn addresses(most: usize) -> Result<Addresses> {
    let mut addresses = Addresses::default();
    for all in [&mut addresses.product, &mut addresses.order] {
        for _ in 0..most {
            all.push(format!("127.0.0.1:{}", free_port()?));
        }
    }
    Ok(addresses)
}
