//! What goes away for a while and comes back: it is waited for, costs no attempt and fails no event.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually;
use stockloop_tests::postgres::PostgresServer;
use stockloop_tests::real;
use tokio::time::timeout;

use crate::system::load::Load;
use crate::system::random::Random;
use crate::system::{DEADLINE, PARTITIONS, RealParts, TestService, TestSystem, http_client};

const CHANGES: usize = 1_500;

/// `TimeoutStopSec` of the units in `deploy/systemd`.
const PATIENCE_OF_SYSTEMD: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_copys_database_goes_away() {
    let (Some(mut postgres), Some(parts)) = (private_postgres(), RealParts::shared("copy_gone"))
    else {
        return;
    };
    let order_url = postgres.database("copy");
    let system = TestSystem::on("copy_gone", RealParts { order_url, ..parts }).await;
    let mut load = load(&system).await;
    load.reached(CHANGES / 3).await;
    postgres.stop().expect("it stops");
    answers_are_missed(&system).await;
    assert_health(&system.order, 503).await;
    postgres.start_again().expect("it starts");
    load.finished().await;
    assert!(
        load.failures().statuses.is_empty(),
        "changes are taken all the while: {:?}",
        load.failures()
    );
    assert_all_well(system, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_database_goes_away() {
    let (Some(mut postgres), Some(parts)) = (private_postgres(), RealParts::shared("source_gone"))
    else {
        return;
    };
    let product_url = postgres.database("source");
    let system = TestSystem::on("source_gone", RealParts { product_url, ..parts }).await;
    let mut load = load(&system).await;
    load.reached(CHANGES / 3).await;
    postgres.stop().expect("it stops");
    assert_health(&system.product, 503).await;
    let body = serde_json::json!({"delta": 1, "reason": "test"});
    let refused = system.product.post("/api/v1/inventory/SKU-000/adjustments", body).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.body["status"], 503);
    postgres.start_again().expect("it starts");
    assert_health(&system.product, 200).await;
    load.finished().await;
    let failures = load.failures();
    let unavailable = failures.statuses.iter().all(|status| *status == 503);
    assert!(unavailable, "an outage is no flaw: {failures:?}");
    assert_all_well(system, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_goes_away() {
    let Some(parts) = RealParts::shared("broker_gone") else { return };
    let Some(mut kafka) = real::available("Kafka", KafkaBroker::start_private()) else { return };
    let mut system = TestSystem::on("broker_gone", RealParts { kafka: &kafka, ..parts }).await;
    let mut load = load(&system).await;
    load.reached(CHANGES / 3).await;
    kafka.stop().expect("it stops");
    load.finished().await;
    assert!(
        load.failures().statuses.is_empty(),
        "changes are taken all the while: {:?}",
        load.failures()
    );
    assert_health(&system.product, 200).await;
    // A service can be stopped also while the broker is away.
    let begun = Instant::now();
    system.stop_both().await;
    println!("both stopped within {:?} without a broker", begun.elapsed());
    system.start_both();
    kafka.start_again().expect("it starts");
    assert_all_well(system, load).await;
}

/// Nobody answers whoever leaves its groups.
#[tokio::test(flavor = "multi_thread")]
async fn services_end_while_the_broker_is_frozen() {
    let Some(parts) = RealParts::shared("broker_frozen") else { return };
    let Some(kafka) = real::available("Kafka", KafkaBroker::start_private()) else { return };
    let mut system = TestSystem::on("broker_frozen", RealParts { kafka: &kafka, ..parts }).await;
    let mut load = load(&system).await;
    load.reached(CHANGES / 3).await;
    kafka.pause().expect("it can be frozen");
    load.finished().await;
    timeout(PATIENCE_OF_SYSTEMD, system.stop_both())
        .await
        .expect("they end before they are killed");
    kafka.resume().expect("it can go on");
    system.start_both();
    assert_all_well(system, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_freezes() {
    let Some(mut system) = TestSystem::real("frozen").await else { return };
    let mut load = load(&system).await;
    load.reached(CHANGES / 3).await;
    let frozen = Instant::now();
    system.order.child().pause().expect("it can be frozen");
    load.finished().await;
    answers_are_missed(&system).await;
    system.order.child().resume().expect("it can go on");
    system.wait_until_settled().await;
    assert_only_probes_were_sent_again(&system, frozen.elapsed()).await;
    assert_all_well(system, load).await;
}

/// One of two instances freezes in the middle of a transaction, which holds the lock of a product then.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_freezes_in_a_transaction() {
    let Some(parts) = RealParts::shared("frozen_midway") else { return };
    let product_url = parts.product_url.clone();
    let mut system = TestSystem::on("frozen_midway", parts).await;
    system.product.restart_with(&[]).await;
    let mut second = system.second_product();
    system.product.put_product("TEA", 5).await;
    // Nothing but the change below is to wait for the table.
    system.order.wait_until_complete().await;
    system.wait_until_settled().await;
    let tea = format!("{}/api/v1/inventory/TEA/adjustments", system.product.base_url.get());
    let change = http_client(0).post(tea).json(&serde_json::json!({"delta": 1, "reason": "test"}));

    let mut gate = PgConnection::establish(&product_url).expect("it connects");
    gate.batch_execute("BEGIN; LOCK TABLE outbox_event IN SHARE MODE").expect("it is locked");
    let change = tokio::spawn(change.send());
    let session = session_that_waits(&system.product).await;
    system.product.child().pause().expect("it can be frozen");
    gate.batch_execute("ROLLBACK").expect("it is released");
    let left = format!("SELECT count(*) AS n FROM pg_stat_activity WHERE pid = {session}");
    eventually("its transaction to end", DEADLINE, async || {
        if system.product.count(&left).await == 0 { Ok(()) } else { Err(()) }
    })
    .await;
    second.adjust("TEA", 10).await;
    system.wait_until_settled().await;
    system.product.child().resume().expect("it can go on");
    let answer = change.await.expect("it is awaited");
    assert!(!answer.is_ok_and(|answer| answer.status().is_success()), "it was undone");
    assert_health(&system.product, 200).await;
    assert_eq!(system.order.inventory().await[0].quantity, 15);
    system.assert_equal_at_rest().await;
    second.stop().await;
    system.stop().await;
}

/// The server process of the transaction that has written and waits to append its event; not one that takes old ones away.
async fn session_that_waits(service: &TestService) -> i64 {
    let waits = "SELECT coalesce(max(pid), 0)::bigint AS n FROM pg_stat_activity \
        WHERE datname = current_database() AND backend_xid IS NOT NULL AND wait_event = 'relation' \
          AND query LIKE '%INSERT INTO outbox_event%'";
    eventually("a change that waits", DEADLINE, async || match service.count(waits).await {
        0 => Err(()),
        pid => Ok(pid),
    })
    .await
}

/// No storm: each event was sent once, and besides only a few probes of each silent partition.
async fn assert_only_probes_were_sent_again(system: &TestSystem, silent_for: Duration) {
    let events = system.product.count("SELECT count(*) AS n FROM outbox_event").await;
    let (first, probes): (Vec<_>, Vec<_>) =
        system.topics.all_sends().into_iter().partition(|(attempt, _)| *attempt == 1);
    assert_eq!(i64::try_from(first.len()).expect("few"), events, "each event was sent once");
    let partitions = usize::try_from(PARTITIONS).expect("few");
    assert!(probes.len() >= partitions, "each silent partition is probed: {probes:?}");
    // Each waits for at least four fifths of `probe_after`.
    let pauses = usize::try_from(silent_for.as_millis() / 400).expect("few");
    assert!(probes.len() <= (pauses + 1) * partitions, "one after the other: {probes:?}");
}

fn private_postgres() -> Option<PostgresServer> {
    real::available("PostgreSQL", PostgresServer::start_private())
}

async fn load(system: &TestSystem) -> Load {
    let base = system.product.base_url.clone();
    Load::start(&mut Random::new(), &system.product, &[base], 40, CHANGES).await
}

/// Waits until product-service has noticed that answers are missing, and has probed each partition.
async fn answers_are_missed(system: &TestSystem) {
    eventually("an alert of the silence, and two rounds of probes", DEADLINE, async || {
        let alerts = "SELECT count(*) AS n FROM alert WHERE kind = 'silent' AND closed_us IS NULL";
        let probes = "SELECT count(*) AS n FROM consumer_partition WHERE probes >= 2";
        let state = (system.product.count(alerts).await, system.product.count(probes).await);
        if state == (1, i64::from(PARTITIONS)) { Ok(()) } else { Err(state) }
    })
    .await;
}

async fn assert_health(service: &TestService, ready: u16) {
    eventually(&format!("/health/ready to say {ready}"), DEADLINE, async || {
        let answer = service.get("/health/ready").await;
        if answer.status == ready { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(service.get("/health/live").await.status, 200);
}

async fn assert_all_well(system: TestSystem, mut load: Load) {
    load.assert_all_arrived(&system).await;
    system.assert_no_attempt_was_lost().await;
    eventually("the end of every silence", DEADLINE, async || {
        let alerts = "SELECT count(*) AS n FROM alert WHERE closed_us IS NULL";
        match system.product.count(alerts).await {
            0 => Ok(()),
            open => Err(open),
        }
    })
    .await;
    system.stop().await;
}
