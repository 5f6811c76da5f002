//! What goes away for a while and comes back: it is waited for, costs no attempt and fails no event.

use std::time::{Duration, Instant};

use stockloop_tests::kafka::KafkaBroker;
use stockloop_tests::poll::eventually;
use stockloop_tests::postgres::PostgresServer;
use stockloop_tests::real;

use crate::stage::load::Load;
use crate::stage::random::Random;
use crate::stage::{PARTITIONS, PATIENCE, Parts, Stage};

const CHANGES: usize = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn the_copys_database_goes_away() {
    let (Some(mut postgres), Some(parts)) = (private_postgres(), Parts::shared("copy_gone")) else {
        return;
    };
    let order_url = postgres.database("copy");
    let stage = Stage::on("copy_gone", Parts { order_url, ..parts }).await;
    let mut load = load(&stage).await;
    load.reached(CHANGES / 3).await;
    postgres.stop().expect("it stops");
    answers_are_missed(&stage).await;
    assert_health(&stage.order, 503).await;
    postgres.start_again().expect("it starts");
    load.finished().await;
    assert!(load.seen().statuses.is_empty(), "changes are taken all the while: {:?}", load.seen());
    assert_all_well(stage, &load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_database_goes_away() {
    let (Some(mut postgres), Some(parts)) = (private_postgres(), Parts::shared("source_gone"))
    else {
        return;
    };
    let product_url = postgres.database("source");
    let stage = Stage::on("source_gone", Parts { product_url, ..parts }).await;
    let mut load = load(&stage).await;
    load.reached(CHANGES / 3).await;
    postgres.stop().expect("it stops");
    assert_health(&stage.product, 503).await;
    let body = serde_json::json!({"delta": 1, "reason": "test"});
    let refused = stage.product.post("/api/v1/inventory/SKU-000/adjustments", body).await;
    assert_eq!((refused.status.as_u16(), refused.kind.as_str()), (503, "application/problem+json"));
    assert_eq!(refused.body["status"], 503);
    postgres.start_again().expect("it starts");
    assert_health(&stage.product, 200).await;
    load.finished().await;
    let seen = load.seen();
    assert!(seen.statuses.iter().all(|status| *status == 503), "an outage is no flaw: {seen:?}");
    assert_all_well(stage, &load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_goes_away() {
    let Some(parts) = Parts::shared("broker_gone") else { return };
    let Some(mut kafka) = real::available("Kafka", KafkaBroker::start_private()) else { return };
    let mut stage = Stage::on("broker_gone", Parts { kafka: &kafka, ..parts }).await;
    let mut load = load(&stage).await;
    load.reached(CHANGES / 3).await;
    kafka.stop().expect("it stops");
    load.finished().await;
    assert!(load.seen().statuses.is_empty(), "changes are taken all the while: {:?}", load.seen());
    assert_health(&stage.product, 200).await;
    // A service can be stopped also while the broker is away.
    let begun = Instant::now();
    stage.product.stop().await;
    stage.order.stop().await;
    println!("both stopped within {:?} without a broker", begun.elapsed());
    stage.product.start();
    stage.order.start();
    kafka.start_again().expect("it starts");
    assert_all_well(stage, &load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_freezes() {
    let Some(mut stage) = Stage::real("frozen").await else { return };
    let mut load = load(&stage).await;
    load.reached(CHANGES / 3).await;
    stage.order.child().pause().expect("it can be frozen");
    load.finished().await;
    answers_are_missed(&stage).await;
    stage.order.child().resume().expect("it can go on");
    stage.settled().await;
    assert_only_probes_were_sent_again(&stage).await;
    assert_all_well(stage, &load).await;
}

/// No storm: each event was sent once, and besides only a few probes of each silent partition.
async fn assert_only_probes_were_sent_again(stage: &Stage) {
    let events = stage.product.count("SELECT count(*) AS n FROM outbox_event").await;
    let (first, probes): (Vec<_>, Vec<_>) =
        stage.topics.all_sends().into_iter().partition(|(attempt, _)| *attempt == 1);
    assert_eq!(i64::try_from(first.len()).expect("few"), events, "each event was sent once");
    let partitions = usize::try_from(PARTITIONS).expect("few");
    assert!(probes.len() >= partitions, "each silent partition is probed: {probes:?}");
    assert!(probes.len() <= 8 * partitions, "at growing intervals: {probes:?}");
}

fn private_postgres() -> Option<PostgresServer> {
    real::available("PostgreSQL", PostgresServer::start_private())
}

async fn load(stage: &Stage) -> Load {
    let base = stage.product.base.clone();
    Load::start(&mut Random::new(), &stage.product, &[base], 40, CHANGES).await
}

/// Waits until product-service has noticed that answers are missing, and has probed each partition.
async fn answers_are_missed(stage: &Stage) {
    eventually("an alert of the silence, and two rounds of probes", PATIENCE, async || {
        let alerts = "SELECT count(*) AS n FROM alert WHERE kind = 'silent' AND closed_us IS NULL";
        let probes = "SELECT count(*) AS n FROM outbox_partition WHERE probes >= 2";
        let state = (stage.product.count(alerts).await, stage.product.count(probes).await);
        if state == (1, i64::from(PARTITIONS)) { Ok(()) } else { Err(state) }
    })
    .await;
}

async fn assert_health(service: &crate::stage::Service, ready: u16) {
    eventually(&format!("/health/ready to say {ready}"), PATIENCE, async || {
        let answer = service.get("/health/ready").await;
        if answer.status == ready { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(service.get("/health/live").await.status, 200);
}

async fn assert_all_well(stage: Stage, load: &Load) {
    stage.settled().await;
    stage.assert_equal_at_rest().await;
    stage.assert_nothing_gave_up().await;
    stage.assert_no_attempt_was_lost().await;
    load.assert_each_change_counted_once(&stage.product).await;
    eventually("the end of every silence", Duration::from_secs(20), async || {
        let alerts = "SELECT count(*) AS n FROM alert WHERE closed_us IS NULL";
        match stage.product.count(alerts).await {
            0 => Ok(()),
            open => Err(open),
        }
    })
    .await;
    stage.stop().await;
}
