//! What the services are told: files like a person's, with short pauses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stockloop_tests::smtp::SmtpSink;

/// What the tests' own requests to the operators' API carry.
pub(crate) const ADMIN_TOKEN: &str = "the-token-of-the-tests";

/// Attempts before an event gives up.
pub(crate) const MAX_ATTEMPTS: i32 = 3;

/// Topics and services of one system: groups are named after services, so each system has its own.
pub(crate) struct Names {
    pub(crate) product: String,
    pub(crate) order: String,
    pub(crate) events: String,
    pub(crate) acks: String,
    pub(crate) orders: String,
    pub(crate) order_acks: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |name: &str| format!("{prefix}{name}");
        Self {
            product: name("product-service"),
            order: name("order-service"),
            events: name("inventory"),
            acks: name("acks"),
            orders: name("orders"),
            order_acks: name("order-acks"),
        }
    }

    /// All topics.
    pub(super) fn topics(&self) -> [&str; 4] {
        [&self.events, &self.acks, &self.orders, &self.order_acks]
    }
}

/// Where everything is, and what differs from test to test.
pub(crate) struct SystemSettings {
    pub(crate) names: Names,
    pub(crate) brokers: String,
    /// What their clients are told besides.
    pub(crate) kafka_properties: BTreeMap<String, String>,
    pub(crate) product_url: String,
    pub(crate) order_url: String,
    /// The same through a pooler in transaction mode, if the services take that way.
    pub(crate) pooled_urls: Option<[String; 2]>,
    /// Where product-service and order-service listen, so that each can ask the other.
    pub(crate) binds: [String; 2],
    /// Whether everybody is let in.
    pub(crate) open: bool,
    /// When an answer counts as missing.
    pub(crate) ack_timeout: &'static str,
    /// Where traces are told; empty: nowhere.
    pub(crate) collector_url: String,
}

/// Writes both services' settings into `folder`.
pub(super) fn write_config(
    system: &SystemSettings,
    mails: &SmtpSink,
    folder: &Path,
) -> (PathBuf, PathBuf) {
    let Names { product, order, events, acks, orders, order_acks } = &system.names;
    let [product_bind, order_bind] = &system.binds;
    let write = |file: &str, name: &str, url: &str, binds: [&str; 2], topics: String| {
        let path = folder.join(file);
        let text = service_config(system, mails, name, url, binds, &topics);
        fs::write(&path, text).expect("settings can be written");
        path
    };
    let topics = |outbound: [&str; 2], consumer: &str, inbound: [&str; 2]| {
        let [topic, ack_topic] = outbound;
        let [inbound_topic, inbound_ack_topic] = inbound;
        format!(
            "outbound_topic = \"{topic}\"\noutbound_ack_topic = \"{ack_topic}\"\n\
             outbound_consumer = \"{consumer}\"\n\
             inbound_topic = \"{inbound_topic}\"\ninbound_ack_topic = \"{inbound_ack_topic}\""
        )
    };
    let direct = [&system.product_url, &system.order_url];
    let [product_url, order_url] =
        system.pooled_urls.as_ref().map_or(direct, |urls| urls.each_ref());
    let of_product = topics([events, acks], order, [orders, order_acks]);
    let of_order = topics([orders, order_acks], product, [events, acks]);
    (
        write("product.toml", product, product_url, [product_bind, order_bind], of_product),
        write("order.toml", order, order_url, [order_bind, product_bind], of_order),
    )
}

/// Writes the settings of search-service, a third service, into `folder`; returns their path, what it calls itself, and
/// where it listens.
pub(super) fn write_search_config(
    system: &SystemSettings,
    mails: &SmtpSink,
    folder: &Path,
    url: &str,
    bind: &str,
) -> (PathBuf, String) {
    let Names { product, order, events, acks, .. } = &system.names;
    let name = format!("{}search-service", order.strip_suffix("order-service").unwrap_or(""));
    let topics = format!(
        "outbound_topic = \"{events}-nothing\"\noutbound_ack_topic = \"{acks}-nothing\"\n\
         outbound_consumer = \"{product}\"\n\
         inbound_topic = \"{events}\"\ninbound_ack_topic = \"{acks}\""
    );
    let path = folder.join("search.toml");
    let text = service_config(system, mails, &name, url, [bind, &system.binds[0]], &topics);
    fs::write(&path, text).expect("settings can be written");
    (path, name)
}

/// How events come to the relays of a whole run of the suite, where it can be chosen: `table`, or `log`.
const RELAY: &str = "STOCKLOOP_TEST_RELAY";

/// Whether the relays of this run read the log, so that one instance sends for all.
pub(crate) fn relays_read_the_log() -> bool {
    std::env::var(RELAY).is_ok_and(|relay| relay == "log")
}

fn relay(url: &str, system: &SystemSettings) -> &'static str {
    let can = url.starts_with("postgres") && system.pooled_urls.is_none();
    if can && relays_read_the_log() { "log" } else { "table" }
}

/// One service's settings, in the file's notation.
fn service_config(
    system: &SystemSettings,
    mails: &SmtpSink,
    name: &str,
    url: &str,
    [bind, peer]: [&str; 2],
    topics: &str,
) -> String {
    let (brokers, host, port) = (&system.brokers, mails.host(), mails.port());
    let (ack_timeout, collector_url) = (system.ack_timeout, &system.collector_url);
    let more = system.kafka_properties.iter();
    let more: String = more.map(|(name, value)| format!("{name:?} = {value:?}\n")).collect();
    let open = system.open;
    let relay = relay(url, system);
    let pooler = if system.pooled_urls.is_some() { "transaction" } else { "none" };
    format!(
        r#"[service]
name = "{name}"

[http]
bind = "{bind}"
shutdown_timeout = "5s"
admin_token = "{ADMIN_TOKEN}"

[access]
open = {open}

[peer]
url = "http://{peer}"

[database]
url = "{url}"
pooler = "{pooler}"
connect_timeout = "1s"

[kafka]
brokers = "{brokers}"
{topics}
create_topics = false

# A member that was killed is to be missed soon.
[kafka.properties]
"session.timeout.ms" = "3000"
"heartbeat.interval.ms" = "500"
{more}
[outbox]
relay = "{relay}"
max_attempts = {MAX_ATTEMPTS}
ack_timeout = "{ack_timeout}"
ack_grace = "500ms"
backoff_base = "50ms"
backoff_max = "500ms"
probe_after = "500ms"
lease = "3s"
watch_cron = "*/1 * * * * *"

[alerts]
recipients = ["operator@example.test"]
digest_delay = "200ms"
cron = "*/1 * * * * *"

[mail]
transport = "smtp"
host = "{host}"
port = {port}
retry_base = "200ms"

[trace]
otlp_url = "{collector_url}"
"#
    )
}
