use std::time::Duration;

use common::clock::Timestamp;
use common::on;
use common::schema::{
    alert, alert_silence, bulk_job, consumer_partition, dead_letter, relay_pause, webhook,
};
use diesel::prelude::*;
use engine::kafka::EmbeddedBroker;
use engine::outbox::renew;
use serde_json::json;
use stockloop_tests::on_every_database;

use stockloop_tests::outbox::change_open;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new =>
    an_empty_database_has_an_overview,
    a_sample_counts_everything,
    a_sample_tells_of_the_parts,
    consumers_are_told_by_partition,
    relays_are_told_with_their_shards,
    rates_are_of_the_last_minute,
    what_the_broker_took_is_counted,
    a_request_does_not_count,
);

async fn an_empty_database_has_an_overview(fixture: AdminFixture) {
    let overview = fixture.get("/overview").await;
    assert_eq!(overview.status, 200, "{overview:?}");
    let mut body = overview.body;
    assert!(body["database"]["sample_seconds"].take().is_f64());
    assert!(body["database"]["backend"].take().is_string());
    insta::assert_json_snapshot!("an_empty_overview", body);
}

impl AdminFixture {
    /// Something of everything that a sample counts.
    pub(crate) async fn fill(&self) {
        self.event("A", 1, Is::Exhausted).await;
        self.event("B", 1, Is::Sent).await;
        for (is, count) in [(Is::Pending, 3), (Is::Resolved, 2), (Is::Processed, 7)] {
            for version in 0..count {
                self.event("C", version, is).await;
            }
        }
        self.alerts(&["one", "two", "three"]).await;
        self.dead_letter(1, vec![1]).await;
        self.put("/quarantine/Z", json!({ "reason": "x" })).await;
        self.clock.advance(Duration::from_millis(1_500));
    }
}

async fn a_sample_counts_everything(fixture: AdminFixture) {
    fixture.fill().await;
    let sample = fixture.sampler.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert!(sample.rest() >= Duration::from_secs(1));
    let mut overview = fixture.get("/overview").await.body;
    let oldest = overview["oldest_unacknowledged"]["id"].take();
    let sent = fixture.get("/events?status=SENT").await.items("id");
    assert_eq!(oldest, sent[0], "the oldest that the loop still has to close");
    assert!(overview["database"]["sample_seconds"].take().as_f64().unwrap() > 0.0);
    assert!(overview["database"]["backend"].take().is_string());
    insta::assert_json_snapshot!("a_full_overview", overview);
}

async fn a_request_does_not_count(fixture: AdminFixture) {
    let first = fixture.get("/overview").await.body;
    fixture.event("A", 1, Is::Pending).await;
    assert_eq!(fixture.get("/overview").await.body, first);
    fixture.sampler.run_once(&fixture.db, &fixture.env).await.unwrap();
    let second = fixture.get("/overview").await.body;
    assert_eq!(second["events"]["PENDING"], 1);
    assert_ne!(second["as_of"], first["as_of"]);
}

impl AdminFixture {
    /// A new sample, as the overview tells of it.
    async fn sampled(&self) -> serde_json::Value {
        self.sampler.run_once(&self.db, &self.env).await.unwrap();
        self.get("/overview").await.body
    }
}

async fn a_sample_tells_of_the_parts(fixture: AdminFixture) {
    fixture.alerts(&["closed", "mailed", "acknowledged"]).await;
    fixture.dead_letter(1, vec![1]).await;
    fixture.dead_letter(2, vec![2]).await;
    let now = fixture.env.now();
    fixture
        .write(move |conn| {
            let silence = (
                alert_silence::key.eq("A"),
                alert_silence::reason.eq("the shelf is counted"),
                alert_silence::created_us.eq(now),
                alert_silence::until_us.eq(now.after(Duration::from_secs(60))),
                alert_silence::by_whom.eq("ada"),
            );
            let called = (
                webhook::delivery_id.eq("w1"),
                webhook::body.eq("{}"),
                webhook::created_us.eq(now),
                webhook::due_us.eq(now),
            );
            let job = (
                bulk_job::action.eq("retry"),
                bulk_job::selection.eq("{}"),
                bulk_job::state.eq(1_i16),
                bulk_job::expected.eq(1_i64),
                bulk_job::created_us.eq(now),
                bulk_job::created_by.eq("ada"),
                bulk_job::created_via.eq("session"),
            );
            let pause = |key: &'static str| {
                (
                    relay_pause::key.eq(key),
                    relay_pause::reason.eq("stocktaking"),
                    relay_pause::since_us.eq(now),
                    relay_pause::by_whom.eq("ada"),
                )
            };
            let handled = dead_letter::table.filter(dead_letter::offset.eq(1_i64));
            let noted = alert::table.filter(alert::subject.eq("acknowledged"));
            on!(conn, c => {
                diesel::insert_into(alert_silence::table).values(silence).execute(c)?;
                diesel::insert_into(webhook::table).values(called).execute(c)?;
                diesel::insert_into(bulk_job::table).values(job).execute(c)?;
                diesel::insert_into(relay_pause::table).values(pause("")).execute(c)?;
                diesel::insert_into(relay_pause::table).values(pause("TEA")).execute(c)?;
                diesel::update(handled).set(dead_letter::state.eq(1_i16)).execute(c)?;
                diesel::update(noted).set(alert::acknowledged_us.eq(now)).execute(c)
            })
        })
        .await;
    let overview = fixture.sampled().await;
    let counts = ["alerts_open", "alerts_acknowledged", "alerts_silenced", "mails_unsent"];
    assert_eq!(counts.map(|name| overview[name].as_i64().unwrap()), [2, 1, 2, 1]);
    let counts = ["webhooks_unsent", "dead_letters", "jobs_open"];
    assert_eq!(counts.map(|name| overview[name].as_i64().unwrap()), [1, 1, 1]);
    assert_eq!(overview["mail"]["last_error"], "connection refused");
    let pause = json!({ "reason": "stocktaking", "since": now, "by": "ada" });
    assert_eq!(overview["relay"]["paused"], pause);
    assert_eq!(overview["relay"]["keys_paused"], 1);
    fixture.clock.advance(Duration::from_secs(61));
    assert_eq!(fixture.sampled().await["alerts_silenced"], 0, "the silence has ended");
}

async fn consumers_are_told_by_partition(fixture: AdminFixture) {
    fixture.event("A", 1, Is::Sent).await;
    fixture.event("B", 1, Is::Sent).await;
    let quiet = fixture.event("C", 1, Is::Sent).await;
    // Failed before: it has a partition, but waits for nobody there.
    let again = fixture.event("D", 1, Is::Sent).await;
    let now = fixture.env.now();
    let topic = fixture.sampler.topic().to_owned();
    fixture
        .write(move |conn| {
            let known = |partition, last: Timestamp, silent: Option<Timestamp>| {
                (
                    consumer_partition::topic.eq(topic.clone()),
                    consumer_partition::partition.eq(partition),
                    consumer_partition::consumer.eq("order-service"),
                    consumer_partition::last_ack_us.eq(last),
                    consumer_partition::silent_us.eq(silent),
                )
            };
            let rows = vec![known(1, Timestamp::default(), Some(now)), known(2, now, None)];
            on!(&mut *conn, c => {
                diesel::insert_into(consumer_partition::table).values(&rows).execute(c)
            })?;
            change_open(conn, quiet, |open| open.partition = Some(1))?;
            change_open(conn, again, |open| open.status = 0)
        })
        .await;
    fixture.clock.advance(Duration::from_secs(7));
    let consumers = fixture.sampled().await["consumers"].take();
    insta::assert_json_snapshot!("consumers_by_partition", consumers);
}

async fn relays_are_told_with_their_shards(fixture: AdminFixture) {
    let lease = Duration::from_secs(60);
    renew(&fixture.db, "a", lease).await.unwrap();
    renew(&fixture.db, "b", lease).await.unwrap();
    renew(&fixture.db, "a", lease).await.unwrap();
    renew(&fixture.db, "b", lease).await.unwrap();
    let relay = fixture.sampled().await["relay"].take();
    let told: Vec<_> = relay["instances"].as_array().unwrap().iter().collect();
    assert_eq!((&told[0]["owner"], &told[0]["shards"]), (&json!("a"), &json!(32)));
    assert_eq!((&told[1]["owner"], &told[1]["shards"]), (&json!("b"), &json!(32)));
    assert_eq!(relay["paused"], json!(null));
}

async fn rates_are_of_the_last_minute(fixture: AdminFixture) {
    assert_eq!(fixture.sampled().await["rates"], json!(null), "one sample tells no rate");
    for version in 0..6 {
        fixture.event("A", version, Is::Processed).await;
    }
    fixture.event("A", 6, Is::Pending).await;
    fixture.clock.advance(Duration::from_secs(3));
    let rates = fixture.sampled().await["rates"].take();
    assert_eq!(
        rates,
        json!({
            "committed": 0.7, "sent": 0.0, "acknowledged": 0.6, "failed": 0.0, "over_seconds": 10.0
        })
    );
    for _ in 0..10 {
        fixture.clock.advance(Duration::from_secs(10));
        fixture.sampled().await;
    }
    let rates = fixture.sampled().await["rates"].take();
    assert_eq!((&rates["committed"], &rates["over_seconds"]), (&json!(0.0), &json!(60.0)));
}

async fn what_the_broker_took_is_counted(fixture: AdminFixture) {
    let broker = EmbeddedBroker::start().unwrap();
    let fixture = fixture.with(|settings| settings.kafka.brokers = broker.brokers());
    broker.create_topic(&fixture.engine.settings.kafka.outbound_topic, 4).unwrap();
    let held = renew(&fixture.db, "me", Duration::from_secs(60)).await.unwrap();
    fixture.event("A", 1, Is::Pending).await;
    fixture.event("B", 1, Is::Pending).await;
    fixture.clock.advance(Duration::from_secs(5));
    let relay = fixture.engine.relay().patient_for(Duration::from_secs(30));
    let mut outcome = relay.run_once(&held).await.unwrap();
    assert_eq!(outcome.sent, 2, "{outcome:?}");
    // In which order partitions answer is theirs.
    outcome.first_sent.sort_by_key(|waited| std::cmp::Reverse(*waited));
    assert_eq!(outcome.first_sent, [6, 5].map(Duration::from_secs), "since their commits");
    let sample = fixture.sampler.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((sample.totals.committed, sample.totals.sent, sample.sent), (2, 2, 2));
}
