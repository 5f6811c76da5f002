//! Both services with all that they stand on: in this process on SQLite and the embedded broker, or as child
//! processes on PostgreSQL and Apache Kafka.

mod backup;
mod client;
pub(crate) mod collector;
pub(crate) mod load;
mod queries;
pub(crate) mod random;
pub(crate) mod raw_produce;
mod settings;
mod test_service;
pub(crate) mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use engine::kafka::EmbeddedBroker;
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually;
use stockloop_tests::ports::free_port;
use stockloop_tests::postgres::{PgBouncer, PostgresServer};
use stockloop_tests::real;
use stockloop_tests::smtp::SmtpSink;
use tempfile::TempDir;

pub(crate) use client::{http_client, segment, text};
pub(crate) use queries::{InventoryRow, count};
pub(crate) use settings::{MAX_ATTEMPTS, relays_read_the_log};
use settings::{Names, SystemSettings, write_config, write_search_config};
pub(crate) use test_service::{BaseUrl, TestService, wait_until_listening};
use topics::Topics;

/// Long enough for a busy machine; a condition that holds sooner ends the wait sooner.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Partitions of every topic here.
pub(crate) const PARTITIONS: i32 = 4;

/// Makes two tests of each body, an async function that takes a [`TestSystem`]: `embedded::body` on the embedded parts,
/// and `real::body` on real ones, where there are any, in databases and topics of this name.
macro_rules! on_embedded_and_real {
    ($($body:ident as $name:literal),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $body() {
                super::$body($crate::system::TestSystem::embedded().await).await;
            })+
        }
        mod real {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $body() {
                if let Some(system) = $crate::system::TestSystem::real($name).await {
                    super::$body(system).await;
                }
            })+
        }
    };
}
pub(crate) use on_embedded_and_real;

/// Both services, running.
///
/// The services come first, so that they are dropped before what they stand on.
pub(crate) struct TestSystem {
    pub(crate) product: TestService,
    pub(crate) order: TestService,
    pub(crate) mails: SmtpSink,
    pub(crate) topics: Topics,
    broker: Option<EmbeddedBroker>,
    _folder: TempDir,
}

/// The databases and the broker of a system on real parts.
pub(crate) struct RealParts<'a> {
    pub(crate) product_url: String,
    pub(crate) order_url: String,
    pub(crate) kafka: &'a KafkaBroker,
    /// What the services reach their databases through, if it is not directly.
    pub(crate) pgbouncer: Option<&'a PgBouncer>,
}

impl RealParts<'static> {
    /// New databases on the servers that all tests share, if this machine has them.
    pub(crate) fn shared(name: &str) -> Option<Self> {
        Some(Self::on(real::postgres()?, real::kafka()?, name))
    }
}

impl<'a> RealParts<'a> {
    /// New databases on these servers.
    pub(crate) fn on(postgres: &PostgresServer, kafka: &'a KafkaBroker, name: &str) -> Self {
        let product_url = postgres.database(&format!("{name}_product"));
        let order_url = postgres.database(&format!("{name}_order"));
        Self { product_url, order_url, kafka, pgbouncer: None }
    }
}

impl TestSystem {
    /// Services of this process, on SQLite and the embedded broker.
    pub(crate) async fn embedded() -> Self {
        Self::in_process(true, "").await
    }

    /// The same, but operators have to say who they are.
    pub(crate) async fn guarded() -> Self {
        Self::in_process(false, "").await
    }

    /// The same as embedded, telling a collector of their traces.
    pub(crate) async fn traced(collector_url: &str) -> Self {
        Self::in_process(true, collector_url).await
    }

    async fn in_process(open: bool, collector_url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let url = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        let broker = EmbeddedBroker::start().expect("the embedded broker starts");
        let names = Names::new("");
        for topic in names.topics() {
            broker.create_topic(topic, PARTITIONS).expect("a topic can be made");
        }
        let settings = SystemSettings {
            names,
            brokers: broker.brokers(),
            kafka_properties: EmbeddedBroker::properties(),
            product_url: url("product.db"),
            order_url: url("order.db"),
            pooled_urls: None,
            // The embedded broker lets a group's first member wait for others, for seconds.
            ack_timeout: "10s",
            binds: [bind(), bind()],
            open,
            collector_url: collector_url.to_owned(),
        };
        let mut system = Self::prepare(settings, folder, Some(broker));
        tokio::join!(system.product.start_in_process(), system.order.start_in_process());
        system
    }

    /// Child processes on new databases and topics of the shared PostgreSQL and Kafka, if there are any.
    pub(crate) async fn real(name: &str) -> Option<Self> {
        Some(Self::on(name, RealParts::shared(name)?).await)
    }

    /// Child processes on `parts`.
    pub(crate) async fn on(name: &str, parts: RealParts<'_>) -> Self {
        let mut system = Self::prepared(name, parts).await;
        system.start_both();
        system
    }

    /// The same, but nothing is started yet.
    pub(crate) async fn prepared(name: &str, parts: RealParts<'_>) -> Self {
        let names = Names::new(&parts.kafka.topic_prefix(name));
        // Beforehand, so that no consumer has to wait for its next look at the topics.
        parts.kafka.create_topics(&names.topics(), PARTITIONS).await.expect("topics can be made");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let settings = SystemSettings {
            names,
            brokers: parts.kafka.brokers(),
            kafka_properties: BTreeMap::new(),
            pooled_urls: parts
                .pgbouncer
                .map(|pooler| [&parts.product_url, &parts.order_url].map(|url| pooler.url(url))),
            product_url: parts.product_url,
            order_url: parts.order_url,
            ack_timeout: "2s",
            // A second product-service of the same settings takes another port; it asks order-service, which has one.
            binds: ["127.0.0.1:0".to_owned(), bind()],
            open: true,
            collector_url: String::new(),
        };
        Self::prepare(settings, folder, None)
    }

    fn prepare(settings: SystemSettings, folder: TempDir, broker: Option<EmbeddedBroker>) -> Self {
        let mails = SmtpSink::start().expect("a mail server starts");
        let (product, order) = write_config(&settings, &mails, folder.path());
        Self {
            product: TestService::new(product_service::SERVICE, product, &settings.product_url),
            order: TestService::new(order_service::SERVICE, order, &settings.order_url),
            mails,
            topics: Topics::new(settings),
            broker,
            _folder: folder,
        }
    }

    /// Makes a topic that none of the services makes.
    pub(crate) async fn create_topic(&self, topic: &str) {
        match &self.broker {
            Some(broker) => broker.create_topic(topic, PARTITIONS).expect("a topic can be made"),
            None => self.topics.create(topic, PARTITIONS).await,
        }
    }

    /// The two and search-service, whose answers are waited for, as child processes; and what it calls itself.
    pub(crate) async fn with_search(name: &str) -> Option<(Self, TestService, String)> {
        let url = real::postgres()?.database(&format!("{name}_search"));
        let mut system = Self::prepared(name, RealParts::shared(name)?).await;
        let (mut search, name) = system.add_search(&url);
        system.start_both();
        search.start();
        Some((system, search, name))
    }

    /// search-service, not started yet; product-service asks for its answers from its next start on.
    fn add_search(&mut self, url: &str) -> (TestService, String) {
        let bind = bind();
        let (folder, mails) = (self._folder.path(), &self.mails);
        let (config, name) = write_search_config(self.topics.settings(), mails, folder, url, &bind);
        self.product
            .also(&format!("\n[consumers.\"{name}\"]\nrequired = true\nurl = \"http://{bind}\"\n"));
        (TestService::new(search_service::SERVICE, config, url), name)
    }

    /// Another product-service on the same database and topics.
    pub(crate) fn second_product(&self) -> TestService {
        let mut second = self.another_product();
        second.start();
        second
    }

    /// The same, but it is not started yet.
    pub(crate) fn another_product(&self) -> TestService {
        self.product.same_settings()
    }

    /// Another order-service on the same database and topics, on a port of its own.
    pub(crate) fn second_order(&self) -> TestService {
        let mut second = self.order.same_settings();
        second.environment.push(("STOCKLOOP__HTTP__BIND", "127.0.0.1:0"));
        second.start();
        second
    }

    /// Starts both as child processes at the same time.
    pub(crate) fn start_both(&mut self) {
        self.product.launch();
        self.order.launch();
        self.product.wait_until_it_listens();
        self.order.wait_until_it_listens();
    }

    /// Stops both in good order at the same time.
    pub(crate) async fn stop_both(&mut self) {
        tokio::join!(self.product.stop(), self.order.stop());
    }

    /// Starts both anew, with these settings in their files from now on.
    pub(crate) async fn restart_also(&mut self, toml: &str) {
        self.product.restart_also(toml).await;
        self.order.restart_also(toml).await;
    }

    /// Ends the system in good order.
    pub(crate) async fn stop(mut self) {
        self.stop_both().await;
    }

    /// Waits until every event of both services is PROCESSED.
    pub(crate) async fn wait_until_settled(&self) {
        eventually("every event to be PROCESSED", DEADLINE, async || {
            // The orders first: what one of them causes at product-service is there once it is PROCESSED.
            let order = self.order.open_events().await.map_err(|error| error.to_string())?;
            let product = self.product.open_events().await.map_err(|error| error.to_string())?;
            match order.is_empty() && product.is_empty() {
                true => Ok(()),
                false => Err(format!("{order:?} {product:?}")),
            }
        })
        .await;
    }

    /// Holds the two databases against each other; all events are PROCESSED by now.
    pub(crate) async fn assert_equal_at_rest(&self) {
        let source = self.product.product_rows("product").await;
        let copy = self.order.product_rows("product_copy").await;
        assert_eq!(source.len(), copy.len(), "the tables have as many rows");
        for (source, copy) in source.iter().zip(&copy) {
            assert_eq!(source, copy, "a row and its copy");
        }
        assert_eq!(self.product.inventory().await, self.order.inventory().await);
        let events = self.product.count("SELECT count(*) AS n FROM outbox_event").await;
        let processed =
            self.product.count("SELECT count(*) AS n FROM outbox WHERE status = 'PROCESSED'").await;
        assert_eq!(events, processed, "every event is PROCESSED");
        let applied = self.order.count("SELECT count(*) AS n FROM inbox WHERE outcome = 0").await;
        assert_eq!(events, applied, "every event was applied once, and nothing else");
        self.assert_nothing_came_back().await;
    }

    /// Neither database was taken for one that came back from a backup.
    pub(crate) async fn assert_nothing_came_back(&self) {
        let found = "SELECT count(*) AS n FROM restoration";
        assert_eq!(self.product.count(found).await, 0, "product-service is not behind");
        assert_eq!(self.order.count(found).await, 0, "order-service is not behind");
    }

    /// No event had more attempts than its limit, and none ever gave up.
    pub(crate) async fn assert_nothing_gave_up(&self) {
        let alerts = "SELECT count(*) AS n FROM alert WHERE kind = 'exhausted'";
        assert_eq!(self.product.count(alerts).await, 0, "nothing was EXHAUSTED");
        let attempts = format!("SELECT max(s.attempt - {PROBES}) AS n FROM outbox_settled s");
        let most = self.product.count(&attempts).await;
        assert!(most <= i64::from(MAX_ATTEMPTS), "{most} attempts of {MAX_ATTEMPTS}");
    }

    /// Every event needed one attempt only; probes cost nothing.
    pub(crate) async fn assert_no_attempt_was_lost(&self) {
        let failures = "SELECT count(*) AS n FROM outbox_history WHERE what <> 'PROBED'";
        assert_eq!(
            self.product.count(failures).await,
            0,
            "no event failed: {:?}",
            self.product.history().await
        );
        let more =
            format!("SELECT count(*) AS n FROM outbox_settled s WHERE s.attempt > 1 + {PROBES}");
        // The answer to a partition's last probe may settle its event before the probe is noted.
        let more = self.product.count(&more).await;
        assert!(more <= i64::from(PARTITIONS), "{more} took more than one attempt and its probes");
    }
}

/// An address that nobody listens on yet.
fn bind() -> String {
    format!("127.0.0.1:{}", free_port().expect("there are free ports"))
}

/// How often an event was sent once more only to see whether anybody answers.
const PROBES: &str =
    "(SELECT count(*) FROM outbox_history h WHERE h.event_id = s.id AND h.what = 'PROBED')";
