//! How settings are read, checked and shown.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::{RelayKind, Settings, ViewSettings};
use crate::db::{Backend, Location, Pooler};
use crate::duration::written;

/// What knows an event again is kept for so long at least: younger events need no look at what is gone.
const SHORTEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long topics may keep messages: a reader that starts again needs an hour, and a broker counts in an `i64`.
const KEPT_ON_TOPICS: RangeInclusive<Duration> =
    Duration::from_secs(60 * 60)..=Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// With fewer connections of clients, neither operators nor probes get through beside them.
const FEWEST_CONNECTIONS: usize = 16;

/// How long a client may be waited for: one that is quick needs some of that, and for one that is not there is no use in more.
const CLIENT_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60 * 60);

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
        let Self { inbox, retention, verify, .. } = self;
        anyhow::ensure!(
            (0.001..=1.0).contains(&verify.share),
            "verify.share is {}; it is the part of the time that a verification may work, from 0.001 to 1",
            verify.share
        );
        self.check_http()?;
        self.check_topics()?;
        self.check_views()?;
        self.signing.secrets()?;
        self.check_log()?;
        self.check_external()?;
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

    /// What a service needs to answer anybody.
    fn check_http(&self) -> anyhow::Result<()> {
        let http = &self.http;
        anyhow::ensure!(
            http.max_connections >= FEWEST_CONNECTIONS,
            "http.max_connections is {}; set {FEWEST_CONNECTIONS} at the least",
            http.max_connections
        );
        anyhow::ensure!(
            CLIENT_TIMEOUT.contains(&http.client_timeout),
            "http.client_timeout is {}; set how long a client may be waited for, from 100ms to 1h",
            written(http.client_timeout)
        );
        anyhow::ensure!(
            http.keep_alive <= *CLIENT_TIMEOUT.end(),
            "http.keep_alive is {}; set 1h at the most",
            written(http.keep_alive)
        );
        Ok(())
    }

    /// What topics are made with.
    fn check_topics(&self) -> anyhow::Result<()> {
        let kafka = &self.kafka;
        anyhow::ensure!(
            KEPT_ON_TOPICS.contains(&kafka.retention),
            "kafka.retention is {}; set how long a reader may be away, from 1h to 36500days",
            written(kafka.retention)
        );
        if !kafka.create_topics {
            return Ok(());
        }
        let (replicas, in_sync) = (kafka.replication, kafka.min_insync_replicas);
        for (name, number) in [("replication", replicas), ("min_insync_replicas", in_sync)] {
            anyhow::ensure!(
                number == -1 || number >= 1,
                "kafka.{name} is {number}; set a number of replicas, or -1 for the broker's default"
            );
        }
        anyhow::ensure!(
            in_sync <= 1 || replicas >= in_sync,
            "kafka.min_insync_replicas is {in_sync}, and kafka.replication {replicas}: with fewer replicas nothing could be written, so set as many at the least"
        );
        Ok(())
    }

    /// Events and answers are no view: all of them would be dead letters. Nor do those who read the loop's answers want any
    /// to a view.
    fn check_views(&self) -> anyhow::Result<()> {
        let ViewSettings { purchases_topic: topic, purchases_ack_topic: ack_topic } = &self.views;
        let kafka = &self.kafka;
        let of_the_loop = [
            &kafka.outbound_topic,
            &kafka.outbound_ack_topic,
            &kafka.inbound_topic,
            &kafka.inbound_ack_topic,
        ];
        anyhow::ensure!(
            topic.is_empty() || !of_the_loop.contains(&topic),
            "views.purchases_topic is {topic}, a topic of events or answers; set the topic of the view, or leave it empty"
        );
        anyhow::ensure!(
            ack_topic.is_empty() || !topic.is_empty(),
            "views.purchases_ack_topic is {ack_topic}, and views.purchases_topic names no view to answer; set that, too, or neither"
        );
        anyhow::ensure!(
            ack_topic.is_empty() || (ack_topic != topic && !of_the_loop.contains(&ack_topic)),
            "views.purchases_ack_topic is {ack_topic}, the view's own topic or one of the loop; set a topic that the view's producer reads answers from, or leave it empty"
        );
        Ok(())
    }

    /// What a relay needs that reads the log.
    fn check_log(&self) -> anyhow::Result<()> {
        let Self { outbox, database, .. } = self;
        if outbox.relay != RelayKind::Log {
            return Ok(());
        }
        let own = !outbox.log_url.expose().is_empty();
        let url = if own { &outbox.log_url } else { &database.url };
        anyhow::ensure!(
            Location::parse(url)?.backend() == Backend::Postgres,
            "outbox.relay = \"log\" needs PostgreSQL, and {} is none; use \"table\"",
            url.redacted()
        );
        anyhow::ensure!(
            own || database.pooler == Pooler::None,
            "outbox.relay = \"log\" needs a session of its own, which no pooler in transaction mode gives; set outbox.log_url to the server itself"
        );
        Ok(())
    }

    /// What a relay needs that is another program, and what is only for one that is.
    fn check_external(&self) -> anyhow::Result<()> {
        let Self { outbox, database, .. } = self;
        let takeover = outbox.external_takeover;
        if !outbox.relay.is_external() {
            anyhow::ensure!(
                takeover.is_zero(),
                "outbox.external_takeover is set, but outbox.relay is not \"external\": there is nobody to take over from; leave it out, or set outbox.relay"
            );
            return Ok(());
        }
        anyhow::ensure!(
            Location::parse(&database.url)?.backend() == Backend::Postgres,
            "outbox.relay = \"external\" needs PostgreSQL, whose log the other program reads, and {} is none; use \"table\"",
            database.url.redacted()
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

    use serde::Deserialize;

    use super::super::SignatureRequirement;
    use super::super::alerts::list_or_text;
    use super::*;

    const DEFAULTS: &str = include_str!("../../../product-service/product-service.toml");

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
            ("relay = \"external\"", sqlite, "needs PostgreSQL"),
            ("external_takeover = \"1m\"", postgres, "nobody to take over from"),
            ("relay = \"log\"\nexternal_takeover = \"1m\"", postgres, "nobody to take over from"),
            ("relay = \"external\"\nexternal_takeover = \"1ms\"", postgres, "at least 1s"),
            ("relay = \"debezium\"", postgres, "relay"),
        ] {
            let error = format!("{:#}", load(outbox, url).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn topics_keep_messages_and_can_be_written_to() {
        let load = |kafka: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(format!("[kafka]\n{kafka}\n").as_bytes()).unwrap();
            Settings::load(DEFAULTS, Some(file.path()))
        };
        let settings =
            load("retention = \"1h\"\nreplication = 3\nmin_insync_replicas = 2").unwrap();
        assert_eq!(settings.kafka.retention, Duration::from_secs(3_600));
        load("replication = 0\ncreate_topics = false").unwrap();
        for (kafka, told) in [
            ("retention = \"59m\"", "kafka.retention is 59m"),
            ("retention = \"200years\"", "36500days"),
            ("replication = 1\nmin_insync_replicas = 2", "nothing could be written"),
            ("min_insync_replicas = 2", "nothing could be written"),
            ("replication = 0", "kafka.replication is 0"),
        ] {
            let error = format!("{:#}", load(kafka).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn clients_have_connections_and_time() {
        let load = |http: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(format!("[http]\n{http}\n").as_bytes()).unwrap();
            Settings::load(DEFAULTS, Some(file.path()))
        };
        load("max_connections = 16\nclient_timeout = \"100ms\"\nkeep_alive = \"0s\"").unwrap();
        for (http, told) in [
            ("max_connections = 15", "http.max_connections is 15"),
            ("client_timeout = \"0s\"", "http.client_timeout is 0s"),
            ("client_timeout = \"99ms\"", "from 100ms to 1h"),
            ("client_timeout = \"61m\"", "http.client_timeout is 61m"),
            ("keep_alive = \"61m\"", "http.keep_alive is 61m"),
        ] {
            let error = format!("{:#}", load(http).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_view_is_on_a_topic_of_its_own() {
        let load = |topic: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let text = format!("[views]\npurchases_topic = \"{topic}\"\n");
            file.write_all(text.as_bytes()).unwrap();
            Settings::load(DEFAULTS, Some(file.path()))
        };
        assert_eq!(load("").unwrap().views.purchases_topic, "", "none by default");
        let settings = load("stockloop.views.purchases.v1").unwrap();
        assert_eq!(settings.views.purchases_topic, "stockloop.views.purchases.v1");
        let error = load(&settings.kafka.outbound_topic).unwrap_err().to_string();
        assert!(error.contains("views.purchases_topic is stockloop.inventory.v1"), "{error}");
    }

    #[test]
    fn a_view_is_answered_on_a_topic_of_its_own() {
        let load = |topic: &str, ack_topic: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let topics =
                format!("purchases_topic = {topic:?}\npurchases_ack_topic = {ack_topic:?}");
            file.write_all(format!("[views]\n{topics}\n").as_bytes()).unwrap();
            Settings::load(DEFAULTS, Some(file.path()))
        };
        assert_eq!(load("view", "").unwrap().views.purchases_ack_topic, "", "none by default");
        assert_eq!(load("view", "view.acks").unwrap().views.purchases_ack_topic, "view.acks");
        for (topic, ack_topic, told) in [
            ("", "view.acks", "names no view to answer"),
            ("view", "view", "the view's own topic"),
            ("view", "stockloop.inventory.acks.v1", "or one of the loop"),
        ] {
            let error = load(topic, ack_topic).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn messages_are_signed_with_a_key_of_the_settings() {
        let load = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            Settings::load(DEFAULTS, Some(file.path()))
        };
        assert!(load("").unwrap().signing.keys.is_empty(), "none by default");
        let secret = "c2l4dHkgYnl0ZXMgdGhhdCBub2JvZHkgZWxzZSBrbm93cyE=";
        let keys = format!(
            "[signing]\ncurrent = \"k1\"\nrequire = \"all\"\nkeys = {{ k1 = \"{secret}\" }}\n"
        );
        let settings = load(&keys).unwrap();
        assert_eq!(settings.signing.require, SignatureRequirement::All);
        let shown = settings.redacted_toml().unwrap();
        assert!(shown.contains("k1 = \"***\"") && !shown.contains(secret), "{shown}");
        for (text, told) in [
            (keys.replace("current = \"k1\"", "current = \"k2\""), "signing.current names no key"),
            ("[signing]\nrequire = \"acks\"\n".to_owned(), "signing.keys has no key"),
            ("[signing]\nrequire = \"some\"\n".to_owned(), "require"),
            (format!("[signing]\nkeys = \"{secret}\"\n"), "signing.keys can't be read"),
            (format!("[signing]\nkeys = [\"{secret}\"]\n"), "signing.keys can't be read"),
        ] {
            let error = format!("{:#}", load(&text).unwrap_err());
            assert!(error.contains(told) && !error.contains(secret), "{error}");
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
