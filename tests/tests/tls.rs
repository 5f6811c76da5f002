//! TLS with an authority of a test's own: everything may go through it, and a server that it does not certify, or not for
//! this name, or not any more, is refused in words; so is a service by a server that asks for its certificate. Mails and calls
//! are tried so where they are sent, in the engine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
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

use crate::log::{BY_LOG, BY_TABLE, until_more_comes_by_log};
use crate::system::collector::{CollectedSpan, TraceCollector};
use crate::system::{DEADLINE, RealParts, TestService, TestSystem};

const HERE: &str = "127.0.0.1";
const USER: &str = "orders";
const PASSWORD: &str = "kept-by-scram";

/// Who the services are to a database that asks for their certificate.
const ROLE: &str = "shop";

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
async fn the_loop_goes_to_databases_by_certificate() {
    let ours = Authority::new("ours").unwrap();
    let Some(postgres) = certifying_postgres(&ours) else { return };
    let Some(kafka) = real::kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let shown = files_of(&ours.certify(ROLE).unwrap(), folder.path(), ROLE);
    let [product_url, order_url] = ["certified_product", "certified_order"]
        .map(|name| showing(&own_database(&postgres, name, &ours), &shown));
    let parts = RealParts { product_url, order_url, kafka, pgbouncer: None };
    let mut system = TestSystem::prepared("certified", parts).await;
    system.product.restart_with(&[BY_TABLE]).await;
    system.order.start();
    // Instances hear each other by sessions beside their pools.
    let mut second = system.second_product();
    wait_for_certified(&system.product, "query LIKE 'LISTEN %'", 2).await;
    system.product.put_product("TEA", 5).await;
    second.put_product("MUG", 1).await;
    system.wait_until_settled().await;
    second.stop().await;

    // The log is read by another client.
    system.product.restart_with(&[BY_LOG]).await;
    until_more_comes_by_log(&system.product, "LOGGED", 0).await;
    wait_for_certified(&system.product, "backend_type = 'walsender'", 1).await;
    system.wait_until_settled().await;
    system.assert_equal_at_rest().await;
    system.assert_nothing_gave_up().await;
    system.stop().await;
}

#[test]
fn only_who_is_certified_reaches_the_database() {
    let [ours, another] = ["ours", "another"].map(|name| Authority::new(name).unwrap());
    let Some(postgres) = certifying_postgres(&ours) else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = |name: &str, identity: &Identity| files_of(identity, folder.path(), name);
    let [certificate, key] = files("fits", &ours.certify(ROLE).unwrap());
    let [by_another, key_of_another] = files("another", &another.certify(ROLE).unwrap());
    let somebody = files("somebody", &ours.certify("somebody").unwrap());
    let outdated = files("outdated", &ours.certify_once(ROLE).unwrap());
    let nowhere = ["nowhere.pem", "nowhere.key"].map(|name| within(folder.path(), name));
    let open_key = within(folder.path(), "open.key");
    fs::copy(&key, &open_key).unwrap();
    fs::set_permissions(&open_key, Permissions::from_mode(0o644)).unwrap();

    let program = Program::built("product-service");
    let url = own_database(&postgres, "only_certified", &ours);
    let refused = |url: &str, wrong: &str, advice: &str| {
        let env = [("STOCKLOOP__DATABASE__URL", url), ("STOCKLOOP__HTTP__BIND", "127.0.0.1:0")];
        for command in ["migrate", "serve"] {
            let words = ["only_certified_0 can't be reached", wrong, advice];
            program.refusal(&[command], &env, &words);
        }
    };
    let asked = "connection requires a valid client certificate";
    refused(&url, asked, "name a certificate and its key in the URL");
    refused(&showing(&url, &nowhere), asked, "a file that is not there counts as none");
    let of_another = [by_another, key_of_another.clone()];
    refused(&showing(&url, &of_another), "alert unknown ca", "its ssl_ca_file");
    let for_no_such = format!("certificate authentication failed for user \"{ROLE}\"");
    refused(&showing(&url, &somebody), &for_no_such, "has to be the user of the URL");
    refused(&showing(&url, &outdated), "alert certificate expired", "put a new one in its place");
    let too_open = [certificate.clone(), open_key];
    refused(&showing(&url, &too_open), "has group or world access", "chmod 600");
    let mixed = [certificate.clone(), key_of_another];
    refused(&showing(&url, &mixed), "private key file", "the key of the certificate of sslcert");
    let fits = showing(&url, &[certificate, key]);
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

/// A server that is certified by `ours`, and lets [`ROLE`] in by a certificate of the same.
fn certifying_postgres(ours: &Authority) -> Option<PostgresServer> {
    let server = PostgresServer::start_certifying(&ours.certify(HERE).unwrap(), &ours.pem());
    let server = real::available("PostgreSQL", server)?;
    server.execute(&format!("CREATE ROLE {ROLE} LOGIN REPLICATION")).unwrap();
    Some(server)
}

/// The URL of a new database that belongs to [`ROLE`]; no certificate is named in it.
fn own_database(postgres: &PostgresServer, name: &str, authority: &Authority) -> String {
    let url = postgres.database_with(name, &format!("OWNER {ROLE}"));
    verified(&url.replace("//postgres@", &format!("//{ROLE}@")), authority)
}

/// The same with a certificate and its key.
fn showing(url: &str, [certificate, key]: &[String; 2]) -> String {
    format!("{url}&sslcert={certificate}&sslkey={key}")
}

/// Waits until so many of the services' sessions at `service`'s database are `such`; each of all has shown the certificate.
async fn wait_for_certified(service: &TestService, such: &str, wanted: i64) {
    let count = async |condition: &str| {
        let sessions = "SELECT count(*) AS n FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)";
        let here = format!("usename = '{ROLE}' AND datname = current_database()");
        service.count(&format!("{sessions} WHERE {here} AND {condition}")).await
    };
    eventually(&format!("{wanted} sessions where {such}"), DEADLINE, async || {
        match count(such).await {
            n if n == wanted => Ok(()),
            n => Err(n),
        }
    })
    .await;
    let certified = format!("client_dn = '/CN={ROLE}'");
    assert_eq!(count(&format!("{such} AND {certified}")).await, wanted, "{such}");
    assert_eq!(count(&format!("({certified}) IS NOT TRUE")).await, 0, "nobody came in without");
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
    let [certificate, key] = files_of(identity, folder, "client");
    let mut properties = believing(authority, "SSL");
    properties.extend([("ssl.certificate.location", certificate), ("ssl.key.location", key)]);
    properties
}

/// Puts a certificate and its key into files of this name, and returns where they are.
fn files_of(identity: &Identity, folder: &Path, name: &str) -> [String; 2] {
    let files = ["pem", "key"].map(|ending| within(folder, &format!("{name}.{ending}")));
    let [certificate, key] = &files;
    fs::write(certificate, &identity.certificate).unwrap();
    fs::write(key, &identity.key).unwrap();
    // Of a key that others may read PostgreSQL's client makes no use.
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    files
}

fn within(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
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
