//! How a system is made, and what is in it at first.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::json;
use stockloop_tests::ports::free_port;
use stockloop_tests::smtp::SmtpSink;
use tokio::runtime::Runtime;

use super::{SIDES, System};
use crate::chaos::brokers::Brokers;
use crate::chaos::catcher;
use crate::chaos::database::Databases;
use crate::chaos::fault::{Link, Part, Who};
use crate::chaos::instance::{Instance, Places, Relay};
use crate::chaos::ledger::Ledger;
use crate::chaos::load::{Addresses, products};
use crate::chaos::proxy::Proxy;
use crate::chaos::scenarios::Scenario;
use crate::chaos::webhook::Receiver;
use crate::check::Side;
use crate::programs::Programs;

impl System {
    /// Starts everything, puts products in, and waits until both services have them.
    pub(in crate::chaos) fn start(
        runtime: &Runtime,
        programs: &Programs,
        scenario: &Scenario,
        seed: u64,
        relay: Relay,
    ) -> Result<Self> {
        let databases = Databases::start(scenario.is_pooled, relay)?;
        let brokers = Brokers::start(runtime, scenario.brokers)?;
        let mails = SmtpSink::start()?;
        let catcher = catcher::serve(mails.later_mails())?;
        let mut system = Self {
            instances: BTreeMap::new(),
            duplicator: None,
            proxies: BTreeMap::new(),
            brokers,
            databases,
            mails,
            catcher,
            webhook: Receiver::start()?,
            addresses: addresses(scenario.most)?,
            quarantined: Vec::new(),
            running: scenario.instances,
            seed,
            bad: BTreeMap::new(),
            met: BTreeMap::new(),
            ledger: Ledger::default(),
            complaints: Vec::new(),
        };
        for side in SIDES {
            let places = system.connect(runtime, side, relay)?;
            system.place(runtime, programs, scenario, &places)?;
        }
        system.start_missing()?;
        system.fill(runtime)?;
        Ok(system)
    }

    /// Makes the proxies between a service and what it stands on.
    fn connect(&mut self, runtime: &Runtime, side: Side, relay: Relay) -> Result<Places> {
        let [postgres, mail, webhook] = [free_port()?, free_port()?, free_port()?];
        let kafka = self.brokers.ways(side)?;
        let others = [
            (Part::Postgres, postgres, self.databases.port()),
            (Part::Mail, mail, self.mails.port()),
            (Part::Webhook, webhook, self.webhook.port()),
        ];
        let to_kafka = kafka.iter().map(|(port, listener)| (Part::Kafka, *port, *listener));
        for (part, port, server) in others.into_iter().chain(to_kafka) {
            self.pass_on(runtime, Link { side, part }, port, server)?;
        }
        let brokers: Vec<String> =
            kafka.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        let [product, order] = self.databases.urls();
        let (url, peer) = match side {
            Side::Product => (product, Side::Order),
            Side::Order => (order, Side::Product),
        };
        let (_, database) = url.rsplit_once('/').context("the URL has no database")?;
        let peer = self.addresses.of(peer).first().context("there is no other service")?;
        Ok(Places {
            side,
            database: format!("postgres://postgres@127.0.0.1:{postgres}/{database}"),
            behind_pooler: self.databases.is_pooled().then(|| url.clone()),
            relay,
            brokers: brokers.join(","),
            peer: peer.clone(),
            mail_port: mail,
            webhook_port: webhook,
        })
    }

    /// Makes the processes of a service, which do not run yet.
    fn place(
        &mut self,
        runtime: &Runtime,
        programs: &Programs,
        scenario: &Scenario,
        places: &Places,
    ) -> Result<()> {
        let side = places.side;
        let addresses = self.addresses.of(side).to_vec();
        for (number, address) in (1..).zip(addresses) {
            let bind = if scenario.is_called_by_network {
                let (called, bind) = (address.parse::<SocketAddr>()?.port(), free_port()?);
                self.pass_on(runtime, Link { side, part: Part::Clients }, called, bind)?;
                format!("127.0.0.1:{bind}")
            } else {
                address
            };
            let instance = Instance::new(programs.of(side), places, &bind);
            self.instances.insert(Who { side, number }, instance);
        }
        Ok(())
    }

    fn pass_on(&mut self, runtime: &Runtime, link: Link, port: u16, server: u16) -> Result<()> {
        let proxy = runtime.block_on(Proxy::start(port, server))?;
        self.proxies.entry(link).or_default().push(proxy);
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
