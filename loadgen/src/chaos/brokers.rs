//! The brokers, one or a cluster, with what happens to them and to their topics.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::ports::free_port;
use tokio::runtime::Runtime;

use super::fault::{BrokerFault, Keep, TopicFault, Which};
use super::readers::{self, PARTITIONS, TOPICS, client, read_by};
use super::rights::{self, Right};
use super::scenarios::Cluster;
use super::waiting::wait_for;
use crate::check::Side;
use crate::topics::{EVENTS, ORDERS};

/// How long a change of a topic may take.
const TOPIC_DEADLINE: Duration = Duration::from_secs(60);

/// How often one looks what it may delete: five minutes by itself, and half of one after its start.
const SOON: [&str; 2] = ["log.retention.check.interval.ms=300", "log.initial.task.delay.ms=300"];

/// How long messages go into one file, of a topic that is to delete some soon.
const SEGMENT_MS: u64 = 200;

/// How long the brokers may take to agree on one that leads.
const LEADER_DEADLINE: Duration = Duration::from_secs(30);

/// All brokers, with the topics of both services.
pub(super) struct Brokers {
    cluster: Cluster,
    nodes: Vec<KafkaBroker>,
    /// For each, the ports at which product-service and order-service are told that it is.
    told: Vec<[u16; 2]>,
}

impl Brokers {
    /// New ones.
    pub(super) fn start(runtime: &Runtime, cluster: Cluster) -> Result<Self> {
        let ports = || -> Result<[u16; 2]> { Ok([free_port()?, free_port()?]) };
        let told: Vec<[u16; 2]> = (0..cluster.brokers()).map(|_| ports()).collect::<Result<_>>()?;
        let nodes = match (cluster, told.as_slice()) {
            (Cluster::Guarded, [[product, order]]) => vec![guarded([*product, *order])?],
            (Cluster::Alone, [alone]) => vec![KafkaBroker::start_behind_with(&SOON, alone)?],
            (_, all) => {
                let all: Vec<Vec<u16>> = all.iter().map(|ports| ports.to_vec()).collect();
                KafkaBroker::start_cluster(&all)?
            }
        };
        let first = nodes.first().context("there is no broker")?;
        let topics = TOPICS.map(|(topic, _)| topic);
        match cluster {
            Cluster::Apart => runtime.block_on(first.create_topics_apart(&topics, PARTITIONS))?,
            _ => runtime.block_on(first.create_topics(&topics, PARTITIONS))?,
        }
        Ok(Self { cluster, nodes, told })
    }

    /// The ports at which a service is told that they are, each with the one that it is to be passed on to.
    pub(super) fn ways(&self, side: Side) -> Result<Vec<(u16, u16)>> {
        let way = |(node, [product, order]): (&KafkaBroker, &[u16; 2])| -> Result<(u16, u16)> {
            let told = match side {
                Side::Product => *product,
                Side::Order => *order,
            };
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

    /// The partitions of product-service's and of order-service's events that nobody but this broker has, if that is so of
    /// any.
    pub(super) fn only_at(&self, which: Which) -> Result<Option<[Vec<i32>; 2]>> {
        let (Cluster::Apart, Which::Number(number)) = (self.cluster, which) else {
            return Ok(None);
        };
        let node = self.nodes.get(number.saturating_sub(1)).context("there is no such broker")?;
        let of = |topic| readers::led_by(&self.servers(), topic, node.node());
        Ok(Some([of(EVENTS)?, of(ORDERS)?]))
    }

    /// From now on a service may not do this.
    pub(super) fn revoke(&self, side: Side, right: Right) -> Result<()> {
        self.first()?.revoke(&right.acls(side))
    }

    /// From now on it may.
    pub(super) fn grant(&self, side: Side, right: Right) -> Result<()> {
        self.first()?.grant(&right.acls(side))
    }

    /// From now on topics take messages of any time: by themselves, none from more than an hour ahead of the brokers' own.
    pub(super) fn take_any_time(&self, runtime: &Runtime) -> Result<()> {
        let limit = ("message.timestamp.after.max.ms", i64::MAX.to_string());
        self.configure(runtime, &TOPICS.map(|(topic, _)| topic), &[limit])
    }

    /// How often the first of them has said these words since its start.
    pub(super) fn said(&self, words: &str) -> Result<u64> {
        Ok(u64::try_from(self.first()?.said(words))?)
    }

    fn first(&self) -> Result<&KafkaBroker> {
        self.nodes.first().context("there is no broker")
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

    /// Changes the topics; returns how much that met, as far as it is known at once.
    pub(super) fn change(&self, runtime: &Runtime, fault: TopicFault) -> Result<u64> {
        let admin = self.admin()?;
        let options = AdminOptions::new().operation_timeout(Some(TOPIC_DEADLINE));
        match fault {
            TopicFault::Grow => {
                let partitions = usize::try_from(2 * PARTITIONS)?;
                let more = TOPICS.map(|(topic, _)| NewPartitions::new(topic, partitions));
                all_done(runtime.block_on(admin.create_partitions(&more, &options))?).map(|()| 1)
            }
            TopicFault::MakeAnew(number) => {
                let topic = topic(number)?;
                all_done(runtime.block_on(admin.delete_topics(&[topic], &options))?)?;
                self.make(runtime, topic).map(|()| 1)
            }
            TopicFault::Limit { number, bytes } => {
                let limit = ("max.message.bytes", bytes.to_string());
                self.configure(runtime, &[topic(number)?], &[limit]).map(|()| 0)
            }
            TopicFault::Unlimit(number) => {
                self.configure(runtime, &[topic(number)?], &[]).map(|()| 0)
            }
            TopicFault::DeleteUnread(side, keep) => self.delete_unread(runtime, side, keep),
            TopicFault::KeepAll(side) => {
                self.configure(runtime, &read_by(side).map(|(topic, _)| topic), &[]).map(|()| 0)
            }
        }
    }

    /// Has the topics that a service reads keep no more than this until something is gone that it has not read; returns how
    /// much.
    fn delete_unread(&self, runtime: &Runtime, side: Side, keep: Keep) -> Result<u64> {
        let before = readers::missed(&self.servers(), side)?;
        let kept = match keep {
            Keep::Ms(ms) => ("retention.ms", ms.to_string()),
            Keep::Bytes(bytes) => ("retention.bytes", bytes.to_string()),
        };
        // Only whole files go, so there have to be many.
        let files = ("segment.ms", SEGMENT_MS.to_string());
        self.configure(runtime, &read_by(side).map(|(topic, _)| topic), &[kept, files])?;
        self.wait_until_missed(side, before)
    }

    /// Waits until more is gone unread of what a service reads than `before`; returns how much more that is by then.
    fn wait_until_missed(&self, side: Side, before: u64) -> Result<u64> {
        let servers = self.servers();
        let look = || readers::missed(&servers, side);
        let is_more = |missed: &u64| *missed > before;
        let missed = wait_for("messages that are deleted unread", TOPIC_DEADLINE, look, is_more)?;
        Ok(missed - before)
    }

    /// Sets this of topics, and all else as it is by itself.
    fn configure(
        &self,
        runtime: &Runtime,
        topics: &[&str],
        settings: &[(&str, String)],
    ) -> Result<()> {
        let admin = self.admin()?;
        let all: Vec<AlterConfig<'_>> =
            topics.iter().map(|topic| configured(topic, settings)).collect();
        let options = AdminOptions::new().request_timeout(Some(TOPIC_DEADLINE));
        for altered in runtime.block_on(admin.alter_configs(&all, &options))? {
            altered.map_err(|(topic, code)| anyhow!("{topic:?} could not be changed: {code}"))?;
        }
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(client(&self.servers()).create()?)
    }

    /// Makes a topic, as soon as there is no other one of its name.
    fn make(&self, runtime: &Runtime, topic: &str) -> Result<()> {
        let first = self.first()?;
        eventually_blocking("a new topic", TOPIC_DEADLINE, || {
            let made = runtime.block_on(first.create_topic(topic, PARTITIONS));
            made.map_err(|error| format!("{error:#}"))
        })
    }
}

/// One that lets each service in where it is told to come, as whom it is, and lets it do what it has to.
fn guarded(told: [u16; 2]) -> Result<KafkaBroker> {
    let ways: Vec<_> = told.into_iter().zip(Side::BOTH.map(rights::user)).collect();
    let broker = KafkaBroker::start_guarded(&ways)?;
    Side::BOTH.into_iter().try_for_each(|side| broker.grant(&rights::all_of(side)))?;
    Ok(broker)
}

fn topic(number: usize) -> Result<&'static str> {
    TOPICS.get(number).map(|(topic, _)| *topic).context("there is no such topic")
}

fn configured<'a>(topic: &'a str, settings: &'a [(&'a str, String)]) -> AlterConfig<'a> {
    let config = AlterConfig::new(ResourceSpecifier::Topic(topic));
    settings.iter().fold(config, |config, (name, value)| config.set(name, value))
}

fn all_done(topics: Vec<TopicResult>) -> Result<()> {
    topics.into_iter().try_for_each(|topic| {
        topic.map(drop).map_err(|(topic, code)| anyhow!("{topic} could not be changed: {code}"))
    })
}
