use std::time::Duration;

use actix_web::http::header::LOCATION;
use actix_web::test::TestRequest;
use common::on;
use common::schema::{resync_job, verification};
use diesel::prelude::*;
use engine::bulk::JobState;
use engine::kafka::EmbeddedBroker;
use engine::resync::{self, NewResync, ResyncKind};
use engine::verify::{Finding, State};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};
use super::shelf::SEVENTH;

on_every_database!(AdminFixture::new =>
    a_repair_is_of_what_a_verification_found,
    a_repair_is_refused_where_it_is_not_what_was_announced,
    named_keys_are_each_counted_once,
    bad_jobs_are_refused_by_name,
    a_job_runs_and_says_what_it_left,
    a_job_is_cancelled,
    a_replay_is_looked_at_before_it_is_asked_for,
    a_preview_says_what_may_be_gone_and_no_more,
    a_replay_says_where_it_has_got_to,
    replays_that_can_not_be_are_refused_by_name,
    a_replay_into_another_topic_is_looked_at_put_down_and_noted,
    only_topics_that_are_not_of_the_loop_are_sent_into,
    a_topic_that_nobody_can_be_asked_for_is_no_wrong_one,
    a_job_that_was_put_down_is_the_answer_though_its_topic_has_gone,
);

impl AdminFixture {
    async fn resync(&self, body: Value) -> Value {
        let created = self.post("/resyncs", body).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.body
    }

    /// A job that has ended, and left `key` as it is.
    pub(crate) async fn sent_again(&self, key: &str) -> i64 {
        let job = NewResync {
            kind: ResyncKind::Resync,
            selection: json!({ "keys": [key] }).to_string(),
            reason: Some(key.to_owned()),
            state: JobState::Waiting,
            expected: Some(1),
            created_us: self.env.now(),
            created_by: "ada".to_owned(),
            created_via: "session".to_owned(),
        };
        let seq = self.write(move |conn| resync::insert(conn, &job)).await;
        self.step_resync().await;
        seq
    }

    async fn step_resync(&self) {
        let owner = self.engine.collection.as_ref().unwrap().owner().unwrap();
        let (db, env, outbox) = (&self.db, &self.env, &self.outbox);
        let resync = &self.engine.resync;
        let stepped = resync.run_once(db, env, outbox, owner, "order-service").await.unwrap();
        assert!(stepped.worked);
    }
}

fn repair(seq: i64) -> Value {
    json!({ "kind": "repair", "selection": { "differences": seq.to_string() } })
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

async fn a_repair_is_of_what_a_verification_found(fixture: AdminFixture) {
    let found = [("A", Finding::Missing), ("B", Finding::Older), ("C", Finding::Waiting)];
    let seq = fixture.verified(State::Different, &found).await;
    let body = with(with(repair(seq), "expected", json!(2)), "reason", json!("a disk was full"));
    let created = fixture.post("/resyncs", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header(LOCATION), "/api/admin/v1/resyncs/1");
    let expected = json!({
        "seq": "1", "kind": "repair", "selection": { "differences": seq.to_string() },
        "reason": "a disk was full", "state": "waiting", "expected": 2, "done": 0, "skipped": 0,
        "cursor": null, "cursor_version": null, "hindered": null, "verification": null,
        "created_at": fixture.env.now(),
        "created_by": "anonymous", "started_at": null, "ended_at": null, "ended_by": null,
    });
    assert_eq!(created.body, expected);
    fixture.step_resync().await;
    let done = fixture.get("/resyncs/1").await.body;
    assert_eq!((&done["state"], &done["skipped"]), (&json!("done"), &json!(2)));
    let again = done["verification"].as_str().unwrap();
    let again = fixture.get(&format!("/verifications/{again}")).await;
    assert_eq!(again.body["keys_of"], seq.to_string());
    assert_eq!(fixture.get("/audit").await.items("action"), ["resync.end", "resync.create"]);
}

async fn a_repair_is_refused_where_it_is_not_what_was_announced(fixture: AdminFixture) {
    let refused = async |body: Value, kind: &str| {
        let refused = fixture.post("/resyncs", body).await;
        refused.is_problem(409, "");
        assert_eq!(refused.body["type"], format!("urn:stockloop:problem:{kind}"), "{refused:?}");
    };
    let seq = fixture.verified(State::Different, &[("A", Finding::Newer)]).await;
    refused(with(repair(seq), "expected", json!(2)), "preview-changed").await;
    let equal = fixture.verified(State::Equal, &[]).await;
    refused(repair(equal), "nothing-differs").await;
    let open = fixture.post("/verifications", json!({})).await.body["seq"].clone();
    let open: i64 = open.as_str().unwrap().parse().unwrap();
    refused(repair(open), "verification-open").await;
    fixture
        .write(move |conn| {
            let cut = verification::cut.eq(true);
            on!(conn, c => diesel::update(verification::table.find(seq)).set(cut).execute(c))
        })
        .await;
    refused(repair(seq), "verification-cut").await;
    assert_eq!(fixture.get("/resyncs").await.body["items"], json!([]));
    fixture.resync(with(repair(seq), "only_listed", json!(true))).await;
    fixture.post("/resyncs", repair(99)).await.is_problem(404, "");
}

async fn named_keys_are_each_counted_once(fixture: AdminFixture) {
    let body = json!({ "kind": "resync", "selection": { "keys": ["B", "A", "B"] }, "expected": 2 });
    let job = fixture.resync(body.clone()).await;
    assert_eq!(job["selection"], json!({ "keys": ["A", "B"] }));
    assert_eq!(job["expected"], 2);
    fixture.post("/resyncs", with(body, "expected", json!(3))).await.is_problem(409, "");
    let all = fixture.resync(json!({ "kind": "resync", "selection": { "where": {} } })).await;
    assert_eq!((&all["expected"], &all["seq"]), (&json!(null), &json!("2")));
    let which = json!({ "prefix": "P", "changed_since": "2026-01-01T00:00:00Z" });
    let job = json!({ "kind": "resync", "selection": { "where": which } });
    let stored = &fixture.resync(job).await["selection"]["where"];
    assert_eq!(stored["prefix"], "P");
    assert!(stored["changed_since"].as_str().unwrap().starts_with("2026-01-01T00:00:00"));
    assert_eq!(
        fixture.walk("/resyncs?limit=2", "seq").await,
        (vec!["3".to_owned(), "2".to_owned(), "1".to_owned()], 2)
    );
}

async fn bad_jobs_are_refused_by_name(fixture: AdminFixture) {
    let many: Vec<String> = (0..1_001).map(|n| format!("K{n}")).collect();
    let keys = |keys: Value| json!({ "kind": "resync", "selection": { "keys": keys } });
    let which = |which: Value| json!({ "kind": "resync", "selection": { "where": which } });
    for (body, field) in [
        (json!({ "kind": "repair", "selection": { "keys": ["A"] } }), "selection"),
        (json!({ "kind": "resync", "selection": { "differences": "1" } }), "selection"),
        (keys(json!([])), "selection.keys"),
        (keys(json!(many)), "selection.keys"),
        (keys(json!([""])), "selection.keys"),
        (keys(json!(["a\0"])), "selection.keys[0]"),
        (keys(json!(["x".repeat(4_097)])), "selection.keys"),
        (which(json!({ "prefix": "\0" })), "selection.where.prefix"),
        (which(json!({ "prefix": "" })), "selection.where.prefix"),
        (with(which(json!({})), "expected", json!(5)), "expected"),
        (with(keys(json!(["A"])), "expected", json!(-1)), "expected"),
        (with(keys(json!(["A"])), "reason", json!(" ")), "reason"),
        (with(keys(json!(["A"])), "reason", json!("x".repeat(501))), "reason"),
    ] {
        fixture.post("/resyncs", body).await.is_problem(422, field);
    }
    for odd in [which(json!({ "moon": 1 })), json!({ "kind": "moon", "selection": {} })] {
        assert_eq!(fixture.post("/resyncs", odd).await.status, 422);
    }
    let two = json!({ "keys": ["A"], "where": {} });
    for selection in [json!({}), two] {
        for kind in ["restored", "resync", "repair"] {
            let body = json!({ "kind": kind, "selection": selection });
            let refused = fixture.post("/resyncs", body).await;
            refused.is_problem(422, "selection");
            let detail = refused.body["detail"].as_str().unwrap();
            let names = "give exactly one of these here: `differences`, `keys`, `where`, `kept`";
            assert_eq!(detail, names);
        }
    }
    fixture.get("/resyncs/x").await.is_problem(422, "seq");
    fixture.get("/resyncs/7").await.is_problem(404, "");
    fixture.get("/resyncs/7/skipped").await.is_problem(404, "");
    fixture.post("/resyncs/7/cancel", json!({})).await.is_problem(404, "");
}

async fn a_job_runs_and_says_what_it_left(fixture: AdminFixture) {
    let keys = json!({ "keys": ["B", "A", "C"] });
    let job = fixture.resync(json!({ "kind": "resync", "selection": keys })).await;
    fixture.step_resync().await;
    let path = format!("/resyncs/{}", job["seq"].as_str().unwrap());
    let done = fixture.get(&path).await.body;
    assert_eq!(
        (&done["state"], &done["done"], &done["skipped"]),
        (&json!("done"), &json!(0), &json!(3))
    );
    assert_eq!(done["verification"], json!(null), "only repairs are verified");
    let page = fixture.get(&format!("{path}/skipped?limit=2")).await;
    assert_eq!(page.body["items"][0], json!({ "key": "A", "why": "never heard of" }));
    assert_eq!(page.body["next"], "B");
    assert_eq!(fixture.walk(&format!("{path}/skipped?limit=2"), "key").await.0.len(), 3);
}

async fn a_job_is_cancelled(fixture: AdminFixture) {
    let job = fixture.resync(json!({ "kind": "resync", "selection": { "where": {} } })).await;
    let cancel = format!("/resyncs/{}/cancel", job["seq"].as_str().unwrap());
    let cancelled = fixture.post(&cancel, json!({})).await;
    assert_eq!((cancelled.status, &cancelled.body["state"]), (200, &json!("cancelled")));
    let again = fixture.post(&cancel, json!({})).await;
    again.is_problem(409, "");
    assert_eq!(again.body["type"], "urn:stockloop:problem:job-ended");
    assert_eq!(fixture.get("/audit").await.items("action"), ["resync.cancel", "resync.create"]);
}

async fn a_replay_is_looked_at_before_it_is_asked_for(fixture: AdminFixture) {
    fixture.event("A", 2, Is::Pending).await;
    let first = json!(fixture.env.now());
    fixture.event("A", 3, Is::Pending).await;
    let kept = json!({ "consumer": "order-service", "keys": ["A", "B"] });
    let preview = fixture.post("/resyncs/replay-preview", kept.clone()).await;
    let now = json!(fixture.env.now());
    let gone = json!([
        { "key": "A", "kept_from_version": 2, "newest_version": null },
        { "key": "B", "kept_from_version": null, "newest_version": null },
    ]);
    let expected = json!({
        "events": 2, "more": false, "from": first, "to": now, "may_be_gone_before": null, "gone": gone,
    });
    assert_eq!(preview.body, expected);
    let from = json!({ "consumer": "order-service", "keys": ["A"], "from_version": 3 });
    let preview = fixture.post("/resyncs/replay-preview", from).await.body;
    assert_eq!((&preview["events"], &preview["gone"]), (&json!(1), &json!([])));
    let since = json!({ "consumer": "order-service", "since": first });
    let preview = fixture.post("/resyncs/replay-preview", since).await.body;
    assert_eq!((&preview["events"], &preview["gone"]), (&json!(2), &json!([])));
    let asked = json!({ "kind": "replay", "selection": { "kept": kept } });
    let job = fixture.resync(asked).await;
    fixture.step_resync().await;
    let done = fixture.get(&format!("/resyncs/{}", job["seq"].as_str().unwrap())).await.body;
    // This owner has nothing, and without a present state nothing of before is sent.
    assert_eq!((&done["done"], &done["skipped"]), (&json!(0), &json!(2)), "{done}");
    assert_eq!(fixture.get("/audit").await.items("action"), ["resync.end", "resync.create"]);
}

async fn a_preview_says_what_may_be_gone_and_no_more(fixture: AdminFixture) {
    let of = async |kept: Value| {
        let kept = with(kept, "consumer", json!("order-service"));
        fixture.post("/resyncs/replay-preview", kept).await.body
    };
    let now = fixture.env.now();
    let days = |days: u32| now.before(Duration::from_secs(24 * 60 * 60) * days);
    // Nothing was ever deleted here, and nothing says so.
    let young = of(json!({ "since": days(30) })).await;
    assert_eq!((&young["events"], &young["may_be_gone_before"]), (&json!(0), &Value::Null));
    let old = of(json!({ "since": days(31) })).await;
    assert_eq!((&old["events"], &old["may_be_gone_before"]), (&json!(0), &json!(days(30))));
    let beyond = of(json!({ "keys": [SEVENTH], "from_version": 9 })).await;
    let newest = json!([{ "key": SEVENTH, "kept_from_version": null, "newest_version": 7 }]);
    assert_eq!((&beyond["gone"], &beyond["may_be_gone_before"]), (&newest, &Value::Null));
    fixture.event(SEVENTH, 7, Is::Pending).await;
    let whole = of(json!({ "keys": [SEVENTH], "from_version": 7 })).await;
    assert_eq!((&whole["events"], &whole["gone"]), (&json!(1), &json!([])));
}

async fn a_replay_says_where_it_has_got_to(fixture: AdminFixture) {
    let kept = json!({ "kept": { "consumer": "order-service", "keys": ["A", "B"] } });
    fixture.resync(json!({ "kind": "replay", "selection": kept })).await;
    let place = async |cursor: &'static str| {
        fixture
            .write(move |conn| {
                let at = resync_job::cursor.eq(cursor);
                on!(conn, c => diesel::update(resync_job::table.find(1_i64)).set(at).execute(c))
            })
            .await;
        let job = fixture.get("/resyncs/1").await.body;
        (job["cursor"].clone(), job["cursor_version"].clone())
    };
    assert_eq!(place(r#"{"key":"A","version":7}"#).await, (json!("A"), json!(7)));
    assert_eq!(place(r#"{"key":"A"}"#).await, (json!("A"), Value::Null));
}

async fn replays_that_can_not_be_are_refused_by_name(fixture: AdminFixture) {
    let now = fixture.env.now();
    let later = now.after(Duration::from_micros(1));
    for (kept, field) in [
        (json!({ "keys": [] }), "selection.kept"),
        (json!({ "keys": [""] }), "selection.keys"),
        (json!({ "keys": ["A"], "since": now }), "selection.kept.since"),
        (json!({ "since": now, "from_version": 1 }), "selection.kept.since"),
        (json!({ "since": later }), "selection.kept.since"),
        (json!({ "keys": ["A", "B"], "from_version": 1 }), "selection.kept.from_version"),
        (json!({ "keys": ["A"], "from_version": 0 }), "selection.kept.from_version"),
    ] {
        let kept = with(kept, "consumer", json!("order-service"));
        fixture.post("/resyncs/replay-preview", kept.clone()).await.is_problem(422, field);
        let asked = json!({ "kind": "replay", "selection": { "kept": kept } });
        fixture.post("/resyncs", asked).await.is_problem(422, field);
    }
    let nobody = json!({ "kept": { "consumer": "nobody", "keys": ["A"] } });
    let asked = json!({ "kind": "replay", "selection": nobody });
    fixture.post("/resyncs", asked).await.is_problem(422, "selection.kept.consumer");
    for (kind, selection) in [("replay", json!({ "keys": ["A"] })), ("resync", nobody)] {
        let asked = json!({ "kind": kind, "selection": selection });
        fixture.post("/resyncs", asked).await.is_problem(422, "selection");
    }
}

async fn a_replay_into_another_topic_is_looked_at_put_down_and_noted(fixture: AdminFixture) {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("views.stock", 2).unwrap();
    let fixture = fixture.with(|settings| settings.kafka.brokers = broker.brokers());
    fixture.event("A", 2, Is::Pending).await;
    let kept = json!({ "into": "views.stock", "keys": ["A", "B"] });
    let preview = fixture.post("/resyncs/replay-preview", kept.clone()).await.body;
    assert_eq!(preview["events"], 1, "{preview}");
    let asked = json!({ "kind": "replay", "selection": { "kept": kept }, "reason": "a new view" });
    let job = fixture.resync(asked).await;
    assert_eq!(job["selection"], json!({ "kept": kept }));
    let audited = fixture.get("/audit").await.body["items"][0].clone();
    assert_eq!(
        (&audited["action"], &audited["detail"]["selection"]),
        (&json!("resync.create"), &job["selection"])
    );
    let (engine, owner) = (&fixture.engine, fixture.engine.collection.as_ref().unwrap().owner());
    let (db, env) = (&fixture.db, &fixture.env);
    let stepped = engine.resync.run_once(db, env, &fixture.outbox, owner.unwrap(), "order-service");
    let page = stepped.await.unwrap().page.unwrap();
    let sent = page.send(&engine.producer, "product-service").await;
    assert!(sent.as_ref().unwrap().iter().all(Result::is_ok), "{sent:?}");
    engine.resync.note(db, env, page, sent).await.unwrap();
    let done = fixture.get("/resyncs/1").await.body;
    let told = (&done["state"], &done["done"], &done["skipped"], &done["hindered"]);
    assert_eq!(told, (&json!("done"), &json!(1), &json!(1), &Value::Null), "{done}");
    let skipped = fixture.get("/resyncs/1/skipped").await.body;
    assert_eq!(skipped["items"], json!([{ "key": "B", "why": "no event of it is kept" }]));
    assert_eq!(fixture.get("/audit").await.items("action"), ["resync.end", "resync.create"]);
}

async fn only_topics_that_are_not_of_the_loop_are_sent_into(fixture: AdminFixture) {
    let refused = async |kept: Value, field: &str| {
        fixture.post("/resyncs/replay-preview", kept.clone()).await.is_problem(422, field);
        let asked = json!({ "kind": "replay", "selection": { "kept": kept } });
        fixture.post("/resyncs", asked).await.is_problem(422, field);
    };
    let longer = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "ä", "a\n", "__consumer_offsets", longer.as_str()] {
        refused(json!({ "into": name, "keys": ["A"] }), "selection.kept.into").await;
    }
    let kafka = fixture.engine.settings.kafka.clone();
    for own in [
        kafka.outbound_topic,
        kafka.outbound_ack_topic,
        kafka.inbound_topic,
        kafka.inbound_ack_topic,
    ] {
        refused(json!({ "into": own, "keys": ["A"] }), "selection.kept.into").await;
    }
    let both = json!({ "into": "views.stock", "consumer": "order-service", "keys": ["A"] });
    refused(both, "selection.kept").await;
    refused(json!({ "keys": ["A"] }), "selection.kept").await;
    assert_eq!(fixture.get("/resyncs").await.body["items"], json!([]));
}

async fn a_topic_that_nobody_can_be_asked_for_is_no_wrong_one(fixture: AdminFixture) {
    let fixture = fixture.with(|settings| settings.kafka.brokers = "127.0.0.1:1".to_owned());
    let kept = json!({ "kept": { "into": "views.stock", "keys": ["A"] } });
    let asked = json!({ "kind": "replay", "selection": kept });
    fixture.post("/resyncs", asked).await.is_problem(503, "");
}

async fn a_job_that_was_put_down_is_the_answer_though_its_topic_has_gone(fixture: AdminFixture) {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("views.stock", 2).unwrap();
    let fixture = fixture.with(|settings| settings.kafka.brokers = broker.brokers());
    let kept = json!({ "kept": { "into": "views.stock", "keys": ["A"] } });
    let asked = json!({ "kind": "replay", "selection": kept });
    let keyed = |body: &Value| {
        let request = TestRequest::post().uri("/api/admin/v1/resyncs");
        request.insert_header(("idempotency-key", "nightly")).set_json(body)
    };
    let first = fixture.call(keyed(&asked)).await;
    assert_eq!(first.status, 201, "{first:?}");
    let fixture = fixture.with(|settings| settings.kafka.brokers = "127.0.0.1:1".to_owned());
    let again = fixture.call(keyed(&asked)).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    let other = fixture.call(keyed(&json!({ "kind": "replay", "selection": {
        "kept": { "into": "views.stock", "keys": ["B"] }
    } })));
    other.await.is_problem(422, "Idempotency-Key");
}
