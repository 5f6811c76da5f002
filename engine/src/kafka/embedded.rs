//! A broker inside the process, for trying out: librdkafka's mock cluster.
//!
//! It is in memory, keeps 5 MiB per partition and forgets everything at the end; never for durability.

use std::collections::BTreeMap;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::client::KafkaError;

/// The broker; it ends when this is dropped.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    /// Starts one on a free loopback port.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start() -> Result<Self, KafkaError> {
        let cluster =
            MockCluster::new(1).map_err(KafkaError::during("the embedded broker can't start"))?;
        Ok(Self { cluster })
    }

    /// What its consumers are told (`kafka.properties`): where there is nothing for one, it answers only when this time is
    /// over, also if a message comes meanwhile.
    pub fn properties() -> BTreeMap<String, String> {
        [("fetch.wait.max.ms".to_owned(), "20".to_owned())].into()
    }

    /// Where it listens.
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), KafkaError> {
        self.cluster
            .create_topic(name, partitions, 1)
            .map_err(KafkaError::during("a topic of the embedded broker can't be made"))
    }

    /// Leaves a partition without a leader, or gives it one again.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn lead(&self, topic: &str, partition: i32, has_leader: bool) -> Result<(), KafkaError> {
        self.cluster
            .partition_leader(topic, partition, has_leader.then_some(1))
            .map_err(KafkaError::during("a partition's leader can't be changed"))
    }

    /// Has it not answer where partitions begin, the next so many times, as one does that is no longer the coordinator.
    #[cfg(test)]
    pub fn refuse_to_say_where_to_begin(&self, times: usize) {
        use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
        let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
        self.cluster.request_errors(RDKafkaApiKey::OffsetFetch, &vec![refused; times]);
    }

    /// Has it refuse to commit offsets, the next so many times, as one does while a group's members change.
    #[cfg(test)]
    pub fn refuse_commits(&self, times: usize) {
        use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
        let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
        self.cluster.request_errors(RDKafkaApiKey::OffsetCommit, &vec![refused; times]);
    }

    /// Cuts the broker off, as an outage would.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn stop(&self) -> Result<(), KafkaError> {
        self.cluster
            .broker_down(1)
            .map_err(KafkaError::during("the embedded broker can't be stopped"))
    }

    /// Brings the broker back.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn resume(&self) -> Result<(), KafkaError> {
        self.cluster
            .broker_up(1)
            .map_err(KafkaError::during("the embedded broker can't be resumed"))
    }
}
