//! A plain reader of a topic: it says when each event arrived, and keeps nothing.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::clock::Timestamp;
use common::config::KafkaSettings;
use common::env::Env;
use common::ids::EventId;
use common::telemetry::BrokerState;
use engine::kafka::{BatchLimits, Consumer, Envelope};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::bench::background::Background;

/// Its group, so that it takes nothing from anybody.
const GROUP: &str = "benchmark";

/// How long a message is waited for; the first one until the reader has joined its group.
const PATIENCE: Duration = Duration::from_secs(60);

/// An event that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bench) struct Arrival {
    pub(in crate::bench) id: EventId,
    key: String,
    version: i64,
    /// When its service made it: in the change's transaction, just before the commit.
    made: Timestamp,
    at: Timestamp,
}

impl Arrival {
    /// From its making until it was here, in ms.
    pub(in crate::bench) fn took_ms(&self) -> f64 {
        self.at.since(self.made).as_secs_f64() * 1e3
    }
}

/// What a snapshot says of itself.
#[derive(Deserialize)]
struct Versioned {
    version: i64,
}

/// Reads until this value is dropped.
pub(in crate::bench) struct Arrivals {
    _reader: Background,
    heard: Receiver<Arrival>,
}

impl Arrivals {
    /// Reads the events of these settings, from the beginning of their topic.
    pub(in crate::bench) fn start(settings: &KafkaSettings) -> Result<Self> {
        let (tell, heard) = mpsc::channel();
        let topic = &settings.inbound_topic;
        let reader = Background::start(
            || Ok(Consumer::subscribe(settings, GROUP, topic, BrokerState::default())?),
            move |consumer, stopped| read(consumer, tell, stopped),
        )?;
        Ok(Self { _reader: reader, heard })
    }

    /// Waits for the state of `key` that has this version; what came before it is forgotten.
    pub(in crate::bench) fn wait_for(&self, key: &str, version: i64) -> Result<Arrival> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(arrival) if arrival.key == key && arrival.version == version => {
                    return Ok(arrival);
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!(
                    "version {version} of {key} was not on the topic within {PATIENCE:?}: does the relay send?"
                ),
                Err(RecvTimeoutError::Disconnected) => bail!("the reader of the topic has ended"),
            }
        }
    }
}

async fn read(consumer: Consumer, tell: Sender<Arrival>, mut stopped: oneshot::Receiver<()>) {
    let env = Env::system();
    loop {
        let records = tokio::select! {
            _ = &mut stopped => return,
            records = consumer.next_batch(BatchLimits::new(1, Duration::ZERO)) => records,
        };
        let at = env.now();
        // It keeps no copy that could be behind.
        consumer.assigned();
        for record in records {
            let arrival = Envelope::read(&record).context("no event").and_then(|envelope| {
                let event = envelope.event;
                let Versioned { version } = serde_json::from_slice(&event.data)?;
                Ok(Arrival { id: event.id, key: event.key, version, made: event.time, at })
            });
            // What is not understood is nobody's state, and is missed where it is waited for.
            if let Ok(arrival) = arrival
                && tell.send(arrival).is_err()
            {
                return;
            }
        }
    }
}
