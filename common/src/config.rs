//! Settings: defaults, then a TOML file, then the environment (`STOCKLOOP__SECTION__NAME`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::db::{DatabaseSettings, Location};

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
    /// Where it listens: `http://` with host and port, within one's own network.
    pub url: String,
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
    /// Where it is asked what it has: `http://` with host and port; empty: its copy is not verified.
    #[serde(default)]
    pub url: String,
    /// Its `http.api_token`, if it has one.
    #[serde(default, serialize_with = "redacted")]
    pub api_token: SecretString,
}

/// How events are sent and how long they are tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxSettings {
    /// Who sends events for the first time: `table` or `external`.
    pub relay: RelayKind,
    /// How long an event waits for the external relay before this service sends it itself; 0: it never does.
    #[serde(with = "crate::duration")]
    pub external_takeover: Duration,
    /// Attempts before an event waits for a person.
    pub max_attempts: i32,
    /// Events that one relay step reads and sends at the most.
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
    /// When overdue events, silent partitions and old rows are looked for, as cron with seconds.
    pub watch_cron: String,
    /// How long PROCESSED events are kept.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
}

/// Who sends events for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayKind {
    /// The service itself, out of its tables.
    Table,
    /// Another program, such as Debezium, out of PostgreSQL's log.
    External,
}

/// How events are applied.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxSettings {
    /// Messages that one transaction applies at the most.
    pub batch: usize,
    /// How long a batch that is not full waits for more.
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

/// What knows an event again is kept for so long at least: younger events need no look at what is gone.
const SHORTEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What an external relay that works may need for an event at the least.
const SHORTEST_TAKEOVER: Duration = Duration::from_secs(1);

impl Settings {
    /// Reads `defaults` (TOML, the service's own example file), then `file`, then the environment.
    ///
    /// # Errors
    /// Which source is wrong, at which name, and why.
    pub fn load(defaults: &str, file: Option<&Path>) -> anyhow::Result<Self> {
        let mut sources = config::Config::builder()
            .add_source(config::File::from_str(defaults, config::FileFormat::Toml));
        if let Some(file) = file {
            sources = sources.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        // Values stay text until a field asks for a number: a password such as 007 must not become 7.
        let environment =
            config::Environment::with_prefix("STOCKLOOP").prefix_separator("__").separator("__");
        let settings: Self =
            sources.add_source(environment).build().and_then(config::Config::try_deserialize).context(
                "the configuration is wrong; `config --example` prints every option with its default",
            )?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks what one setting has to be because of another.
    fn check(&self) -> anyhow::Result<()> {
        self.check_relay()?;
        let Self { inbox, retention, verify, .. } = self;
        anyhow::ensure!(
            (0.001..=1.0).contains(&verify.share),
            "verify.share is {}; it is the part of the time that a verification may work, from 0.001 to 1",
            verify.share
        );
        let first = &self.kafka.outbound_consumer;
        anyhow::ensure!(
            !self.consumers.contains_key(first),
            "consumers.{first} is the one of kafka.outbound_consumer, which is required anyway and asked at peer.url; leave the section out"
        );
        let kept = [("orders", retention.orders), ("removed_products", retention.removed_products)];
        // A message that comes again is known by its id first, and by these rows after that.
        for (name, duration) in kept {
            anyhow::ensure!(
                duration >= inbox.retention.max(SHORTEST),
                "retention.{name} is shorter than inbox.retention or a day: an event that comes again would not be known"
            );
        }
        Ok(())
    }

    /// Checks that what is to send the events can.
    fn check_relay(&self) -> anyhow::Result<()> {
        let Self { database, outbox, .. } = self;
        let takeover = outbox.external_takeover;
        if outbox.relay != RelayKind::External {
            anyhow::ensure!(
                takeover.is_zero(),
                "outbox.external_takeover is set, but outbox.relay is not \"external\": there is nobody to take over from; leave it out, or set outbox.relay"
            );
            return Ok(());
        }
        let is_postgres = matches!(Location::parse(&database.url), Ok(Location::Postgres { .. }));
        anyhow::ensure!(
            is_postgres,
            "outbox.relay is \"external\", but database.url is not PostgreSQL, whose log an external relay reads; set one of the two"
        );
        anyhow::ensure!(
            takeover.is_zero() || takeover >= SHORTEST_TAKEOVER,
            "outbox.external_takeover is {takeover:?}, which would send what the external relay is about to send; set at least {SHORTEST_TAKEOVER:?}, or 0 for never"
        );
        Ok(())
    }

    /// The settings as TOML with every secret hidden: for `config` and for the log at start.
    ///
    /// # Errors
    /// When they can't be written as TOML, which would be a flaw of this program.
    pub fn redacted_toml(&self) -> anyhow::Result<String> {
        toml::to_string_pretty(self).context("the settings can't be written as TOML")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    const DEFAULTS: &str = include_str!("../../product-service/product-service.toml");

    #[test]
    fn a_file_changes_defaults_and_may_name_properties_with_dots() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\nsasl_password = \"007\"\n\
                    [alerts]\nrecipients = [\"a@shop.example\"]\n[http]\nadmin_token = \"s3cret\"\n";
        file.write_all(text.as_bytes()).unwrap();
        let settings = Settings::load(DEFAULTS, Some(file.path())).unwrap();
        assert_eq!(settings.kafka.properties["security.protocol"], "SASL_SSL");
        assert_eq!(settings.kafka.properties["sasl_password"], "007");
        assert_eq!(settings.alerts.recipients, ["a@shop.example"]);
        let shown = settings.redacted_toml().unwrap();
        assert!(!shown.contains("007") && !shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("SASL_SSL"), "{shown}");
    }

    #[test]
    fn an_unknown_option_is_an_error_that_names_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[outbox]\nmax_atempts = 3\n").unwrap();
        let error = Settings::load(DEFAULTS, Some(file.path())).unwrap_err();
        assert!(format!("{error:#}").contains("max_atempts"), "{error:#}");
    }

    #[test]
    fn what_knows_an_event_again_is_kept_as_long_as_its_id() {
        for name in ["orders", "removed_products"] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let text = format!("[retention]\n{name} = \"29days\"\n");
            file.write_all(text.as_bytes()).unwrap();
            let error = Settings::load(DEFAULTS, Some(file.path())).unwrap_err();
            assert!(error.to_string().contains(&format!("retention.{name}")), "{error:#}");
        }
    }

    #[test]
    fn an_external_relay_needs_postgres_and_time() {
        let load = |outbox: &str, url: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let text = format!("[outbox]\n{outbox}\n[database]\nurl = \"{url}\"\n");
            file.write_all(text.as_bytes()).unwrap();
            Settings::load(DEFAULTS, Some(file.path()))
        };
        let (postgres, sqlite) = ("postgres://me@localhost/shop", "sqlite:data/shop.db");
        let external = load("relay = \"external\"", postgres).unwrap();
        assert_eq!(external.outbox.relay, RelayKind::External);
        assert!(external.outbox.external_takeover.is_zero());
        load("relay = \"external\"\nexternal_takeover = \"1m\"", postgres).unwrap();
        for (outbox, url, told) in [
            ("relay = \"external\"", sqlite, "not PostgreSQL"),
            ("external_takeover = \"1m\"", postgres, "nobody to take over from"),
            ("relay = \"external\"\nexternal_takeover = \"1ms\"", postgres, "at least 1s"),
            ("relay = \"debezium\"", postgres, "relay"),
        ] {
            let error = format!("{:#}", load(outbox, url).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn recipients_may_be_one_text() {
        #[derive(Deserialize)]
        struct Only {
            #[serde(deserialize_with = "list_or_text")]
            to: Vec<String>,
        }
        let only: Only = serde_json::from_str(r#"{"to": "a@x.example, b@x.example,"}"#).unwrap();
        assert_eq!(only.to, ["a@x.example", "b@x.example"]);
    }
}
