use std::time::{Duration, Instant};

use actix_web::test::TestRequest;
use common::event::NewEvent;
use common::ids::EventId;
use common::on;
use common::schema::{audit, bulk_item, outbox_history, outbox_open};
use diesel::prelude::*;
use engine::bulk::{Bulk, Outcome};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use stockloop_tests::outbox::change_open;

use super::fixture::{AdminFixture, COMMAND, Is};

on_every_database!(AdminFixture::new =>
    a_preview_counts_and_changes_nothing,
    a_job_acts_on_what_waits_and_says_why_not_on_others,
    a_job_keeps_to_what_was_there_before_it,
    a_job_acts_on_what_its_preview_showed_and_no_more,
    a_job_without_a_preview_is_refused_where_the_number_differs,
    what_left_the_selection_is_left_alone,
    a_preview_is_of_one_selection_and_for_an_hour,
    named_events_are_their_own_preview,
    a_job_is_cancelled_between_two_steps,
    several_instances_do_nothing_twice,
    ten_thousand_events_take_seconds,
    a_job_that_cannot_be_read_blocks_nobody,
    bad_jobs_are_refused_by_name,
    a_repeated_request_makes_one_job,
);

impl AdminFixture {
    /// Works off what there is to do; returns how many steps that took.
    async fn work_off(&self) -> usize {
        let mut steps = 0;
        while self.step().await.worked {
            steps += 1;
        }
        steps
    }

    async fn step(&self) -> Outcome {
        self.engine.bulk.run_once(&self.db, &self.env, &self.outbox).await.unwrap()
    }

    /// Many EXHAUSTED commands at once.
    async fn exhausted(&self, count: usize) -> Vec<EventId> {
        let outbox = self.outbox.clone();
        let event = |number| NewEvent {
            event_type: COMMAND,
            key: format!("K{number}"),
            version: 0,
            payload: "{}".to_owned(),
            traceparent: None,
        };
        let events: Vec<NewEvent> = (0..count).map(event).collect();
        self.write(move |conn| {
            let ids = outbox.append(conn, events)?;
            for id in &ids {
                change_open(conn, *id, |open| (open.status, open.attempt) = (2, 5))?;
            }
            Ok(ids)
        })
        .await
    }

    async fn job(&self, body: Value) -> String {
        let created = self.post("/jobs", body).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.body["seq"].as_str().unwrap().to_owned()
    }

    /// What a job of `selection` as it is now has to name.
    async fn preview(&self, selection: Value) -> Value {
        let preview = self.post("/jobs/preview", json!({ "selection": selection })).await;
        assert_eq!(preview.status, 200, "{preview:?}");
        preview.body["preview"].clone()
    }

    /// Lets an event that is there give up.
    async fn exhaust(&self, id: EventId) {
        self.write(move |conn| change_open(conn, id, |open| (open.status, open.attempt) = (2, 5)))
            .await;
    }

    async fn counts(&self, status: i16) -> i64 {
        self.write(move |conn| {
            let rows = outbox_open::table.filter(outbox_open::status.eq(status)).count();
            on!(conn, c => rows.get_result(c))
        })
        .await
    }
}

fn retry_all(expected: usize) -> Value {
    json!({
        "action": "retry", "selection": { "filter": { "status": "EXHAUSTED" } },
        "reason": "the copy is back", "attempts": 2, "expected": expected,
    })
}

/// A job's body that names the preview that it is of.
fn previewed(mut body: Value, preview: &Value) -> Value {
    body["preview"] = preview.clone();
    body
}

async fn a_preview_counts_and_changes_nothing(fixture: AdminFixture) {
    let ids = fixture.exhausted(12).await;
    fixture.event("A", 1, Is::Sent).await;
    let filter = json!({ "selection": { "filter": { "status": "EXHAUSTED" } } });
    let preview = fixture.post("/jobs/preview", filter).await;
    assert_eq!(preview.status, 200, "{preview:?}");
    assert_eq!(preview.body["matches"], 12);
    assert_eq!(preview.body["at_least"], false);
    let examples = preview.body["examples"].as_array().unwrap();
    assert_eq!((examples.len(), &examples[0]["id"]), (5, &json!(ids[11])));
    let named = json!({ "selection": { "ids": [ids[0], ids[0], ids[3]] } });
    assert_eq!(fixture.post("/jobs/preview", named).await.body["matches"], 2);
    assert_eq!(fixture.get("/jobs").await.body["items"], json!([]));
    assert_eq!(fixture.counts(2).await, 12);
}

async fn a_job_acts_on_what_waits_and_says_why_not_on_others(fixture: AdminFixture) {
    let waiting = fixture.event("A", 1, Is::Exhausted).await;
    let resolved = fixture.event("A", 2, Is::Resolved).await;
    let sent = fixture.event("A", 3, Is::Sent).await;
    let processed = fixture.event("A", 4, Is::Processed).await;
    let body = json!({
        "action": "resolve", "selection": { "filter": { "key": "A" } },
        "reason": "corrected by hand", "expected": 4,
    });
    let job = fixture.job(body).await;
    let seen = fixture.get(&format!("/jobs/{job}")).await.body;
    assert_eq!((&seen["state"], &seen["done"]), (&json!("waiting"), &json!(0)));
    assert_eq!(fixture.step().await, Outcome { worked: true, done: 1, skipped: 3 });
    assert_eq!(fixture.step().await, Outcome::default());
    let done = fixture.get(&format!("/jobs/{job}")).await.body;
    assert_eq!(done["state"], "done");
    assert_eq!(
        (&done["expected"], &done["done"], &done["skipped"]),
        (&json!(4), &json!(1), &json!(3))
    );
    assert_eq!(done["ended_at"], fixture.env.now().to_string());
    assert_eq!(done["selection"], json!({ "filter": { "key": "A" } }));
    let items = fixture.get(&format!("/jobs/{job}/items?skipped=true")).await;
    let ids: Vec<String> = [processed, sent, resolved].iter().map(EventId::to_string).collect();
    assert_eq!(items.items("event_id"), ids);
    let why = items.items("skipped");
    assert!(why[0].contains("PROCESSED") && why[1].contains("SENT"), "{why:?}");
    assert!(why[2].contains("resolved already"), "{why:?}");
    let acted = fixture.get(&format!("/jobs/{job}/items?skipped=false")).await;
    assert_eq!(acted.items("event_id"), [waiting.to_string()]);
    let line = &fixture.get(&format!("/events/{waiting}")).await.body["history"][0];
    assert_eq!((&line["outcome"], &line["job"]), (&json!("RESOLVED"), &json!(job)));
    assert_eq!((&line["by"], &line["reason"]), (&json!("anonymous"), &json!("corrected by hand")));
    let noted: Vec<(String, Option<String>)> = fixture
        .write(|conn| {
            on!(conn, c => audit::table
                .order(audit::seq)
                .select((audit::action, audit::subject))
                .load(c))
        })
        .await;
    let noted: Vec<&str> = noted.iter().map(|(action, _)| &**action).collect();
    assert_eq!(noted, ["job.create", "job.end"]);
    let found = fixture.get(&format!("/events?job={job}")).await;
    assert_eq!(found.items("id").len(), 4);
    assert_eq!(fixture.walk(&format!("/jobs/{job}/items?limit=3"), "event_id").await.1, 2);
}

async fn a_job_keeps_to_what_was_there_before_it(fixture: AdminFixture) {
    fixture.exhausted(3).await;
    let job = fixture.job(retry_all(3)).await;
    fixture.event("LATER", 1, Is::Exhausted).await;
    fixture.work_off().await;
    assert_eq!(fixture.get(&format!("/jobs/{job}")).await.body["done"], 3);
    assert_eq!((fixture.counts(0).await, fixture.counts(2).await), (3, 1));
}

async fn a_job_acts_on_what_its_preview_showed_and_no_more(fixture: AdminFixture) {
    let shown = fixture.event("A", 1, Is::Exhausted).await;
    let later = fixture.event("B", 1, Is::Sent).await;
    let preview = fixture.preview(json!({ "filter": { "status": "EXHAUSTED" } })).await;
    // Older than the preview, and EXHAUSTED only now: once before the job is there, once after.
    fixture.exhaust(later).await;
    let job = fixture.job(previewed(retry_all(1), &preview)).await;
    let last = fixture.event("C", 1, Is::Exhausted).await;
    assert_eq!(fixture.work_off().await, 1);
    let done = fixture.get(&format!("/jobs/{job}")).await.body;
    assert_eq!(
        (&done["state"], &done["done"], &done["skipped"]),
        (&json!("done"), &json!(1), &json!(0))
    );
    let items = fixture.get(&format!("/jobs/{job}/items")).await;
    assert_eq!(items.items("event_id"), [shown.to_string()]);
    let waiting = fixture.get("/events?status=EXHAUSTED").await.items("id");
    assert_eq!(waiting, [last.to_string(), later.to_string()]);
}

async fn a_job_without_a_preview_is_refused_where_the_number_differs(fixture: AdminFixture) {
    fixture.event("A", 1, Is::Exhausted).await;
    let later = fixture.event("B", 1, Is::Sent).await;
    fixture.exhaust(later).await;
    let refused = fixture.post("/jobs", retry_all(1)).await;
    refused.is_problem(409, "");
    assert_eq!(refused.body["type"], "urn:stockloop:problem:preview-changed");
    assert!(refused.body["detail"].as_str().unwrap().contains("2 events match now"));
    assert_eq!(fixture.get("/jobs").await.body["items"], json!([]));
    let job = fixture.job(retry_all(2)).await;
    // What the job covers was settled when it was asked for.
    let last = fixture.event("C", 1, Is::Exhausted).await;
    fixture.work_off().await;
    assert_eq!(fixture.get(&format!("/jobs/{job}")).await.body["done"], 2);
    assert_eq!(fixture.get("/events?status=EXHAUSTED").await.items("id"), [last.to_string()]);
}

async fn what_left_the_selection_is_left_alone(fixture: AdminFixture) {
    let filter = json!({ "filter": { "status": "EXHAUSTED", "resolved": false } });
    let resolved = fixture.event("A", 1, Is::Exhausted).await;
    let retried = fixture.event("B", 1, Is::Exhausted).await;
    let stays = fixture.event("C", 1, Is::Exhausted).await;
    let preview = fixture.preview(filter.clone()).await;
    let seen_to = json!({ "reason": "counted by hand" });
    assert_eq!(fixture.post(&format!("/events/{resolved}/resolve"), seen_to).await.status, 200);
    assert_eq!(fixture.post(&format!("/events/{retried}/retry"), json!({})).await.status, 200);
    let body = json!({ "action": "retry", "selection": filter, "expected": 3 });
    let job = fixture.job(previewed(body, &preview)).await;
    assert_eq!(fixture.step().await, Outcome { worked: true, done: 1, skipped: 2 });
    let done = fixture.get(&format!("/jobs/{job}/items?skipped=false")).await;
    assert_eq!(done.items("event_id"), [stays.to_string()]);
    let skipped = fixture.get(&format!("/jobs/{job}/items?skipped=true")).await;
    assert_eq!(skipped.items("event_id"), [retried.to_string(), resolved.to_string()]);
    let why = skipped.items("skipped");
    assert!(why[0].contains("PENDING") && why[1].contains("resolved by now"), "{why:?}");
}

async fn a_preview_is_of_one_selection_and_for_an_hour(fixture: AdminFixture) {
    fixture.exhausted(2).await;
    let preview = fixture.preview(json!({ "filter": { "status": "EXHAUSTED" } })).await;
    let other = json!({ "filter": { "status": "EXHAUSTED", "key": "K1" } });
    let other = json!({ "action": "retry", "selection": other, "expected": 2 });
    fixture.post("/jobs", previewed(other, &preview)).await.is_problem(422, "selection");
    fixture.post("/jobs", previewed(retry_all(1), &preview)).await.is_problem(409, "");
    fixture.post("/jobs", previewed(retry_all(2), &json!("99"))).await.is_problem(409, "");
    fixture.post("/jobs", previewed(retry_all(2), &json!("x"))).await.is_problem(422, "preview");
    fixture.clock.advance(Duration::from_secs(3_601));
    let over = fixture.post("/jobs", previewed(retry_all(2), &preview)).await;
    assert_eq!(over.body["type"], "urn:stockloop:problem:preview-over");
}

async fn named_events_are_their_own_preview(fixture: AdminFixture) {
    let ids = fixture.exhausted(3).await;
    let named = json!({ "ids": [ids[0], ids[2], ids[0]] });
    let preview = fixture.post("/jobs/preview", json!({ "selection": named })).await;
    assert_eq!((&preview.body["matches"], &preview.body["preview"]), (&json!(2), &json!(null)));
    let body = |expected| json!({ "action": "retry", "selection": named, "expected": expected });
    fixture.post("/jobs", body(3)).await.is_problem(409, "");
    fixture.job(body(2)).await;
    assert_eq!(fixture.step().await, Outcome { worked: true, done: 2, skipped: 0 });
    assert_eq!((fixture.counts(0).await, fixture.counts(2).await), (2, 1));
}

async fn a_job_is_cancelled_between_two_steps(fixture: AdminFixture) {
    fixture.exhausted(700).await;
    let job = fixture.job(retry_all(700)).await;
    assert_eq!(fixture.step().await.done, 500);
    let running = fixture.get(&format!("/jobs/{job}")).await.body;
    assert_eq!((&running["state"], &running["done"]), (&json!("running"), &json!(500)));
    let cancelled = fixture.post(&format!("/jobs/{job}/cancel"), json!({})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(cancelled.body["state"], "cancelled");
    assert_eq!(cancelled.body["ended_by"], "anonymous");
    assert!(!fixture.step().await.worked);
    assert_eq!((fixture.counts(0).await, fixture.counts(2).await), (500, 200));
    fixture.post(&format!("/jobs/{job}/cancel"), json!({})).await.is_problem(409, "");
    fixture.post("/jobs/99/cancel", json!({})).await.is_problem(404, "");
}

async fn several_instances_do_nothing_twice(fixture: AdminFixture) {
    fixture.exhausted(1_600).await;
    let job = fixture.job(retry_all(1_600)).await;
    let instance = || async {
        let bulk = Bulk::default();
        let mut done = 0;
        // An instance that finds the job in other hands has nothing to do; it comes back with its timer.
        for _ in 0..8 {
            done += bulk.run_once(&fixture.db, &fixture.env, &fixture.outbox).await.unwrap().done;
        }
        done
    };
    let (a, b, c) = tokio::join!(instance(), instance(), instance());
    assert_eq!(a + b + c, 1_600);
    let seen = fixture.get(&format!("/jobs/{job}")).await.body;
    assert_eq!((&seen["state"], &seen["done"]), (&json!("done"), &json!(1_600)));
    let (lines, items): (i64, i64) = fixture
        .write(|conn| {
            on!(conn, c => Ok((
                outbox_history::table.count().get_result(c)?,
                bulk_item::table.count().get_result(c)?,
            )))
        })
        .await;
    assert_eq!((lines, items), (1_600, 1_600), "each event has one line and one note");
}

async fn ten_thousand_events_take_seconds(fixture: AdminFixture) {
    fixture.exhausted(10_000).await;
    let preview = fixture.post("/jobs/preview", json!({ "selection": { "filter": {} } })).await;
    assert_eq!(preview.body["matches"], 10_000);
    let job = fixture.job(retry_all(10_000)).await;
    let begun = Instant::now();
    assert_eq!(fixture.work_off().await, 20);
    let took = begun.elapsed();
    eprintln!("10,000 events in {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(fixture.get(&format!("/jobs/{job}")).await.body["done"], 10_000);
    assert_eq!(fixture.counts(0).await, 10_000);
}

async fn a_job_that_cannot_be_read_blocks_nobody(fixture: AdminFixture) {
    use common::schema::bulk_job;
    fixture.exhausted(1).await;
    let odd = fixture.job(retry_all(1)).await;
    fixture
        .write(|conn| {
            on!(conn, c => diesel::update(bulk_job::table)
                .set(bulk_job::selection.eq(r#"{"moon":1}"#))
                .execute(c))
        })
        .await;
    let next = fixture.job(retry_all(1)).await;
    fixture.work_off().await;
    let odd = fixture.get(&format!("/jobs/{odd}")).await.body;
    assert_eq!(odd["state"], "cancelled");
    assert!(odd["ended_by"].as_str().unwrap().contains("can't read it"));
    assert_eq!(fixture.get(&format!("/jobs/{next}")).await.body["done"], 1);
}

async fn bad_jobs_are_refused_by_name(fixture: AdminFixture) {
    let filter = json!({ "filter": {} });
    let many: Vec<EventId> = (0..1_001).map(|_| fixture.env.event_id()).collect();
    for (body, field) in [
        (json!({ "action": "resolve", "selection": filter, "expected": 1 }), "reason"),
        (json!({ "action": "retry", "selection": filter, "expected": -1 }), "expected"),
        (json!({ "action": "retry", "selection": filter }), "expected"),
        (
            json!({ "action": "retry", "selection": filter, "expected": 1, "attempts": 0 }),
            "attempts",
        ),
        (
            json!({ "action": "resolve", "selection": filter, "expected": 1, "reason": "x", "attempts": 1 }),
            "attempts",
        ),
        (json!({ "action": "forget", "selection": filter, "expected": 1 }), "action"),
        (json!({ "action": "retry", "selection": { "ids": [] }, "expected": 0 }), "selection.ids"),
        (
            json!({ "action": "retry", "selection": { "ids": many }, "expected": 0 }),
            "selection.ids",
        ),
        (
            json!({ "action": "retry", "selection": { "filter": { "colour": 1 } }, "expected": 0 }),
            "selection.filter.colour",
        ),
    ] {
        fixture.post("/jobs", body).await.is_problem(422, field);
    }
    fixture.get("/jobs/7").await.is_problem(404, "");
    fixture.get("/jobs/x").await.is_problem(422, "seq");
    fixture.get("/jobs/7/items").await.is_problem(404, "");
}

async fn a_repeated_request_makes_one_job(fixture: AdminFixture) {
    let request = || {
        TestRequest::post()
            .uri("/api/admin/v1/jobs")
            .insert_header(("idempotency-key", "k1"))
            .set_json(retry_all(0))
    };
    let (first, second) = (fixture.call(request()).await, fixture.call(request()).await);
    assert_eq!((first.status, &first.body), (201, &second.body));
    assert_eq!(fixture.get("/jobs").await.items("seq").len(), 1);
    let woken = fixture.engine.bulk.notify().notified();
    assert!(tokio::time::timeout(Duration::from_secs(5), woken).await.is_ok(), "it is woken");
}
