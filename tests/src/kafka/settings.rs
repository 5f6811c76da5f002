//! The configuration files Kafka is run with.

use std::path::Path;

use super::User;
use crate::ports::free_port;

/// Warnings and errors to standard output, which goes to the child's log; the demo's, too.
pub(crate) const LOGGING: &str = include_str!("../../../standalone/kafka-log4j2.properties");

/// The same of a broker, which also says what it refuses: messages, and whoever may not do what they ask for.
pub(super) const BROKER_LOGGING: &str = concat!(
    include_str!("../../../standalone/kafka-log4j2.properties"),
    "logger.messages.name=kafka.server.KafkaApis
logger.messages.level=debug
logger.rights.name=kafka.authorizer.logger
logger.rights.level=info
"
);

/// The first node, controller and broker in one.
pub(super) const FIRST_NODE: i32 = 1;

/// A node that is quick to start and small at rest: the first, or one that joins it as a broker only.
pub(super) fn properties(node: i32, data: &Path, port: u16, controller_port: u16) -> String {
    let data = data.display();
    let (roles, listener) = match node {
        FIRST_NODE => ("broker,controller", format!(",CONTROLLER://127.0.0.1:{controller_port}")),
        _ => ("broker", String::new()),
    };
    // The short broker session lets a killed broker register again without waiting for the old one.
    format!(
        "process.roles={roles}
node.id={node}
controller.quorum.voters={FIRST_NODE}@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port}{listener}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=100
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=250
log.cleaner.dedupe.buffer.size=4194304
"
    )
}

/// A further way in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listener {
    pub(super) port: u16,
    /// Where its clients are told that the broker is.
    pub(super) told: u16,
    /// Whom it lets in; everybody, if it is nobody's.
    pub(super) user: Option<User>,
}

impl Listener {
    /// On a free port.
    pub(super) fn new(told: u16, user: Option<User>) -> anyhow::Result<Self> {
        Ok(Self { port: free_port()?, told, user })
    }

    const fn protocol(&self) -> &'static str {
        match self.user {
            Some(_) => "SASL_PLAINTEXT",
            None => "PLAINTEXT",
        }
    }
}

/// What a node is told of its further listeners, behind [`properties`]; nothing where there are none.
pub(super) fn listeners(port: u16, controller_port: u16, further: &[Listener]) -> String {
    if further.is_empty() {
        return String::new();
    }
    let each = |write: fn(usize, &Listener) -> String| -> String {
        further.iter().enumerate().map(|(number, listener)| write(number, listener)).collect()
    };
    let open = each(|n, listener| format!(",FURTHER{n}://127.0.0.1:{}", listener.port));
    let told = each(|n, listener| format!(",FURTHER{n}://127.0.0.1:{}", listener.told));
    let spoken = each(|n, listener| format!(",FURTHER{n}:{}", listener.protocol()));
    let users = each(|n, listener| listener.user.map(|user| known(n, user)).unwrap_or_default());
    ways_in(port, controller_port, [&open, &told, &spoken]) + &users
}

/// What a listener is told of the one user whom it lets in.
fn known(n: usize, User { name, password }: User) -> String {
    format!(
        "listener.name.further{n}.sasl.enabled.mechanisms=PLAIN
listener.name.further{n}.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{name}=\"{password}\";
"
    )
}

/// Has a broker ask what a user may do. Who comes in without a name may do everything: itself, and whoever it is tried by.
pub(super) const GUARDED: [&str; 2] = [
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:ANONYMOUS",
];

/// The lines of a node with further ways in: where it listens besides, where clients are told that this is, and what is
/// spoken there, each behind a comma.
pub(super) fn ways_in(
    port: u16,
    controller_port: u16,
    [open, told, protocols]: [&str; 3],
) -> String {
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{open}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{told}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
"
    )
}

/// What a node is told that is broker and controller like all others of its cluster, behind [`listeners`], of which it needs
/// one at the least; nothing for another one.
pub(super) fn cluster(voters: &[(i32, u16)]) -> String {
    if voters.is_empty() {
        return String::new();
    }
    let each: Vec<String> =
        voters.iter().map(|(node, port)| format!("{node}@127.0.0.1:{port}")).collect();
    let (nodes, in_sync) = (voters.len(), (voters.len() - 1).max(1));
    format!(
        "process.roles=broker,controller
controller.quorum.voters={}
default.replication.factor={nodes}
offsets.topic.replication.factor={nodes}
min.insync.replicas={in_sync}
",
        each.join(",")
    )
}
