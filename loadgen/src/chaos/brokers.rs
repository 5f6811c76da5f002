//! The brokers, one or a cluster, with what happens to them and to their topics.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, TopicResult};
use rdkafka::client::DefaultClientContext;
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::ports::free_port;
use tokio::runtime::Runtime;

use super::fault::{BrokerFault, TopicFault, Which};
use super::messages::{PARTITIONS, TOPICS};
use crate::check::Side;

/// How long a change of a topic may take.
const TOPIC_DEADLINE: Duration = Duration::from_secs(60);

/// How long the brokers may take to agree on one that leads.
const LEADER_DEADLINE: Duration = Duration::from_secs(30);

/// All brokers, with the topics of both services.
pub(super) struct Brokers {
    nodes: Vec<KafkaBroker>,
    /// For each, the ports at which product-service and order-service are told that it is.
    told: Vec<Vec<u16>>,
}

impl Brokers {
    /// So many new ones; with several, each has a replica of everything.
    pub(super) fn start(runtime: &Runtime, count: usize) -> Result<Self> {
        let ports = || -> Result<Vec<u16>> { Ok(vec![free_port()?, free_port()?]) };
        let told: Vec<Vec<u16>> = (0..count).map(|_| ports()).collect::<Result<_>>()?;
        let nodes = match told.as_slice() {
            [alone] => vec![KafkaBroker::start_behind(alone)?],
            all => KafkaBroker::start_cluster(all)?,
        };
        let first = nodes.first().context("there is no broker")?;
        let topics = TOPICS.map(|(topic, _)| topic);
        runtime.block_on(first.create_topics(&topics, PARTITIONS))?;
        Ok(Self { nodes, told })
    }

    /// The ports at which a service is told that they are, each with the one that it is to be passed on to.
    pub(super) fn ways(&self, side: Side) -> Result<Vec<(u16, u16)>> {
        let way = |(node, told): (&KafkaBroker, &Vec<u16>)| -> Result<(u16, u16)> {
            let told = match side {
                Side::Product => told.first(),
                Side::Order => told.last(),
            };
            let told = *told.context("a broker has no way in")?;
            Ok((told, node.listener(told).context("a broker has no listener")?))
        };
        self.nodes.iter().zip(&self.told).map(way).collect()
    }

    /// What clients put into `bootstrap.servers` who come in directly.
    pub(super) fn servers(&self) -> String {
        self.nodes.iter().map(KafkaBroker::brokers).collect::<Vec<_>>().join(",")
    }

    /// Lets it happen; returns how many brokers that ran it met.
    pub(super) fn suffer(&mut self, which: Which, fault: BrokerFault) -> Result<u64> {
        if matches!((which, fault), (Which::Controller, BrokerFault::Start | BrokerFault::Thaw)) {
            return self.heal().map(|()| 0);
        }
        let node = self.node(which)?;
        let met = u64::from(node.is_started());
        match fault {
            BrokerFault::Stop => node.stop()?,
            BrokerFault::Kill => node.kill9(),
            BrokerFault::Start => node.start_again()?,
            BrokerFault::Freeze => node.pause()?,
            BrokerFault::Thaw => node.resume()?,
        }
        Ok(met)
    }

    /// Lets all run.
    pub(super) fn heal(&mut self) -> Result<()> {
        // One that is frozen may be what another one waits for.
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            node.resume()?;
        }
        self.nodes.iter_mut().try_for_each(KafkaBroker::start_again)
    }

    fn node(&mut self, which: Which) -> Result<&mut KafkaBroker> {
        let index = match which {
            Which::Number(number) => number.saturating_sub(1),
            Which::Controller => self.leader()?,
        };
        self.nodes.get_mut(index).with_context(|| format!("there is no {which}"))
    }

    /// The one that leads, and runs; of what they know of that, the newest counts.
    fn leader(&self) -> Result<usize> {
        eventually_blocking("a broker that leads", LEADER_DEADLINE, || {
            let running = self.nodes.iter().filter(|node| node.is_started());
            let newest = running.filter_map(|node| node.controller().ok()).max();
            let leads = |node: &KafkaBroker| newest.is_some_and(|(_, id)| node.node() == id);
            let is_it = |node: &KafkaBroker| node.is_started() && leads(node);
            self.nodes.iter().position(is_it).ok_or(newest)
        })
    }

    /// Changes the topics.
    pub(super) fn change(&self, runtime: &Runtime, fault: TopicFault) -> Result<()> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.servers());
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let options = AdminOptions::new().operation_timeout(Some(TOPIC_DEADLINE));
        match fault {
            TopicFault::Grow => {
                let partitions = usize::try_from(2 * PARTITIONS)?;
                let more = TOPICS.map(|(topic, _)| NewPartitions::new(topic, partitions));
                all_done(runtime.block_on(admin.create_partitions(&more, &options))?)
            }
            TopicFault::MakeAnew(number) => {
                let topic = TOPICS.get(number).map(|(topic, _)| *topic);
                let topic = topic.context("there is no such topic")?;
                all_done(runtime.block_on(admin.delete_topics(&[topic], &options))?)?;
                self.make(runtime, topic)
            }
        }
    }

    /// Makes a topic, as soon as there is no other one of its name.
    fn make(&self, runtime: &Runtime, topic: &str) -> Result<()> {
        let first = self.nodes.first().context("there is no broker")?;
        eventually_blocking("a new topic", TOPIC_DEADLINE, || {
            let made = runtime.block_on(first.create_topic(topic, PARTITIONS));
            made.map_err(|error| format!("{error:#}"))
        })
    }
}

fn all_done(topics: Vec<TopicResult>) -> Result<()> {
    topics.into_iter().try_for_each(|topic| {
        topic.map(drop).map_err(|(topic, code)| anyhow!("{topic} could not be changed: {code}"))
    })
}
