//! TLS with an authority of a test's own: everything may go through it, and a server that it does not certify, or not for
//! this name, or not any more, is refused in words. Mails and calls are tried so where they are sent, in the engine.

use std::fs;
use std::path::Path;

use common::config::{KafkaSettings, Settings};
use common::telemetry::{BrokerReport, BrokerState};
use engine::kafka::Producer;
use serde_json::json;
use stockloop_tests::kafka::{Admits, KafkaBroker, SecureListener};
use stockloop_tests::poll::eventually;
use stockloop_tests::postgres::PostgresServer;
use stockloop_tests::program::Program;
use stockloop_tests::real;
use stockloop_tests::tls::{Authority, Identity, TlsFront};

use crate::system::collector::{CollectedSpan, TraceCollector};
use crate::system::{DEADLINE, RealParts, TestService, TestSystem};

const HERE: &str = "127.0.0.1";
const USER: &str = "orders";
const PASSWORD: &str = "kept-by-scram";

/// Settings by their names.
type Named = Vec<(&'static str, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_goes_through_tls() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.certify(HERE).unwrap();
    let Some(postgres) = postgres(&server) else { return };
    let Some(kafka) = kafka(&ours) else { return };
    let parts = RealParts::on(&postgres, &kafka, "tls");
    let [product_url, order_url] =
        [&parts.product_url, &parts.order_url].map(|url| verified(url, &ours));
    let parts = RealParts { product_url, order_url, ..parts };
    let mut system = TestSystem::prepared("tls", parts).await;
    let mails = TlsFront::start(&server, system.mails.port()).await.unwrap();
    let collector = TraceCollector::start();
    let traces = TlsFront::start(&server, collector.port()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();

    let telling = vec![
        ("STOCKLOOP__MAIL__PORT", mails.port().to_string()),
        ("STOCKLOOP__MAIL__TLS", "tls".to_owned()),
        ("STOCKLOOP__MAIL__CA_FILE", ours.file()),
        ("STOCKLOOP__TRACE__OTLP_URL", format!("https://{HERE}:{}", traces.port())),
        ("STOCKLOOP__TRACE__CA_FILE", ours.file()),
        ("STOCKLOOP__KAFKA__BROKERS", kafka.brokers_of("certified")),
    ];
    let certified = by_certificate(&ours, &ours.certify("product").unwrap(), folder.path());
    let of_product = [telling, in_environment(certified)].concat();
    start(&mut system.product, of_product.clone()).await;
    let brokers = vec![("STOCKLOOP__KAFKA__BROKERS", kafka.brokers_of("password"))];
    let known = in_environment(by_password(&ours, PASSWORD));
    start(&mut system.order, [brokers, known].concat()).await;

    system.product.put_product("TEA", 5).await;
    system.wait_until_settled().await;
    system.order.place_order("TEA", 2).await;
    system.wait_until_settled().await;
    system.assert_nothing_gave_up().await;
    assert_eq!(system.product.inventory().await, system.order.inventory().await);
    system.product.post("/api/admin/v1/mails/test", json!({})).await.ok();
    eventually("the test mail", DEADLINE, async || {
        if system.mails.mails().is_empty() { Err("none yet") } else { Ok(()) }
    })
    .await;
    let is_first = |span: &CollectedSpan| span.name.starts_with("PUT /api/v1/inventory");
    collector.wait_for_span("the span of a change", is_first).await;

    // A collector that is not certified is not told; what there would have been to tell stops nothing.
    let another = Authority::new("another").unwrap();
    let unbelieving = vec![("STOCKLOOP__TRACE__CA_FILE", another.file())];
    start(&mut system.product, [of_product, unbelieving].concat()).await;
    system.product.put_product("MUG", 1).await;
    system.product.child().wait_for_line("UnknownIssuer", DEADLINE).unwrap();
    system.wait_until_settled().await;
    system.stop().await;
}

#[test]
fn a_database_that_is_not_certified_is_refused() {
    let [ours, another] = ["ours", "another"].map(|name| Authority::new(name).unwrap());
    let Some(certified) = postgres(&ours.certify(HERE).unwrap()) else { return };
    let Some(outdated) = postgres(&ours.certify_once(HERE).unwrap()) else { return };
    let program = Program::built("product-service");
    let refused = |url: &str, words: &str| {
        program.refusal(&["migrate"], &[("STOCKLOOP__DATABASE__URL", url)], &[words]);
    };
    let url = certified.database("tls");
    let fits = verified(&url, &ours);
    refused(&verified(&url, &another), "certificate verify failed");
    refused(&verified(&outdated.database("tls"), &ours), "certificate verify failed");
    refused(&fits.replace(HERE, "localhost"), "does not match host name \"localhost\"");
    refused(&format!("{url}?sslmode=disable"), "pg_hba.conf");
    program.output(&["migrate"], &[("STOCKLOOP__DATABASE__URL", &fits)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_fit_is_refused() {
    let [ours, another] = ["ours", "another"].map(|name| Authority::new(name).unwrap());
    let Some(kafka) = kafka(&ours) else { return };
    let not_ours = "certificate verify failed";
    for (listener, properties, words) in [
        ("certified", believing(&another, "SSL"), not_ours),
        ("elsewhere", believing(&ours, "SSL"), not_ours),
        ("outdated", believing(&ours, "SSL"), not_ours),
        // Here it is the broker who refuses.
        ("certified", believing(&ours, "SSL"), "SSL alert"),
        ("password", by_password(&ours, "guessed"), "Authentication failed"),
    ] {
        let broker = BrokerState::default();
        let settings = settings_of(kafka.brokers_of(listener), properties);
        let _asks = Producer::new(&settings, "tls", broker.clone()).unwrap();
        eventually(&format!("{listener} to be refused"), DEADLINE, async || {
            match broker.describe() {
                BrokerReport::Down { reason } if reason.contains(words) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
}

fn postgres(identity: &Identity) -> Option<PostgresServer> {
    real::available("PostgreSQL", PostgresServer::start_secured(identity))
}

/// A broker that lets in who is certified by `ours`, or knows a password; and shows wrong certificates elsewhere.
fn kafka(ours: &Authority) -> Option<KafkaBroker> {
    let fits = ours.certify(HERE).unwrap();
    let listeners = [
        ("certified", fits.clone(), Admits::CertifiedBy(ours.pem())),
        ("password", fits, Admits::User(USER, PASSWORD)),
        ("elsewhere", ours.certify("elsewhere.test").unwrap(), Admits::All),
        ("outdated", ours.certify_once(HERE).unwrap(), Admits::All),
    ];
    let listeners =
        listeners.map(|(name, identity, admits)| SecureListener { name, identity, admits });
    real::available("Kafka", KafkaBroker::start_secured(listeners.into()))
}

/// The URL of a database that has to be certified by `authority`.
fn verified(url: &str, authority: &Authority) -> String {
    format!("{url}?sslmode=verify-full&sslrootcert={}", authority.file())
}

/// Kafka's properties of a client that believes `authority`.
fn believing(authority: &Authority, protocol: &str) -> Named {
    vec![("security.protocol", protocol.to_owned()), ("ssl.ca.location", authority.file())]
}

fn by_password(authority: &Authority, password: &str) -> Named {
    let mut properties = believing(authority, "SASL_SSL");
    properties.extend([
        ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
        ("sasl.username", USER.to_owned()),
        ("sasl.password", password.to_owned()),
    ]);
    properties
}

fn by_certificate(authority: &Authority, identity: &Identity, folder: &Path) -> Named {
    let [certificate, key] = ["client.pem", "client.key"].map(|name| folder.join(name));
    fs::write(&certificate, &identity.certificate).unwrap();
    fs::write(&key, &identity.key).unwrap();
    let mut properties = believing(authority, "SSL");
    properties.extend([
        ("ssl.certificate.location", certificate.display().to_string()),
        ("ssl.key.location", key.display().to_string()),
    ]);
    properties
}

/// Kafka's properties as variables of the environment.
fn in_environment(properties: Named) -> Named {
    let variable = |name: &str| {
        let name = name.replace('.', "_").to_uppercase();
        &*format!("STOCKLOOP__KAFKA__PROPERTIES__{name}").leak()
    };
    properties.into_iter().map(|(name, value)| (variable(name), value)).collect()
}

async fn start(service: &mut TestService, environment: Named) {
    let environment: Vec<(&'static str, &'static str)> =
        environment.into_iter().map(|(name, value)| (name, &*value.leak())).collect();
    service.restart_with(&environment).await;
}

/// The defaults, on `brokers` and with `properties`.
fn settings_of(brokers: String, properties: Named) -> KafkaSettings {
    let defaults = product_service::SERVICE.defaults;
    let settings = Settings::load(defaults, None).expect("defaults are settings").kafka;
    let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    KafkaSettings { brokers, properties, ..settings }
}
