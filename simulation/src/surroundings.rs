//! What all parts of a run share: time and chance, the broker, and where alerts go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::clock::{Clock, Timestamp};
use common::config::{MailTransport, Settings};
use common::env::Env;
use engine::alerts::Alerts;
use engine::outbox::LeaseSet;
use tokio::time::Instant;

use crate::broker::{Broker, SharedBroker};
use crate::flaw::Flaw;
use crate::lock;
use crate::violation::{ITSELF, Violation};
use crate::way::Way;

/// The service that sends.
pub(crate) const SENDER: &str = "product-service";

const SETTINGS: &str = include_str!("../../product-service/product-service.toml");

/// The consumers, the one of the sender's settings first.
pub(crate) const CONSUMERS: [&str; 2] = [FIRST_CONSUMER, "search-service"];
pub(crate) const FIRST_CONSUMER: &str = "order-service";

/// How long an answer may take.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// What all parts of a run share. Parts are the instances of the sender, then the consumers.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) flaw: Option<Flaw>,
    pub(crate) clock: RunClock,
    pub(crate) broker: SharedBroker,
    pub(crate) alerts: Alerts,
    /// What the instances were told that they hold, by their places.
    pub(crate) leases: Arc<Mutex<BTreeMap<usize, LeaseSet>>>,
    seed: u64,
}

impl Surroundings {
    pub(crate) fn new(seed: u64, flaw: Option<Flaw>, clock: &RunClock) -> Result<Self, Violation> {
        let (clock, broker, leases) = (clock.clone(), Broker::new(flaw), Arc::default());
        let alerts = alerts().map_err(|error| Violation::of(ITSELF, format!("{error:#}")))?;
        Ok(Self { flaw, clock, broker, alerts, leases, seed })
    }

    /// Time, ids and chance of the `birth`th process of a part; no two parts' clocks show the same.
    pub(crate) fn env(&self, part: usize, birth: u64) -> Env {
        let micros = part as u64 * (700_000 * (self.seed % 4) + 1);
        let clock = RunClock { ahead: Duration::from_micros(micros), ..self.clock.clone() };
        Env::seeded(Arc::new(clock), self.number(part, birth))
    }

    /// The way of that process to its database.
    pub(crate) fn way(&self, part: usize, birth: u64) -> Arc<Way> {
        Way::new(self.number(part, birth))
    }

    fn number(&self, part: usize, birth: u64) -> u64 {
        self.seed.wrapping_mul(1_000).wrapping_add(birth * 10 + part as u64)
    }
}

/// Alerts by the service's own settings, but that there is a recipient, and mails leave into memory.
fn alerts() -> anyhow::Result<Alerts> {
    let Settings { mut alerts, mut mail, webhook, .. } = Settings::load(SETTINGS, None)?;
    alerts.recipients = vec!["operator@simulation.test".to_owned()];
    mail.transport = MailTransport::Memory;
    Alerts::new(SENDER, "http://simulation.test", &alerts, &mail, &webhook)
}

/// When each run begins.
const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A clock of a run, by tokio's time, which stands still as long as anything is left to do. Clones go together; one may
/// be ahead of another.
#[derive(Clone)]
pub(crate) struct RunClock {
    begun: Arc<Mutex<Instant>>,
    ahead: Duration,
}

impl RunClock {
    pub(crate) fn new() -> Self {
        Self { begun: Arc::new(Mutex::new(Instant::now())), ahead: Duration::ZERO }
    }

    /// A run begins now.
    pub(crate) fn begin(&self) {
        *lock(&self.begun) = Instant::now();
    }
}

impl Clock for RunClock {
    fn now(&self) -> Timestamp {
        let passed = lock(&self.begun).elapsed();
        START.after(passed + self.ahead)
    }
}
