//! Which broker the parts are started with.

use clap::ValueEnum;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::bench) enum BrokerKind {
    /// In memory, inside this process: it takes the least of the processors
    Embedded,
    /// Apache Kafka, of one node; needs a JDK 17, and Maven to fetch it once
    Kafka,
}
