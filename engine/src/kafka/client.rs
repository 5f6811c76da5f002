//! What producer, consumer and admin client share: their configuration, and what is known of the broker.

use common::config::KafkaSettings;
use common::telemetry::{BrokerReport, BrokerState};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::types::RDKafkaErrorCode;
use thiserror::Error;

/// Why something could not be asked of the broker.
#[derive(Debug, Error)]
#[error("{what}: {source}; check kafka.brokers and kafka.properties, and that the broker runs")]
pub struct KafkaError {
    /// What was being done.
    pub what: String,
    /// What librdkafka says.
    pub source: rdkafka::error::KafkaError,
}

impl KafkaError {
    pub(super) fn during(what: &str) -> impl FnOnce(rdkafka::error::KafkaError) -> Self {
        let what = what.to_owned();
        move |source| Self { what, source }
    }
}

/// What all clients are told, before their own settings and before the user's.
pub(super) fn base(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("client.id", client_id)
        // A topic that a client makes in passing has neither the partitions nor the replicas that were configured; who
        // only looks at one would make it, too.
        .set("allow.auto.create.topics", "false")
        // A broker that comes back is to be noticed soon, also after a long outage.
        .set("reconnect.backoff.max.ms", "2000")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("log_level", "4");
    config
}

/// The user's own librdkafka properties come last, so that they win.
pub(super) fn with_properties(mut config: ClientConfig, settings: &KafkaSettings) -> ClientConfig {
    for (name, value) in &settings.properties {
        config.set(name.replace('_', "."), value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Hears of trouble with the broker from librdkafka's own threads.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) broker: BrokerState,
}

impl ClientContext for Context {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        note(&self.broker, &error, reason);
    }
}

/// Reconnects while a broker is away repeat the same words; the states tell people, the log tells them once more.
pub(super) fn log(facility: &str, message: &str) {
    tracing::debug!(facility, message, "librdkafka");
}

/// What an error says of the broker.
pub(super) fn note(broker: &BrokerState, error: &rdkafka::error::KafkaError, reason: &str) {
    let code = error.rdkafka_error_code();
    if code.is_some_and(|code| is_refusal(code, reason)) {
        broker.refuses(reason);
    }
    if code == Some(RDKafkaErrorCode::AllBrokersDown) {
        let was_down = matches!(broker.describe(), BrokerReport::Down { .. });
        broker.down(reason);
        if !was_down && let BrokerReport::Down { reason } = broker.describe() {
            tracing::warn!(reason, "the broker can't be reached; waiting for it");
        }
    } else {
        tracing::debug!(%error, reason, "the broker's client reports");
    }
}

/// Whether an error says why a broker lets nobody in, which that none can be reached does not.
fn is_refusal(code: RDKafkaErrorCode, reason: &str) -> bool {
    match code {
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SSL
        | RDKafkaErrorCode::SaslAuthenticationFailed => true,
        // That a certificate of the client's own is wanted is said on a connection that is made already.
        RDKafkaErrorCode::BrokerTransportFailure => reason.contains("SSL alert"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::KafkaError::Global;

    use super::*;

    #[test]
    fn how_a_broker_refuses_is_why_it_is_down() {
        let broker = BrokerState::default();
        let told_after = |code, words: &str| {
            note(&broker, &Global(code), words);
            note(&broker, &Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
            broker.describe()
        };
        let down = |reason: &str| BrokerReport::Down { reason: reason.to_owned() };
        let away = told_after(RDKafkaErrorCode::BrokerTransportFailure, "Connection refused");
        assert_eq!(away, down("1/1 brokers are down"));
        for (code, words) in [
            (RDKafkaErrorCode::SSL, "SSL handshake failed: certificate verify failed"),
            (RDKafkaErrorCode::Authentication, "SASL authentication error"),
            (RDKafkaErrorCode::BrokerTransportFailure, "Receive failed: SSL alert number 42"),
        ] {
            assert_eq!(told_after(code, words), down(words));
        }
    }
}
