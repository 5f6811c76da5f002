//! Settings: defaults, then a TOML file, then the environment (`STOCKLOOP__SECTION__NAME`).

mod alerts;
mod http;
mod kafka;
mod load;
mod loops;
mod secrets;
mod signing;
mod telemetry;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::alerts::{AlertSettings, MailSettings, MailTls, MailTransport, WebhookSettings};
pub use self::http::{AccessSettings, HttpSettings, PeerSettings};
pub use self::kafka::{ConsumerSettings, KafkaSettings, ViewSettings};
pub use self::loops::{
    InboxSettings, OutboxSettings, RelayKind, RetentionSettings, VerifySettings,
};
pub use self::signing::{SignatureRequirement, SigningSettings};
pub use self::telemetry::{LogFormat, LogSettings, TraceSettings};
use crate::db::DatabaseSettings;

/// Everything that a service can be told; both services know the same names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Who this is.
    pub service: ServiceSettings,
    /// Where it listens.
    pub http: HttpSettings,
    /// Its own database.
    pub database: DatabaseSettings,
    /// Who may look and act as an operator.
    pub access: AccessSettings,
    /// The other service, where it is asked directly.
    pub peer: PeerSettings,
    /// The broker.
    pub kafka: KafkaSettings,
    /// Further services that read this one's events, by their names.
    #[serde(default)]
    pub consumers: BTreeMap<String, ConsumerSettings>,
    /// Copies of views that other programs keep.
    #[serde(default)]
    pub views: ViewSettings,
    /// What messages are signed with.
    #[serde(default)]
    pub signing: SigningSettings,
    /// Events that go out.
    pub outbox: OutboxSettings,
    /// Events that come in.
    pub inbox: InboxSettings,
    /// When copies are compared with what this service owns.
    pub verify: VerifySettings,
    /// What is kept once nobody waits for it any more.
    pub retention: RetentionSettings,
    /// What people are told, and when.
    pub alerts: AlertSettings,
    /// How mail leaves.
    pub mail: MailSettings,
    /// Who is called beside it.
    pub webhook: WebhookSettings,
    /// What is logged.
    pub log: LogSettings,
    /// What is told to a collector of traces.
    pub trace: TraceSettings,
}

/// Who a service is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Its name: the source of its events and the consumer in its acks.
    pub name: String,
}
