//! Both services with all that they stand on: real processes on a real PostgreSQL and a real Apache Kafka, with a proxy on
//! each way from a service to one of those.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hyper::Method;
use serde_json::{Value, json};
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::ports::free_port;
use stockloop_tests::smtp::{Manner, SmtpSink};
use tokio::runtime::Runtime;

use super::catcher;
use super::client::{Asked, Client, Reply};
use super::database::{Databases, Looks};
use super::http_server::HttpServer;
use super::instance::{Instance, Places, Programs};
use super::load::{Addresses, adjusted, products};
use super::messages::{self, Duplicator, PARTITIONS, TOPICS};
use super::plan::{BrokerFault, Fault, Link, Part, Who};
use super::proxy::{Proxy, Weather};
use super::scenarios::Scenario;
use crate::check::{Arguments, Side};

/// How long all may take to come to rest once nothing is wrong any more.
const DRAIN_DEADLINE: Duration = Duration::from_secs(300);

/// How long an operator tries.
const ASK_DEADLINE: Duration = Duration::from_secs(60);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

const SIDES: [Side; 2] = [Side::Product, Side::Order];

/// A system. What is to be ended first comes first.
pub(super) struct System {
    instances: BTreeMap<Who, Instance>,
    duplicator: Option<Duplicator>,
    proxies: BTreeMap<Link, Proxy>,
    broker: KafkaBroker,
    databases: Databases,
    mails: SmtpSink,
    /// Where the mails are listed.
    catcher: HttpServer,
    addresses: Addresses,
    quarantined: Vec<String>,
    /// Processes of each service that run when all is well.
    running: usize,
    seed: u64,
    /// What went wrong with processes: that one ended by itself, or not in good order.
    pub(super) complaints: Vec<String>,
}

impl System {
    /// Starts everything, puts products in, and waits until both services have them.
    pub(super) fn start(
        runtime: &Runtime,
        programs: &Programs,
        scenario: &Scenario,
        seed: u64,
    ) -> Result<Self> {
        let databases = Databases::start()?;
        let [of_product, of_order] = [free_port()?, free_port()?];
        let broker = KafkaBroker::start_behind(&[of_product, of_order])?;
        runtime.block_on(broker.create_topics(&TOPICS.map(|(topic, _)| topic), PARTITIONS))?;
        let mails = SmtpSink::start()?;
        let catcher = catcher::serve(mails.later_mails())?;
        let mut system = Self {
            instances: BTreeMap::new(),
            duplicator: None,
            proxies: BTreeMap::new(),
            broker,
            databases,
            mails,
            catcher,
            addresses: addresses(scenario.most)?,
            quarantined: Vec::new(),
            running: scenario.instances,
            seed,
            complaints: Vec::new(),
        };
        for (side, kafka_port) in [(Side::Product, of_product), (Side::Order, of_order)] {
            system.connect(runtime, programs, side, kafka_port)?;
        }
        system.start_missing()?;
        system.fill(runtime)?;
        Ok(system)
    }

    /// Makes the proxies and the processes of a service, which do not run yet.
    fn connect(
        &mut self,
        runtime: &Runtime,
        programs: &Programs,
        side: Side,
        kafka_port: u16,
    ) -> Result<()> {
        let listener = self.broker.listener(kafka_port).context("the broker has no listener")?;
        let postgres_port = free_port()?;
        for (part, port, server) in [
            (Part::Postgres, postgres_port, self.databases.port()),
            (Part::Kafka, kafka_port, listener),
        ] {
            let proxy = runtime.block_on(Proxy::start(port, server))?;
            self.proxies.insert(Link { side, part }, proxy);
        }
        let [product, order] = self.databases.urls();
        let Addresses { product: products, order: orders } = &self.addresses;
        let (url, own, peers) = match side {
            Side::Product => (product, products, orders),
            Side::Order => (order, orders, products),
        };
        let (_, database) = url.rsplit_once('/').context("the URL has no database")?;
        for (number, bind) in (1..).zip(own) {
            let places = Places {
                database: format!("postgres://postgres@127.0.0.1:{postgres_port}/{database}"),
                brokers: format!("127.0.0.1:{kafka_port}"),
                bind: bind.clone(),
                peer: peers.first().context("there is no other service")?.clone(),
                mail_port: self.mails.port(),
            };
            let instance = Instance::new(programs.of(side), &places);
            self.instances.insert(Who { side, number }, instance);
        }
        Ok(())
    }

    /// Where the processes listen.
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
        match fault {
            Fault::Kill(who) => {
                let killed = self.instance(who)?.kill();
                self.note(who, killed);
            }
            Fault::Terminate(who) => {
                let ended = self.instance(who)?.terminate();
                self.note(who, ended);
            }
            Fault::Start(who) => self.instance(who)?.start()?,
            Fault::Freeze(who) => self.instance(who)?.freeze()?,
            Fault::Thaw(who) => self.instance(who)?.thaw()?,
            Fault::Weather(link, weather) => self.proxy(link)?.be(weather),
            Fault::Strike(link, strike) => self.proxy(link)?.strike(strike),
            Fault::LoseCommits(link, count) => self.proxy(link)?.lose_commits(count),
            Fault::Postgres(fault) => self.databases.suffer(fault)?,
            Fault::Broker(fault) => self.suffer_at_broker(fault)?,
            Fault::Mail(manner) => self.mails.be(manner)?,
            Fault::Quarantine(products) => self.quarantine(runtime, products)?,
            Fault::SlowConsumer => self.databases.slow_down()?,
            Fault::Nonsense => messages::send_nonsense(&self.broker.brokers(), self.seed)?,
            Fault::ForgedAnswers => {
                messages::send_forged_answers(&self.broker.brokers(), self.seed)?;
            }
            Fault::Duplicate => {
                self.duplicator = Some(Duplicator::start(&self.broker.brokers(), self.seed)?);
            }
        }
        Ok(())
    }

    fn suffer_at_broker(&mut self, fault: BrokerFault) -> Result<()> {
        match fault {
            BrokerFault::Stop => self.broker.stop(),
            BrokerFault::Kill => {
                self.broker.kill9();
                Ok(())
            }
            BrokerFault::Start => self.broker.start_again(),
            BrokerFault::Freeze => self.broker.pause(),
            BrokerFault::Thaw => self.broker.resume(),
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

    /// Puts right whatever was done, and starts what does not run.
    pub(super) fn heal(&mut self, runtime: &Runtime) -> Result<()> {
        self.duplicator = None;
        for proxy in self.proxies.values() {
            proxy.be(Weather::Clear);
            proxy.lose_commits(0);
        }
        self.databases.heal()?;
        self.broker.start_again()?;
        self.broker.resume()?;
        self.mails.be(Manner::Accept)?;
        for instance in self.instances.values() {
            instance.thaw()?;
        }
        for (who, instance) in &mut self.instances {
            if let Some(ended) = instance.take_end() {
                self.complaints.push(format!("{who}: {ended:#}"));
            }
        }
        self.start_missing()?;
        for sku in std::mem::take(&mut self.quarantined) {
            let path = format!("/api/admin/v1/quarantine/{sku}");
            self.ask(runtime, Side::Order, Method::DELETE, &path, Value::Null)?;
        }
        Ok(())
    }

    /// Starts the processes that run when all is well, unless they do.
    fn start_missing(&mut self) -> Result<()> {
        for side in SIDES {
            for number in 1..=self.running {
                self.instance(Who { side, number })?.start()?;
            }
        }
        Ok(())
    }

    /// Waits until nothing waits; returns how long that took.
    pub(super) fn drain(&self) -> Result<Duration> {
        let (began, mut looks) = (Instant::now(), Looks::open(&self.databases.urls())?);
        loop {
            let waiting = self.waiting(&mut looks)?;
            // What was read last may have caused something where it was looked before.
            if waiting.is_empty() && self.waiting(&mut looks)?.is_empty() {
                return Ok(began.elapsed());
            }
            ensure!(
                began.elapsed() < DRAIN_DEADLINE,
                "after {DRAIN_DEADLINE:?}, this still waits: {waiting:?}"
            );
            thread::sleep(LOOK);
        }
    }

    /// What still waits, with its number.
    fn waiting(&self, looks: &mut Looks) -> Result<Vec<(&'static str, i64)>> {
        let mut waiting = looks.waiting()?;
        if waiting.is_empty() {
            let unread = messages::unread(&self.broker.brokers())?;
            waiting.extend((unread > 0).then_some(("messages", unread)));
        }
        Ok(waiting)
    }

    /// Ends both services in good order.
    pub(super) fn stop(&mut self) {
        let all: Vec<Who> = self.instances.keys().copied().collect();
        for who in all {
            if let Ok(instance) = self.instance(who) {
                let ended = instance.terminate();
                self.note(who, ended);
            }
        }
    }

    fn note(&mut self, who: Who, ended: Result<()>) {
        if let Err(error) = ended {
            self.complaints.push(format!("{who}: {error:#}"));
        }
    }

    /// What the judge is asked.
    pub(super) fn judged(&self) -> Arguments {
        let databases = self.databases.urls().map(Into::into);
        Arguments::settled(databases, self.broker.brokers(), self.catcher.url())
    }

    /// A look into both databases.
    pub(super) fn look(&self) -> Result<Looks> {
        Looks::open(&self.databases.urls())
    }

    /// Mails that arrived, and how many of them came again.
    pub(super) fn mails(&self) -> (usize, usize) {
        let mails = self.mails.mails();
        let once = catcher::count(&mails);
        (once, mails.len().saturating_sub(once))
    }

    /// The last lines of all processes that run.
    pub(super) fn log_tails(&self) -> String {
        self.instances.values().filter_map(Instance::log_tail).collect::<Vec<_>>().join("\n")
    }

    fn instance(&mut self, who: Who) -> Result<&mut Instance> {
        self.instances.get_mut(&who).with_context(|| format!("there is no {who}"))
    }

    fn proxy(&self, link: Link) -> Result<&Proxy> {
        self.proxies.get(&link).with_context(|| format!("there is no {link}"))
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
