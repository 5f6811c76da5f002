//! Both services with all that they stand on, for the suites of the loop: in this process on SQLite and the
//! embedded broker, or as child processes on PostgreSQL and Apache Kafka.

pub(crate) mod collector;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod looks;
pub(crate) mod random;
mod service;
mod settings;
pub(crate) mod topics;

use std::time::Duration;

use common::kafka::EmbeddedBroker;
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually;
use stockloop_tests::ports::free_port;
use stockloop_tests::real;
use stockloop_tests::smtp::SmtpSink;
use tempfile::TempDir;

pub(crate) use service::{Base, Service};
pub(crate) use settings::MAX_ATTEMPTS;
use settings::{Names, Place, config};
use topics::Topics;

/// Long enough for a busy machine; a condition that holds sooner ends the wait sooner.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Partitions of every topic here.
pub(crate) const PARTITIONS: i32 = 4;

/// Both services, running.
///
/// The services come first, so that they are dropped before what they stand on.
pub(crate) struct Stage {
    pub(crate) product: Service,
    pub(crate) order: Service,
    pub(crate) mails: SmtpSink,
    pub(crate) topics: Topics,
    _broker: Option<EmbeddedBroker>,
    _folder: TempDir,
}

/// Where a stage keeps its data.
pub(crate) struct Parts<'a> {
    pub(crate) product_url: String,
    pub(crate) order_url: String,
    pub(crate) kafka: &'a KafkaBroker,
}

impl<'a> Parts<'a> {
    /// New databases and topics on the servers that all tests share, if this machine has them.
    pub(crate) fn shared(name: &str) -> Option<Parts<'static>> {
        let (postgres, kafka) = (real::postgres()?, real::kafka()?);
        let product_url = postgres.database(&format!("{name}_product"));
        let order_url = postgres.database(&format!("{name}_order"));
        Some(Parts { product_url, order_url, kafka })
    }
}

impl Stage {
    /// Services of this process, on SQLite and the embedded broker.
    pub(crate) async fn embedded() -> Self {
        Self::here(true, "").await
    }

    /// The same, but operators have to say who they are.
    pub(crate) async fn guarded() -> Self {
        Self::here(false, "").await
    }

    /// The same as embedded, telling a collector of their traces.
    pub(crate) async fn traced(collector_url: &str) -> Self {
        Self::here(true, collector_url).await
    }

    async fn here(open: bool, collector_url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let url = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        let broker = EmbeddedBroker::start().expect("the embedded broker starts");
        let names = Names::new("");
        for topic in names.topics() {
            broker.create_topic(topic, PARTITIONS).expect("a topic can be made");
        }
        let place = Place {
            names,
            brokers: broker.brokers(),
            product_url: url("product.db"),
            order_url: url("order.db"),
            // The embedded broker lets a group's first member wait for others, for seconds.
            ack_timeout: "10s",
            binds: [(); 2]
                .map(|()| format!("127.0.0.1:{}", free_port().expect("there are free ports"))),
            open,
            collector_url: collector_url.to_owned(),
        };
        let mut stage = Self::prepare(place, folder, Some(broker));
        stage.product.start_here().await;
        stage.order.start_here().await;
        stage
    }

    /// Child processes on new databases and topics of the shared PostgreSQL and Kafka, if there are any.
    pub(crate) async fn real(name: &str) -> Option<Self> {
        Some(Self::on(name, Parts::shared(name)?).await)
    }

    /// Child processes on `parts`.
    pub(crate) async fn on(name: &str, parts: Parts<'_>) -> Self {
        let names = Names::new(&parts.kafka.topic_prefix(name));
        // Beforehand, so that no consumer has to wait for its next look at the topics.
        for topic in names.topics() {
            parts.kafka.create_topic(topic, PARTITIONS).await.expect("a topic can be made");
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let place = Place {
            names,
            brokers: parts.kafka.brokers(),
            product_url: parts.product_url,
            order_url: parts.order_url,
            ack_timeout: "2s",
            // A second one of the same settings, or one that comes back, takes another port.
            binds: [(); 2].map(|()| "127.0.0.1:0".to_owned()),
            open: true,
            collector_url: String::new(),
        };
        let mut stage = Self::prepare(place, folder, None);
        stage.product.start();
        stage.order.start();
        stage
    }

    fn prepare(place: Place, folder: TempDir, broker: Option<EmbeddedBroker>) -> Self {
        let mails = SmtpSink::start().expect("a mail server starts");
        let (product, order) = config(&place, &mails, folder.path());
        Self {
            product: Service::new(product_service::SERVICE, product, &place.product_url),
            order: Service::new(order_service::SERVICE, order, &place.order_url),
            mails,
            topics: Topics::new(place),
            _broker: broker,
            _folder: folder,
        }
    }

    /// Another product-service on the same database and topics.
    pub(crate) fn second_product(&self) -> Service {
        let mut second = self.product.twin();
        second.start();
        second
    }

    /// Stops both services in good order.
    pub(crate) async fn stop(mut self) {
        self.product.stop().await;
        self.order.stop().await;
    }

    /// Waits until every event is PROCESSED.
    pub(crate) async fn settled(&self) {
        eventually("every event to be PROCESSED", PATIENCE, async || {
            let open = self.product.open_events().await.map_err(|error| error.to_string())?;
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await;
    }

    /// Holds the two databases against each other; all events are PROCESSED by now.
    pub(crate) async fn assert_equal_at_rest(&self) {
        let (source, copy) =
            (self.product.states("product").await, self.order.states("product_copy").await);
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

/// How often an event was sent once more only to see whether anybody answers.
const PROBES: &str =
    "(SELECT count(*) FROM outbox_history h WHERE h.event_id = s.id AND h.what = 'PROBED')";
