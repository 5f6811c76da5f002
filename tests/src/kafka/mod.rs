//! A real Apache Kafka in KRaft mode: one shared by the test process, or private ones that may be
//! taken away.

mod acls;
mod parts;
mod secured;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, mem};

use anyhow::{Context, anyhow, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

pub use self::acls::{Acl, Operation, Resource};
use self::parts::KafkaParts;
use self::secured::Secured;
pub use self::secured::{Admits, SecureListener};
pub(crate) use self::settings::LOGGING;
use self::settings::Listener;
use crate::once::Once;
use crate::poll::eventually_blocking;
use crate::ports::{free_port, start_on_free_ports};
use crate::process::Child;
use crate::scratch;

const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(120);
const TOPIC_DEADLINE: Duration = Duration::from_secs(120);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

static SHARED: Once<KafkaBroker> = Once::new();

/// Whom a broker knows, by a password that is sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Letters alone.
    pub name: &'static str,
    /// Without quotes.
    pub password: &'static str,
}

/// The port that clients of a further listener are told, and whom it lets in, if not everybody.
type Told = (u16, Option<User>);

fn open_to_all(ports: &[u16]) -> Vec<Told> {
    ports.iter().map(|port| (*port, None)).collect()
}

/// A Kafka of one node, or of several, on loopback ports of its own, its data in the scratch folder.
///
/// Topics are never created by themselves. A topic's name should begin with [`Self::topic_prefix`].
/// Clients should be dropped before it: a consumer that can't say goodbye tries to for a minute.
#[derive(Debug)]
pub struct KafkaBroker {
    parts: KafkaParts,
    folder: PathBuf,
    node: i32,
    port: u16,
    controller_port: u16,
    settings: Vec<String>,
    further: Vec<Listener>,
    secured: Secured,
    child: Option<Child>,
    prefixes: AtomicUsize,
    /// Brokers that joined this one.
    joined: i32,
    /// Of a cluster whose nodes are all alike: each node, and the port of its controller.
    voters: Vec<(i32, u16)>,
}

impl KafkaBroker {
    /// The broker all tests of this process share, started on first use.
    pub fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get(Self::start_private)
    }

    /// The folder of its jars, whose name says which they are.
    pub fn jars(&self) -> &Path {
        self.parts.jars()
    }

    /// A broker for one test alone, to stop and start at will.
    pub fn start_private() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// A private broker with more `settings`, such as `message.max.bytes=2000`.
    pub fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        Self::start_told(settings, &[])
    }

    /// A private broker with a further listener for each of `ports`: who comes in by that is told that the broker is at
    /// this port, where something stands in between that passes on to [`Self::listener`].
    pub fn start_behind(ports: &[u16]) -> anyhow::Result<Self> {
        Self::start_behind_with(&[], ports)
    }

    /// The same with more `settings`.
    pub fn start_behind_with(settings: &[&str], ports: &[u16]) -> anyhow::Result<Self> {
        Self::start_told(settings, &open_to_all(ports))
    }

    /// The same, where each of `ways`, a port as with [`Self::start_behind`], lets in one user alone, by SASL/PLAIN without
    /// TLS. A user may do what they were [granted](Self::grant); who comes in by [`Self::brokers`] may do everything.
    pub fn start_guarded(ways: &[(u16, User)]) -> anyhow::Result<Self> {
        let told: Vec<Told> = ways.iter().map(|(port, user)| (*port, Some(*user))).collect();
        Self::start_told(&settings::GUARDED, &told)
    }

    fn start_told(settings: &[&str], told: &[Told]) -> anyhow::Result<Self> {
        let parts = KafkaParts::fetched()?;
        let folder = scratch::folder("kafka")?;
        parts.copy_storage(&folder.join("data"))?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self::stopped(parts, folder, settings::FIRST_NODE, settings).started(told)
    }

    /// A private broker that also listens as `listeners` say, besides the way without TLS that [`Self::brokers`] names.
    pub fn start_secured(listeners: Vec<SecureListener>) -> anyhow::Result<Self> {
        let (parts, folder) = (KafkaParts::fetched()?, scratch::folder("kafka")?);
        let mut broker = Self::stopped(parts, folder, settings::FIRST_NODE, Vec::new());
        broker.secured = Secured::new(listeners, &broker.folder)?;
        broker.take_ports(&[])?;
        broker.write_settings()?;
        // Who has which password is in the storage from its first moment on.
        let (properties, users) = (broker.properties(), broker.secured.users());
        broker.parts.format_storage(&properties, &users)?;
        broker.started(&[])
    }

    fn started(mut self, told: &[Told]) -> anyhow::Result<Self> {
        let start = || {
            self.take_ports(told)?;
            self.write_settings()?;
            self.start_again()
        };
        start_on_free_ports(start, is_port_taken)?;
        Ok(self)
    }

    /// The nodes of a private cluster, each broker and controller in one, so that any of them may go: topics have a replica
    /// on each, and all but one have to have what is written. Each has further listeners as with [`Self::start_behind`], for
    /// its ports in `told`.
    pub fn start_cluster(told: &[Vec<u16>]) -> anyhow::Result<Vec<Self>> {
        let parts = KafkaParts::fetched()?;
        let mut nodes = Vec::new();
        for node in (settings::FIRST_NODE..).take(told.len()) {
            let folder = scratch::folder("kafka")?;
            nodes.push(Self::stopped(parts.clone(), folder, node, Vec::new()));
        }
        let start = || {
            nodes.iter_mut().for_each(Self::kill9);
            let take = |(node, ports): (&mut Self, &Vec<u16>)| node.take_ports(&open_to_all(ports));
            nodes.iter_mut().zip(told).try_for_each(take)?;
            let voters: Vec<_> =
                nodes.iter().map(|node| (node.node, node.controller_port)).collect();
            for node in &mut nodes {
                node.voters = voters.clone();
                node.write_settings()?;
                node.format_new_storage()?;
                node.child = Some(node.launch()?);
            }
            // None is there before most are.
            nodes.iter_mut().try_for_each(Self::wait_until_it_runs)
        };
        start_on_free_ports(start, is_port_taken)?;
        let first = nodes.first().context("a cluster has at least one node")?;
        first.wait_for_brokers(nodes.len())?;
        Ok(nodes)
    }

    fn take_ports(&mut self, told: &[Told]) -> anyhow::Result<()> {
        (self.port, self.controller_port) = (free_port()?, free_port()?);
        let listener = |(told, user): &Told| Listener::new(*told, *user);
        self.further = told.iter().map(listener).collect::<Result<_, _>>()?;
        self.secured.take_ports()
    }

    /// Makes its storage, unless there is one.
    fn format_new_storage(&self) -> anyhow::Result<()> {
        if self.folder.join("data/meta.properties").is_file() {
            return Ok(());
        }
        self.parts.format_storage(&self.properties(), &[])
    }

    /// Starts another broker in the cluster of this one, which has to be its first; one is enough for most.
    ///
    /// Topics that are made through this one are spread over both from then on: of the topics of one call, each begins
    /// at the other broker than the one before.
    pub fn join(&mut self) -> anyhow::Result<Self> {
        let folder = scratch::folder("kafka")?;
        let node = self.node + self.joined + 1;
        let mut other = Self::stopped(self.parts.clone(), folder, node, self.settings.clone());
        (other.port, other.controller_port) = (free_port()?, self.controller_port);
        other.write_settings()?;
        other.format_new_storage()?;
        other.start_again()?;
        self.joined += 1;
        self.wait_for_brokers(usize::try_from(self.joined + 1)?)?;
        Ok(other)
    }

    fn wait_for_brokers(&self, expected: usize) -> anyhow::Result<()> {
        let asker: BaseConsumer = self.client().create()?;
        eventually_blocking("all brokers in the metadata", START_DEADLINE, || {
            let metadata = asker.fetch_metadata(None, ASK_TIMEOUT).map_err(|e| e.to_string())?;
            let brokers = metadata.brokers().len();
            if brokers == expected { Ok(()) } else { Err(format!("{brokers}")) }
        })
    }

    fn stopped(parts: KafkaParts, folder: PathBuf, node: i32, settings: Vec<String>) -> Self {
        Self {
            parts,
            folder,
            node,
            port: 0,
            controller_port: 0,
            settings,
            further: Vec::new(),
            secured: Secured::default(),
            child: None,
            prefixes: AtomicUsize::new(0),
            joined: 0,
            voters: Vec::new(),
        }
    }

    /// The number of its node, from 1 on.
    pub fn node(&self) -> i32 {
        self.node
    }

    /// Whether it was started, and neither stopped nor killed since.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// The node that leads, as far as this one knows, and since which epoch.
    pub fn controller(&self) -> anyhow::Result<(i64, i32)> {
        let file = self.folder.join("data/__cluster_metadata-0/quorum-state");
        let read = fs::read(&file).with_context(|| format!("{} can't be read", file.display()))?;
        let state: Value = serde_json::from_slice(&read)?;
        let leader = state["leaderId"].as_i64().and_then(|leader| i32::try_from(leader).ok());
        let leader = leader.filter(|leader| *leader >= settings::FIRST_NODE);
        let epoch = state["leaderEpoch"].as_i64().unwrap_or_default();
        Ok((epoch, leader.with_context(|| format!("nobody leads: {state}"))?))
    }

    /// What clients put into `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What clients of its listener `name` put there.
    pub fn brokers_of(&self, name: &str) -> String {
        format!("127.0.0.1:{}", self.secured.port_of(name))
    }

    /// The port it listens on, also while it is stopped.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the listener whose clients are told `port`, with [`Self::start_behind`].
    pub fn listener(&self, port: u16) -> Option<u16> {
        self.further.iter().find(|listener| listener.told == port).map(|listener| listener.port)
    }

    /// A prefix for topics and groups, `<name>-<n>-`, that no other test has.
    pub fn topic_prefix(&self, name: &str) -> String {
        format!("{name}-{}-", self.prefixes.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a topic and waits until each of its partitions has a leader.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        self.create_topic_with(name, partitions, &[]).await
    }

    /// [`Self::create_topic`] with topic settings, such as `("max.message.bytes", "2000")`.
    pub async fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.create(&[name], (partitions, self.replicas()), settings).await
    }

    /// [`Self::create_topic`] for several at once, which takes no longer than one.
    pub async fn create_topics(&self, names: &[&str], partitions: i32) -> anyhow::Result<()> {
        self.create(names, (partitions, self.replicas()), &[]).await
    }

    /// The same in a cluster, where each partition lies at one broker alone, and has no leader without that one.
    pub async fn create_topics_apart(&self, names: &[&str], partitions: i32) -> anyhow::Result<()> {
        self.create(names, (partitions, 1), &[("min.insync.replicas", "1")]).await
    }

    async fn create(
        &self,
        names: &[&str],
        (partitions, replicas): (i32, i32),
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let places: Vec<Vec<Vec<i32>>> =
            (0..).take(names.len()).map(|first| self.places(first, partitions, replicas)).collect();
        let places: Vec<Vec<&[i32]>> =
            places.iter().map(|all| all.iter().map(Vec::as_slice).collect()).collect();
        let mut topics = Vec::new();
        for (name, places) in names.iter().zip(&places) {
            let mut topic = NewTopic::new(name, partitions, TopicReplication::Variable(places));
            topic.config = settings.to_vec();
            topics.push(topic);
        }
        let options = AdminOptions::new().operation_timeout(Some(TOPIC_DEADLINE));
        for result in admin.create_topics(&topics, &options).await? {
            result.map_err(|(topic, code)| anyhow!("could not create topic {topic}: {code}"))?;
        }
        let client = self.client();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let wait = move || {
            let asker: BaseConsumer = client.create()?;
            names.iter().try_for_each(|name| wait_for_leaders(&asker, name, partitions))
        };
        tokio::task::spawn_blocking(wait).await?
    }

    /// Of each partition: in a cluster, all of its nodes have one.
    fn replicas(&self) -> i32 {
        i32::try_from(self.voters.len()).unwrap_or(1).max(1)
    }

    /// Where each partition of a topic lies, one after the other, from the broker `first` on.
    fn places(&self, first: i32, partitions: i32, replicas: i32) -> Vec<Vec<i32>> {
        let brokers = self.replicas().max(self.joined + 1);
        let node = |number: i32| settings::FIRST_NODE + number % brokers;
        let replicas_from =
            |number: i32| -> Vec<i32> { (number..number + replicas).map(node).collect() };
        (first..first + partitions).map(replicas_from).collect()
    }

    /// Shuts down in good order; connections are refused from then on.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        match self.child.take() {
            Some(mut child) => child.terminate(STOP_DEADLINE).map(drop),
            None => Ok(()),
        }
    }

    /// How many lines with `words` in them it has written since its last start: what goes wrong, which messages it does not
    /// take and why, and who may not do what.
    pub fn said(&self, words: &str) -> usize {
        self.child.as_ref().map_or(0, |child| child.said(words))
    }

    /// Allows all of `acls`, at a broker that [asks](Self::start_guarded).
    pub fn grant(&self, acls: &[Acl]) -> anyhow::Result<()> {
        acls::grant(self.port, acls)
    }

    /// Allows none of `acls` any more, all of which were granted.
    pub fn revoke(&self, acls: &[Acl]) -> anyhow::Result<()> {
        acls::revoke(self.port, acls)
    }

    /// Kills the broker as a crash does.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill9();
        }
    }

    /// Freezes the broker: connections stay open, answers stop.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.running()?.pause()
    }

    /// Lets a frozen broker go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.running()?.resume()
    }

    /// Starts a stopped or killed broker on the same port with the same data.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        self.child = Some(self.launch()?);
        self.wait_until_it_runs()
    }

    fn launch(&self) -> anyhow::Result<Child> {
        // What one that is killed leaves there goes with the folder.
        let leftovers = format!("-Djava.io.tmpdir={}", self.folder.display());
        let launch = self.parts.java("kafka.Kafka", &[leftovers]);
        launch.arg(self.properties()).folder(&self.folder).spawn()
    }

    /// Waits until the child answers; one that does not is ended.
    fn wait_until_it_runs(&mut self) -> anyhow::Result<()> {
        let (client, mut child) = (self.client(), self.child.take().context("it is stopped")?);
        wait_until_ready(&client, &mut child).with_context(|| {
            format!("Kafka did not start on port {}\n{}", self.port, child.log_tail())
        })?;
        self.child = Some(child);
        Ok(())
    }

    fn running(&self) -> anyhow::Result<&Child> {
        self.child.as_ref().context("the broker is stopped; start it again first")
    }

    fn client(&self) -> ClientConfig {
        client(self.port)
    }

    fn write_settings(&self) -> anyhow::Result<()> {
        let data = self.folder.join("data");
        let base = settings::properties(self.node, &data, self.port, self.controller_port);
        // Of two lines with one name, Java takes the later one.
        let further = settings::listeners(self.port, self.controller_port, &self.further);
        let cluster = settings::cluster(&self.voters);
        let secured = self.secured.properties(&self.folder, self.port, self.controller_port);
        let more = self.settings.iter().map(|line| format!("{line}\n"));
        let lines: String =
            [base, further, cluster].into_iter().chain(secured).chain(more).collect();
        fs::write(self.properties(), lines)?;
        Ok(())
    }

    /// The file with its settings.
    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        self.kill9();
        scratch::discard(mem::take(&mut self.folder));
    }
}

fn is_port_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("in use")
}

fn client(port: u16) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", format!("127.0.0.1:{port}"))
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100");
    config
}

/// Waits until the broker names itself in its metadata, or says why it never will.
fn wait_until_ready(client: &ClientConfig, child: &mut Child) -> anyhow::Result<()> {
    let asker: BaseConsumer = client.create()?;
    eventually_blocking("metadata from Kafka", START_DEADLINE, || {
        if let Some(status) = child.exited() {
            return Ok(Err(anyhow!("it ended at once ({status})")));
        }
        match asker.fetch_metadata(None, ASK_TIMEOUT) {
            Ok(metadata) if metadata.brokers().is_empty() => Err("no broker is alive".to_owned()),
            Ok(_) => Ok(Ok(())),
            Err(error) => Err(error.to_string()),
        }
    })?
}

fn wait_for_leaders(asker: &BaseConsumer, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let expected = usize::try_from(partitions)?;
    ensure!(expected > 0, "topic {topic} needs at least one partition");
    eventually_blocking(&format!("leaders for topic {topic}"), TOPIC_DEADLINE, || {
        let metadata = asker.fetch_metadata(Some(topic), ASK_TIMEOUT).map_err(|e| e.to_string())?;
        let led = metadata.topics().iter().flat_map(|found| found.partitions());
        let led = led.filter(|partition| partition.leader() >= 0).count();
        if led == expected { Ok(()) } else { Err(format!("{led} of {expected} have one")) }
    })
}
