#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpResponse, web};
use common::db::{Db, ENGINE_MIGRATIONS};
use common::telemetry::{
    BrokerState, Heals, Health, IgnoredAck, LoopStates, Metrics, SignatureOutcome, SignedMessage,
    Trouble, configure, measure,
};
use engine::stats::{SampleGauges, Sampler};
use serde_json::{Value, json};
use stockloop_tests::{database::TestDatabase, on_every_database};

use crate::api::tests::AdminFixture;

on_every_database!(AdminFixture::new => ready_when_the_database_and_its_schema_are, gauges_show_the_newest_sample);

fn metrics_of(sampler: &Sampler) -> Metrics {
    let gauges = SampleGauges {
        sampler: sampler.clone(),
        broker: BrokerState::default(),
        verifiable: vec!["order-service".to_owned()],
    };
    Metrics::new(sampler.consumer(), Box::new(gauges))
}

async fn ask(db: &Db, broker: &BrokerState, path: &str) -> (u16, Value) {
    let health =
        Health::new(db.clone(), &[ENGINE_MIGRATIONS], broker.clone(), LoopStates::default());
    let app = App::new().configure(configure(health, metrics_of(&Sampler::default())));
    let app = init_service(app).await;
    let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&read_body(response).await).unwrap())
}

async fn ready_when_the_database_and_its_schema_are(fixture: AdminFixture) {
    let broker = BrokerState::default();
    let (status, body) = ask(&fixture.db, &broker, "/health/ready").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body,
        json!({ "status": "ready", "database": "ok", "migrations": "ok", "loops": "ok", "broker": { "state": "unknown" }, "consumers": [] })
    );
    broker.down("all brokers are down");
    let (status, body) = ask(&fixture.db, &broker, "/health/ready").await;
    assert_eq!(status, 200, "changes are taken without a broker");
    assert_eq!(body["broker"], json!({ "state": "down", "reason": "all brokers are down" }));
    broker.up();
    assert_eq!(ask(&fixture.db, &broker, "/health/ready").await.1["broker"]["state"], "up");
    a_consumer_that_receives_nothing_is_a_detail(&fixture, &broker).await;
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000000')";
    fixture.write(|conn| conn.batch_execute(newer)).await;
    let (status, body) = ask(&fixture.db, &broker, "/health/ready").await;
    assert_eq!((status, &body["database"]), (503, &json!("ok")));
}

async fn a_consumer_that_receives_nothing_is_a_detail(
    fixture: &AdminFixture,
    broker: &BrokerState,
) {
    let sampler = Sampler::default();
    let gauges =
        SampleGauges { sampler: sampler.clone(), broker: broker.clone(), verifiable: Vec::new() };
    let metrics = Metrics::new(sampler.consumer(), Box::new(gauges));
    let metric = |text: &str| metrics.render().unwrap().contains(text);
    let consumer = broker.consumer("inbox", "inventory", "order-service");
    assert!(!metric("stockloop_consumer_up{"), "it is joining, which is no fault");
    let trouble =
        Trouble { problem: "it may not read", advice: "allow it", heals: Heals::ByItself };
    consumer.failed(0, trouble, "sasl://127.0.0.1:9092 says no");
    let (status, body) = ask(&fixture.db, broker, "/health/ready").await;
    assert_eq!(status, 200, "changes are taken all the same");
    let [told] = body["consumers"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!(
        (&told["state"], &told["problem"], &told["topic"]),
        (&json!("down"), &json!("it may not read"), &json!("inventory"))
    );
    assert!(
        !body.to_string().contains("127.0.0.1"),
        "what the broker said is for operators: {body}"
    );
    assert!(metric("stockloop_consumer_up{consumer=\"inbox\"} 0"));
    consumer.received();
    let body = ask(&fixture.db, broker, "/health/ready").await.1;
    assert_eq!(body["consumers"][0]["state"], "up", "{body}");
    assert!(metric("stockloop_consumer_up{consumer=\"inbox\"} 1"));
}

/// The versions of the engine's migrations, as their folders are named.
fn engine_migrations() -> Vec<String> {
    let folders = std::fs::read_dir("../migrations/common/sqlite").unwrap();
    let version = |name: String| name.split('_').next().unwrap().replace('-', "");
    let mut versions: Vec<String> =
        folders.map(|folder| version(folder.unwrap().file_name().into_string().unwrap())).collect();
    versions.sort();
    versions
}

#[actix_web::test]
async fn pending_migrations_are_named() {
    let database = TestDatabase::sqlite();
    let db = database.open(&[]);
    let broker = BrokerState::default();
    let (status, body) = ask(&db, &broker, "/health/ready").await;
    assert_eq!((status, &body["status"]), (503, &json!("not ready")));
    assert_eq!(body["migrations"], format!("pending: {}", engine_migrations().join(", ")));
    let (status, body) = ask(&db, &broker, "/health/live").await;
    assert_eq!((status, body), (200, json!({ "status": "live" })));
}

#[actix_web::test]
async fn a_lost_database_is_told_soon_and_without_its_address() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    // More patient than the probe, whose own patience counts; what still waits in the end is waited for.
    let db = database.open(&[ENGINE_MIGRATIONS]).with_own_pool(4, Duration::from_secs(5));
    let broker = BrokerState::default();
    assert_eq!(ask(&db, &broker, "/health/ready").await.0, 200);
    database.lose();
    let begun = std::time::Instant::now();
    let (status, body) = ask(&db, &broker, "/health/ready").await;
    assert_eq!((status, &body["status"]), (503, &json!("not ready")), "{body}");
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(!body.to_string().contains("127.0.0.1"), "{body}");
    assert_eq!(ask(&db, &broker, "/health/live").await.0, 200);
}

async fn gauges_show_the_newest_sample(fixture: AdminFixture) {
    let metrics = metrics_of(&fixture.sampler);
    assert!(!metrics.render().unwrap().contains("outbox_events"), "no false 0 before a sample");
    fixture.fill().await;
    fixture.sampler.run_once(&fixture.db, &fixture.env).await.unwrap();
    metrics.relay_sent(12, 5);
    metrics.settled("SUCCESS", 7);
    metrics.acks_ignored(IgnoredAck::UnknownEvent, 1);
    metrics.inbox_events("SUCCESS", 3);
    metrics.signatures(SignedMessage::Ack, SignatureOutcome::Wrong, 2);
    metrics.mails_sent(2);
    metrics.commit_to_sent(Duration::from_millis(2));
    metrics.commit_to_ack(Duration::from_millis(7));
    metrics.commit_to_applied(Duration::from_millis(4));
    metrics.commit_to_applied(Duration::from_secs(3_600));
    // The order within one family is that of a hash map.
    let text = metrics.render().unwrap();
    let untimed =
        text.lines().filter(|line| !line.starts_with("stockloop_sample_duration_seconds "));
    let is_of_several = |line: &&str| {
        ["stockloop_acks_ignored_total", "stockloop_signatures_total"]
            .iter()
            .any(|family| line.starts_with(family))
    };
    let (mut several, mut lines): (Vec<_>, Vec<_>) = untimed.partition(is_of_several);
    several.sort_unstable();
    lines.extend(several);
    insta::assert_snapshot!("metrics", lines.join("\n"));
}

#[actix_web::test]
async fn metrics_are_served_as_open_metrics() {
    let database = TestDatabase::sqlite();
    let health = Health::new(
        database.open(&[ENGINE_MIGRATIONS]),
        &[ENGINE_MIGRATIONS],
        BrokerState::default(),
        LoopStates::default(),
    );
    let app = App::new().configure(configure(health, metrics_of(&Sampler::default())));
    let app = init_service(app).await;
    let get = TestRequest::get().uri("/metrics").to_request();
    let response = call_service(&app, get).await;
    let kind = response.headers().get(CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
    assert!(text.contains("stockloop_relay_sent_total 0") && text.ends_with("# EOF\n"), "{text}");
    let old =
        TestRequest::get().uri("/metrics").insert_header((ACCEPT, "text/plain;version=0.0.4"));
    let response = call_service(&app, old.to_request()).await;
    let kind = response.headers().get(CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
    assert!(text.contains("# TYPE stockloop_relay_sent_total counter\n"), "{text}");
    let post = TestRequest::post().uri("/metrics").to_request();
    assert_eq!(call_service(&app, post).await.status().as_u16(), 405);
}

#[actix_web::test]
async fn requests_are_measured_by_their_route() {
    let metrics = metrics_of(&Sampler::default());
    let measured = metrics.clone();
    let app = App::new()
        .route("/things/{id}", web::get().to(|| async { HttpResponse::Ok().finish() }))
        .wrap(from_fn(move |request, next| measure(measured.clone(), request, next)));
    let app = init_service(app).await;
    for path in ["/things/1", "/things/2", "/nowhere/1", "/nowhere/2"] {
        call_service(&app, TestRequest::get().uri(path).to_request()).await;
    }
    let text = metrics.render().unwrap();
    for (route, status) in [("/things/{id}", "2xx"), ("unmatched", "4xx")] {
        let labels = format!(r#"method="GET",route="{route}",status="{status}""#);
        let count = format!("stockloop_http_request_duration_seconds_count{{{labels}}} 2\n");
        assert!(text.contains(&count), "{count} in {text}");
    }
}
