//! Settings: defaults, then a TOML file, then the environment (`STOCKLOOP__SECTION__NAME`).

mod load;
mod signing;

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::signing::{SignatureRequirement, SigningSettings};
use crate::db::{DatabaseSettings, Url};

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

/// Where a service listens and whom it lets in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port; port 0 takes a free one. Anything but loopback needs `admin_token`, or an operator.
    pub bind: String,
    /// The base of links to this service, in mails for example; empty: `http://` and the bound address.
    pub public_url: String,
    /// A bearer token that may all of `/api/admin`; empty: there is none, and operators sign in.
    #[serde(serialize_with = "redacted")]
    pub admin_token: SecretString,
    /// The bearer token of `/api/v1`; empty: none is asked for.
    #[serde(serialize_with = "redacted")]
    pub api_token: SecretString,
    /// Request bodies at the most, in bytes.
    pub max_body_bytes: usize,
    /// Connections of clients at the most; one takes two files, so a process that may open few has fewer.
    pub max_connections: usize,
    /// How long a client may keep a connection waiting: for a request, for its body, or for taking an answer.
    #[serde(with = "crate::duration")]
    pub client_timeout: Duration,
    /// How long a connection may be idle between two requests.
    #[serde(with = "crate::duration")]
    pub keep_alive: Duration,
    /// How long requests and messages in flight may take to finish when the service stops.
    #[serde(with = "crate::duration")]
    pub shutdown_timeout: Duration,
}

/// Who may look and act as an operator, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// Everybody on this machine is an admin without signing in: for trying out, on loopback only.
    pub open: bool,
    /// After how long without a request a browser has to sign in again.
    #[serde(with = "crate::duration")]
    pub session_idle: Duration,
    /// After how long it has to in any case.
    #[serde(with = "crate::duration")]
    pub session_lifetime: Duration,
    /// How often a sign-in may fail for a name (four times that for an address) before nobody is let try.
    pub login_failures: i32,
    /// For how long: from the first failure on.
    #[serde(with = "crate::duration")]
    pub login_window: Duration,
    /// How long the audit log is kept.
    #[serde(with = "crate::duration")]
    pub audit_retention: Duration,
}

/// How the other service is asked over HTTP: both ask what it knows of an event when an operator looks at that;
/// order-service also asks product-service for details of a product, which alone uses cache and breaker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// Where it listens: `https://` (or `http://` within one's own network) with host and port.
    pub url: String,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// Its `http.api_token`, if it has one.
    #[serde(serialize_with = "redacted")]
    pub api_token: SecretString,
    /// How long an answer may take, the connection included; nobody waits longer.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// How long an answer is given again without asking.
    #[serde(with = "crate::duration")]
    pub cache_ttl: Duration,
    /// Answers that are kept at the most, in bytes.
    pub cache_bytes: u64,
    /// Calls that are looked at: if half of the last ones failed, no more are made for a while (2 at the least).
    pub breaker_calls: usize,
    /// How long that while is.
    #[serde(with = "crate::duration")]
    pub breaker_pause: Duration,
}

/// The broker and the topics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// The topic that this service's events go to.
    pub outbound_topic: String,
    /// The topic that the answers to them come from.
    pub outbound_ack_topic: String,
    /// The service whose answers count.
    pub outbound_consumer: String,
    /// The topic that the other service's events come from.
    pub inbound_topic: String,
    /// The topic that the answers to them go to.
    pub inbound_ack_topic: String,
    /// Partitions of topics that are made at start.
    pub partitions: i32,
    /// Replicas of topics that are made at start; -1 takes the broker's default.
    pub replication: i32,
    /// Replicas that must have a message before it counts as sent (`min.insync.replicas` of topics); -1 takes the
    /// broker's default.
    pub min_insync_replicas: i32,
    /// How long topics that are made at start keep messages (`retention.ms`), and all topics have to at the least: no reader
    /// may be away for longer.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
    /// Whether missing topics are made at start.
    pub create_topics: bool,
    /// Further librdkafka properties, such as `security.protocol` or `sasl.password`; printed hidden. An
    /// underscore stands for a dot, for the environment's sake.
    #[serde(serialize_with = "redacted_values")]
    pub properties: BTreeMap<String, String>,
}

/// A service that reads this one's events, beside the one that `kafka.outbound_consumer` names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSettings {
    /// Whether events wait for its answers; else it is watched, and never waited for.
    pub required: bool,
    /// Where it is asked what it has: `https://` or `http://` with host and port; empty: its copy is not verified.
    #[serde(default)]
    pub url: String,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// Its `http.api_token`, if it has one.
    #[serde(default, serialize_with = "redacted")]
    pub api_token: SecretString,
}

/// Copies of views that other programs keep on topics; none by default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSettings {
    /// The topic of each customer's last purchases, of which order-service keeps a copy; empty: it keeps none.
    pub purchases_topic: String,
    /// Where messages of that view are answered whose headers name an event; empty: nobody is answered.
    #[serde(default)]
    pub purchases_ack_topic: String,
}

/// How events are sent and how long they are tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxSettings {
    /// Attempts before an event waits for a person.
    pub max_attempts: i32,
    /// Who sends events for the first time, and where it finds them.
    pub relay: RelayKind,
    /// Where the log is read, with `relay = "log"`: past a pooler. Empty: `database.url`.
    pub log_url: Url,
    /// Bytes of the log that its slot may be behind when it is taken up; with more, it is made anew, and the table is read.
    pub log_kept_bytes: u64,
    /// With `relay = "external"`, how long an event waits for that before this service sends it itself; 0: it never does.
    #[serde(with = "crate::duration")]
    pub external_takeover: Duration,
    /// Events that one relay step reads and sends at the most; four times as many of those that the log brings.
    pub batch: usize,
    /// Events sent and unanswered per partition at the most.
    pub in_flight_events: usize,
    /// Bytes sent and unanswered per partition at the most (the embedded broker keeps 5 MiB).
    pub in_flight_bytes: usize,
    /// How long an answer may take before the event can be overdue.
    #[serde(with = "crate::duration")]
    pub ack_timeout: Duration,
    /// How much later than an event something must have been sent whose answer proves that it was passed by.
    #[serde(with = "crate::duration")]
    pub ack_grace: Duration,
    /// The first pause before another attempt; it doubles each time.
    #[serde(with = "crate::duration")]
    pub backoff_base: Duration,
    /// The longest pause between attempts.
    #[serde(with = "crate::duration")]
    pub backoff_max: Duration,
    /// The first pause before the oldest event of a partition without answers is sent again; it doubles too.
    #[serde(with = "crate::duration")]
    pub probe_after: Duration,
    /// How long a relay's hold on its shards lasts without a heartbeat.
    #[serde(with = "crate::duration")]
    pub lease: Duration,
    /// When PENDING rows are looked for, as cron with seconds; commits wake the relay without it.
    pub sweep_cron: String,
    /// Whether a commit wakes the relays of other instances at once (PostgreSQL); else they wait for `sweep_cron`.
    pub notify: bool,
    /// When overdue events and silent partitions are looked for, as cron with seconds.
    pub watch_cron: String,
    /// How long PROCESSED events are kept.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
}

/// Who sends events for the first time, and where it finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayKind {
    /// The service itself, which asks the table for a page after the other.
    Table,
    /// The service itself. What commits is streamed to it from PostgreSQL's log; the table has the rest.
    Log,
    /// Another program, such as Debezium, which reads PostgreSQL's log. All further attempts are the service's.
    External,
}

impl RelayKind {
    /// Whether another program than the service sends events for the first time.
    pub const fn is_external(self) -> bool {
        matches!(self, Self::External)
    }
}

/// How events are applied.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxSettings {
    /// Messages that one transaction applies at the most.
    pub batch: usize,
    /// How long a batch that is not full waits for more; a message that comes alone does not wait.
    #[serde(with = "crate::duration")]
    pub linger: Duration,
    /// How long the answers given are kept, so that a duplicate gets the same one.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
}

/// When and how copies are compared with what a service owns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifySettings {
    /// When it is done by itself, as cron with seconds; empty: only when somebody asks.
    pub cron: String,
    /// The part of the time that it may work then, from 0.001 to 1.
    pub share: f64,
    /// How long an answer of a consumer may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// How long keys that move, and a consumer that does not answer, are looked at again.
    #[serde(with = "crate::duration")]
    pub patience: Duration,
    /// How long results are kept.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
    /// How long is kept which keys differed.
    #[serde(with = "crate::duration")]
    pub keys_retention: Duration,
}

impl VerifySettings {
    /// The part of the time that it may work, in thousandths.
    pub fn thousandths(&self) -> i32 {
        // Between 1 and 1,000 once the settings are checked.
        (self.share.clamp(0.001, 1.0) * 1_000.0).round() as i32
    }
}

/// How long is kept what nobody waits for any more; outbox, inbox, alerts and access say it of what is theirs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    /// When old rows are looked for, as cron with seconds.
    pub cron: String,
    /// EXHAUSTED events that a person or a newer version resolved.
    #[serde(with = "crate::duration")]
    pub resolved_events: Duration,
    /// Dead letters that were replayed or discarded.
    #[serde(with = "crate::duration")]
    pub dead_letters: Duration,
    /// Adjustments of the stock, at product-service.
    #[serde(with = "crate::duration")]
    pub adjustments: Duration,
    /// Orders that ended, and at product-service what they took; at least a day and `inbox.retention`.
    #[serde(with = "crate::duration")]
    pub orders: Duration,
    /// What is left of removed products; at least a day and `inbox.retention`.
    #[serde(with = "crate::duration")]
    pub removed_products: Duration,
}

/// Whom to tell, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSettings {
    /// Mail addresses; none: alerts are shown, and mailed to nobody. In the environment: separated by commas.
    #[serde(deserialize_with = "list_or_text")]
    pub recipients: Vec<String>,
    /// How long a digest waits for further alerts.
    #[serde(with = "crate::duration")]
    pub digest_delay: Duration,
    /// Alerts that one mail lists at the most.
    pub digest_size: usize,
    /// Whether it is also told that an alert is over, where it was told that there is one.
    pub tell_when_over: bool,
    /// When alerts are gathered and messages are sent, as cron with seconds; a new alert wakes it without it.
    pub cron: String,
    /// How long closed alerts, messages that left and silences that are over are kept.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
}

/// How mail leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// `smtp`, `file` (into `directory`), `memory` (for tests) or `off`.
    pub transport: MailTransport,
    /// The sender.
    pub from: String,
    /// The SMTP server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `none`, `starttls` or `tls`.
    pub tls: MailTls,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// The user, if the server asks for one.
    pub username: String,
    /// The user's password.
    #[serde(serialize_with = "redacted")]
    pub password: SecretString,
    /// How long one try may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// The first pause before another try; it doubles each time.
    #[serde(with = "crate::duration")]
    pub retry_base: Duration,
    /// The longest pause between tries.
    #[serde(with = "crate::duration")]
    pub retry_max: Duration,
    /// Where `transport = "file"` puts its mails.
    pub directory: String,
}

/// A webhook that is called with alerts, after the Standard Webhooks specification.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where it listens: `https://` (or `http://` within one's own network); empty: nobody is called.
    pub url: String,
    /// What calls are signed with: `whsec_` and 24 to 64 bytes in base64; needed with `url`.
    #[serde(serialize_with = "redacted")]
    pub secret: SecretString,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// How long one try may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// The first pause before another try; it doubles each time.
    #[serde(with = "crate::duration")]
    pub retry_base: Duration,
    /// The longest pause between tries.
    #[serde(with = "crate::duration")]
    pub retry_max: Duration,
}

/// Ways that mail can leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTransport {
    /// To an SMTP server.
    Smtp,
    /// Into files of a directory, for development.
    File,
    /// Into memory, for tests.
    Memory,
    /// Nowhere: mails wait in the database.
    Off,
}

/// How the connection to the SMTP server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// Not at all: for loopback.
    None,
    /// Plain at first, then upgraded; refused if the server can't.
    Starttls,
    /// From the first byte.
    Tls,
}

/// What is logged and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `auto` (text on a terminal, JSON elsewhere), `text` or `json`.
    pub format: LogFormat,
    /// What to log, such as `info` or `info,engine::outbox=debug`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What is told to a collector of traces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceSettings {
    /// The base of an OpenTelemetry collector that takes OTLP over HTTP; empty: spans go nowhere.
    pub otlp_url: String,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// Which part of the traces that begin here is recorded, from 0 to 1.
    pub sample_ratio: f64,
}

fn list_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Text(String),
    }
    let trimmed = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect();
    let parts: Vec<String> = match Either::deserialize(deserializer)? {
        Either::List(list) => list,
        Either::Text(text) => trimmed(&text),
    };
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect())
}

fn redacted<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.expose_secret().is_empty() { "" } else { "***" })
}

fn redacted_values<S: Serializer>(
    values: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let harmless =
        |name: &str| matches!(name, "security.protocol" | "sasl.mechanism" | "sasl.mechanisms");
    serializer.collect_map(
        values
            .iter()
            .map(|(name, value)| (name, if harmless(name) { value.as_str() } else { "***" })),
    )
}
