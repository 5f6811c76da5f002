//! Both services with all that they stand on: real processes on a real PostgreSQL and a real Apache Kafka, with a proxy on
//! each way from a service to one of those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hyper::Method;
use serde_json::{Value, json};
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::ports::free_port;
use stockloop_tests::smtp::{Mail, Manner, SmtpSink};
use tokio::runtime::Runtime;

use super::brokers::Brokers;
use super::catcher;
use super::client::{Asked, Client, Reply};
use super::database::{Databases, Looks};
use super::fault::{
    COPIES, DEAD_LETTERS, DEADLOCKS, Fault, GAVE_UP, IN_BAD_NETWORK, IN_NEW_PARTITIONS,
    LOST_ANSWERS, Link, Part, WRONG_CLOCKS, Who,
};
use super::http_server::HttpServer;
use super::instance::{Instance, Places, Relay};
use super::ledger::Ledger;
use super::load::{self, Addresses, adjusted, products};
use super::messages::{self, Duplicator};
use super::proxy::Proxy;
use super::scenarios::Scenario;
use super::webhook::{Receiver, Welcome};
use super::wire::Moment;
use crate::check::{Arguments, Side};
use crate::programs::Programs;

/// How long all may take to come to rest once nothing is wrong any more.
const DRAIN_DEADLINE: Duration = Duration::from_secs(300);

/// How long all of a flood may take to give up.
const FLOOD_DEADLINE: Duration = Duration::from_secs(180);

/// How long a moment may take to come at which a process is to be killed.
const MOMENT_DEADLINE: Duration = Duration::from_secs(30);

/// How long an operator tries.
const ASK_DEADLINE: Duration = Duration::from_secs(60);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

const SIDES: [Side; 2] = [Side::Product, Side::Order];

/// A system. What is to be ended first comes first.
pub(super) struct System {
    instances: BTreeMap<Who, Instance>,
    duplicator: Option<Duplicator>,
    proxies: BTreeMap<Link, Vec<Proxy>>,
    brokers: Brokers,
    databases: Databases,
    mails: SmtpSink,
    /// Where the mails are listed.
    catcher: HttpServer,
    webhook: Receiver,
    addresses: Addresses,
    quarantined: Vec<String>,
    /// Processes of each service that run when all is well.
    running: usize,
    seed: u64,
    /// What the parts that behave badly are met by.
    bad: BTreeMap<Part, &'static str>,
    /// What faults have met so far.
    pub(super) met: BTreeMap<&'static str, u64>,
    /// What an operator changed.
    pub(super) ledger: Ledger,
    /// What went wrong with processes: that one ended by itself or not in good order, did not come up, or panicked.
    pub(super) complaints: Vec<String>,
}

impl System {
    /// Starts everything, puts products in, and waits until both services have them.
    pub(super) fn start(
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

    /// Where the processes are called.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    fn fill(&self, runtime: &Runtime) -> Result<()> {
        self.drain().context("the new services do not come to rest")?;
        let body = json!({ "mode": "replace", "lines": products() });
        let answer = self.ask(runtime, Side::Product, Method::POST, "/api/v1/inventory", body)?;
        ensure!(answer["refused"] == 0, "products were refused: {answer}");
        self.drain().context("the first products do not arrive")?;
        Ok(())
    }

    /// Asks a process of a service as an operator, who takes no for an error, and who tries what is not available again: so
    /// only what may be done twice is asked for.
    fn ask(
        &self,
        runtime: &Runtime,
        side: Side,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Value> {
        let address = self.addresses.of(side).first().context("there is no process")?;
        let asked = Asked { method, path: path.to_owned(), body, key: None };
        let (began, mut client) = (Instant::now(), Client::default());
        loop {
            match runtime.block_on(client.ask(address, &asked)) {
                Reply::Whole { status: 200..=299, body } => return Ok(body),
                // A try whose answer was lost may have removed it.
                Reply::Whole { status: 404, body } if asked.method == Method::DELETE => {
                    return Ok(body);
                }
                Reply::Whole { status: 400..=499, body } => bail!("{side} refused {path}: {body}"),
                other if began.elapsed() > ASK_DEADLINE => {
                    bail!("{side} answered {path} with {other:?}")
                }
                _ => thread::sleep(LOOK),
            }
        }
    }

    /// Lets it happen.
    pub(super) fn suffer(&mut self, runtime: &Runtime, fault: Fault) -> Result<()> {
        let met = self.cause(runtime, fault)?;
        if let Some(what) = fault.meets() {
            self.meet(what, met);
        }
        Ok(())
    }

    fn meet(&mut self, what: &'static str, many: u64) {
        *self.met.entry(what).or_default() += many;
    }

    /// Lets it happen; returns how much it met, as far as that is known at once.
    fn cause(&mut self, runtime: &Runtime, fault: Fault) -> Result<u64> {
        Ok(match fault {
            Fault::Kill(who) => {
                let killed = self.instance(who)?.kill();
                self.note(who, killed)
            }
            Fault::KillAt(who, moment) => self.kill_at(who, moment)?,
            Fault::Terminate(who) => {
                let ended = self.instance(who)?.terminate();
                self.note(who, ended)
            }
            Fault::Start(who) => self.start_process(who).map(|()| 0)?,
            Fault::Freeze(who) => {
                let frozen = self.instance(who)?.freeze();
                self.note(who, frozen)
            }
            Fault::Thaw(who) => self.instance(who)?.thaw().map(|()| 0)?,
            Fault::Clock(who, seconds) => self.instance(who)?.set_clock(seconds).map(|()| 0)?,
            Fault::Weather(link, weather) => {
                self.proxies(link)?.iter().for_each(|proxy| proxy.be(weather));
                0
            }
            Fault::Strike(link, strike) => {
                self.proxies(link)?.iter().map(|proxy| u64::from(proxy.strike(strike))).sum()
            }
            Fault::Lose(side, request, count) => {
                let link = Link { side, part: request.part() };
                self.proxies(link)?.iter().for_each(|proxy| proxy.lose(request, count));
                0
            }
            Fault::Postgres(fault) => self.databases.suffer(fault)?,
            Fault::Broker(which, fault) => self.brokers.suffer(which, fault)?,
            Fault::Topic(fault) => self.brokers.change(runtime, fault).map(|()| 1)?,
            Fault::Mail(manner) => {
                self.turn(Part::Mail, fault);
                self.mails.be(manner).map(|()| 0)?
            }
            Fault::Webhook(welcome) => {
                self.turn(Part::Webhook, fault);
                self.webhook.be(welcome);
                0
            }
            Fault::Quarantine(products) => self.quarantine(runtime, products).map(|()| 0)?,
            Fault::Flood(products) => self.flood(runtime, products).map(|()| 0)?,
            Fault::SlowConsumer => self.databases.slow_down().map(|()| 1)?,
            Fault::Nonsense => {
                messages::send_nonsense(&self.brokers.servers(), self.seed).map(|()| 0)?
            }
            Fault::ForgedAnswers => {
                messages::send_forged_answers(&self.brokers.servers(), self.seed)?
            }
            Fault::Copy { late_ms } => {
                let servers = self.brokers.servers();
                self.duplicator = Some(Duplicator::start(&servers, self.seed, late_ms)?);
                0
            }
        })
    }

    /// Kills a process when this moment comes, and says so if it does not.
    fn kill_at(&mut self, who: Who, moment: Moment) -> Result<u64> {
        let link = Link { side: who.side, part: moment.request.part() };
        let (tell, told) = sync_channel(1);
        self.proxies(link)?.iter().for_each(|proxy| proxy.trap(moment, &tell));
        let has_come = told.recv_timeout(MOMENT_DEADLINE).is_ok();
        let killed = self.instance(who)?.kill();
        self.proxies(link)?.iter().for_each(Proxy::clear);
        if !has_come {
            self.complaints.push(format!("{who}: the moment did not come {moment}"));
        }
        Ok(self.note(who, killed).min(u64::from(has_come)))
    }

    /// A part is about to behave as this says: who came until now met it as it was.
    fn turn(&mut self, part: Part, fault: Fault) {
        let links = SIDES.map(|side| Link { side, part });
        let proxies = links.iter().filter_map(|link| self.proxies.get(link)).flatten();
        let came: u64 = proxies.map(Proxy::take_accepted).sum();
        if let Some(what) = self.bad.remove(&part) {
            self.meet(what, came);
        }
        if let Some(what) = fault.meets() {
            self.bad.insert(part, what);
        }
    }

    fn quarantine(&mut self, runtime: &Runtime, products: u32) -> Result<()> {
        for sku in (0..products).map(adjusted) {
            let path = format!("/api/admin/v1/quarantine/{sku}");
            let body = json!({ "reason": "a trial" });
            self.ask(runtime, Side::Order, Method::PUT, &path, body)?;
            self.quarantined.push(sku);
        }
        Ok(())
    }

    /// Puts as many products in that order-service refuses, and waits until all have given up.
    fn flood(&mut self, runtime: &Runtime, products: u32) -> Result<()> {
        self.databases.refuse_flood(products)?;
        self.ledger.take(load::flood(runtime, &self.addresses, products)?);
        let mut looks = self.look()?;
        eventually_blocking("a whole flood that gave up", FLOOD_DEADLINE, || {
            match looks.exhausted() {
                Ok(count) if count >= u64::from(products) => Ok(()),
                other => Err(other),
            }
        })
    }

    /// Puts right whatever was done, and starts what does not run.
    pub(super) fn heal(&mut self, runtime: &Runtime) -> Result<()> {
        let copies = self.duplicator.take().map_or(0, Duplicator::finish);
        let (mut troubled, mut snared) = (0, 0);
        for proxy in self.proxies.values().flatten() {
            proxy.clear();
            troubled += proxy.take_troubled();
            snared += proxy.take_snared();
        }
        self.note_met([(COPIES, copies), (IN_BAD_NETWORK, troubled), (LOST_ANSWERS, snared)]);
        self.databases.heal()?;
        self.brokers.heal()?;
        self.turn(Part::Mail, Fault::Mail(Manner::Accept));
        self.mails.be(Manner::Accept)?;
        self.turn(Part::Webhook, Fault::Webhook(Welcome::Take));
        self.webhook.be(Welcome::Take);
        self.heal_processes()?;
        for sku in std::mem::take(&mut self.quarantined) {
            let path = format!("/api/admin/v1/quarantine/{sku}");
            self.ask(runtime, Side::Order, Method::DELETE, &path, Value::Null)?;
        }
        Ok(())
    }

    fn heal_processes(&mut self) -> Result<()> {
        for (who, instance) in &mut self.instances {
            instance.thaw()?;
            let (ended, is_right) = (instance.take_end(), instance.set_clock_right());
            for error in ended.into_iter().chain(is_right.err()) {
                self.complaints.push(format!("{who}: {error:#}"));
            }
        }
        self.start_missing()
    }

    /// What is only known now of what faults met, if any such fault was there.
    fn note_met(&mut self, known: impl IntoIterator<Item = (&'static str, u64)>) {
        for (what, many) in known {
            if let Some(met) = self.met.get_mut(what) {
                *met = many;
            }
        }
    }

    /// The same of what only the databases and the brokers know, once all is at rest.
    pub(super) fn note_met_in(&mut self, looks: &mut Looks) -> Result<()> {
        let known = [
            (GAVE_UP, looks.exhausted()?),
            (DEAD_LETTERS, looks.dead_letters()?),
            (DEADLOCKS, looks.deadlocks()?),
            (IN_NEW_PARTITIONS, messages::in_new_partitions(&self.brokers.servers())?),
        ];
        self.note_met(known);
        Ok(())
    }

    /// Starts the processes that run when all is well, unless they do.
    fn start_missing(&mut self) -> Result<()> {
        for side in SIDES {
            for number in 1..=self.running {
                self.start_process(Who { side, number })?;
            }
        }
        Ok(())
    }

    /// Starts a process. Whatever it stands on is well at that moment, so it has to come up at once.
    fn start_process(&mut self, who: Who) -> Result<()> {
        let instance = self.instance(who)?;
        let (failed, has_wrong_clock) = (instance.start()?, instance.has_wrong_clock());
        if let Some(error) = failed {
            self.complaints.push(format!("{who}: it did not come up at once: {error:#}"));
        }
        if has_wrong_clock {
            self.meet(WRONG_CLOCKS, 1);
        }
        Ok(())
    }

    /// Waits until nothing waits.
    pub(super) fn drain(&self) -> Result<()> {
        let (began, mut looks) = (Instant::now(), self.look()?);
        loop {
            let waiting = self.waiting(&mut looks)?;
            // What was read last may have caused something where it was looked before.
            if waiting.is_empty() && self.waiting(&mut looks)?.is_empty() {
                return Ok(());
            }
            ensure!(
                began.elapsed() < DRAIN_DEADLINE,
                "after {DRAIN_DEADLINE:?}, this still waits: {waiting:?}"
            );
            thread::sleep(LOOK);
        }
    }

    /// What still waits.
    fn waiting(&self, looks: &mut Looks) -> Result<Vec<String>> {
        let mut waiting = looks.waiting()?;
        if waiting.is_empty() {
            match messages::unread(&self.brokers.servers()) {
                Ok(0) => {}
                Ok(unread) => waiting.push(format!("{unread} messages")),
                // Brokers that came back need a moment to know where their groups are.
                Err(error) => waiting.push(format!("messages that can't be counted: {error:#}")),
            }
        }
        Ok(waiting)
    }

    /// Ends both services in good order.
    pub(super) fn stop(&mut self) {
        for (who, instance) in &mut self.instances {
            if let Err(error) = instance.terminate() {
                self.complaints.push(format!("{who}: {error:#}"));
            }
        }
    }

    /// Keeps what went wrong with a process; 1 if nothing did.
    fn note(&mut self, who: Who, done: Result<()>) -> u64 {
        match done {
            Ok(()) => 1,
            Err(error) => {
                self.complaints.push(format!("{who}: {error:#}"));
                0
            }
        }
    }

    /// What the judge is asked.
    pub(super) fn judged(&self) -> Arguments {
        let databases = self.databases.urls().map(Into::into);
        Arguments::settled(databases, self.brokers.servers(), self.catcher.url())
    }

    /// A look into both databases.
    pub(super) fn look(&self) -> Result<Looks> {
        Looks::open(&self.databases.urls())
    }

    /// The ids of the mails that arrived, and how many came again.
    pub(super) fn mails(&self) -> (BTreeSet<String>, usize) {
        let mails = self.mails.mails();
        let ids: BTreeSet<String> = mails.iter().map(Mail::message_id).collect();
        let again = mails.len().saturating_sub(ids.len());
        (ids, again)
    }

    /// Whether a call of the webhook arrived.
    pub(super) fn has_call(&self, id: &str) -> bool {
        self.webhook.has(id)
    }

    /// The last lines of all processes that run.
    pub(super) fn log_tails(&self) -> String {
        self.instances.values().filter_map(Instance::log_tail).collect::<Vec<_>>().join("\n")
    }

    fn instance(&mut self, who: Who) -> Result<&mut Instance> {
        self.instances.get_mut(&who).with_context(|| format!("there is no {who}"))
    }

    fn proxies(&self, link: Link) -> Result<&[Proxy]> {
        let proxies = self.proxies.get(&link).map(Vec::as_slice);
        proxies.with_context(|| format!("nothing is between {link}"))
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
