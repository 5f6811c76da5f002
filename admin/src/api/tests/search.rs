use common::ids::EventId;
use common::on;
use common::schema::{bulk_item, bulk_job, outbox_event, outbox_history};
use diesel::prelude::*;
use engine::outbox::{NO_ANSWER, NO_ERROR_NOTED};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new =>
    an_error_class_finds_its_events,
    what_waits_is_grouped_by_class,
    one_box_finds_ids_and_keys,
    what_a_job_touched_is_found_again,
    a_timeline_tells_class_job_and_trace,
);

async fn an_error_class_finds_its_events(fixture: AdminFixture) {
    let (a, b) =
        (fixture.event("A", 1, Is::Exhausted).await, fixture.event("B", 1, Is::Exhausted).await);
    let (c, d) =
        (fixture.event("C", 1, Is::Sent).await, fixture.event("D", 1, Is::Exhausted).await);
    fixture.history(a, 1, "FAILED", "no shelf").await;
    fixture.history(a, 2, "FAILED", "shelf 7 is full").await;
    fixture.history(b, 1, "FAILED", "shelf 12 is full").await;
    fixture.history(c, 1, "FAILED", "shelf 9 is full").await;
    fixture.history(d, 1, "OVERDUE", "").await;
    for (filter, expected) in [
        ("error_class=shelf %23 is full", vec![c, b, a]),
        ("error_class=shelf %23 is full&status=EXHAUSTED", vec![b, a]),
        ("error_class=no shelf", vec![]),
        ("error_class=no answer in time", vec![d]),
        ("error_class=no error noted", vec![]),
    ] {
        let page = fixture.get(&format!("/events?{}", filter.replace(' ', "%20"))).await;
        let expected: Vec<String> = expected.iter().map(EventId::to_string).collect();
        assert_eq!(page.items("id"), expected, "{filter}");
    }
    let item = &fixture.get(&format!("/events/{a}")).await.body;
    assert_eq!(item["error_class"], "shelf # is full");
    assert_eq!(item["last_error"], "shelf 7 is full");
}

async fn what_waits_is_grouped_by_class(fixture: AdminFixture) {
    for number in 0..5 {
        let id = fixture.event("A", number, Is::Exhausted).await;
        fixture.history(id, 1, "FAILED", &format!("shelf {number} is full")).await;
    }
    let late = fixture.event("B", 1, Is::Exhausted).await;
    fixture.history(late, 1, "OVERDUE", "").await;
    let untold = fixture.event("C", 1, Is::Exhausted).await;
    for is in [Is::Resolved, Is::Sent] {
        let id = fixture.event("D", 1, is).await;
        fixture.history(id, 1, "FAILED", "of no matter").await;
    }
    let classes = fixture.get("/events/classes").await.body;
    let found: Vec<_> = classes["items"].as_array().unwrap().iter().collect();
    assert_eq!(found.len(), 3, "{classes}");
    assert_eq!((&found[0]["class"], &found[0]["count"]), (&json!("shelf # is full"), &json!(5)));
    assert_eq!(found[1]["class"], NO_ANSWER);
    assert_eq!(found[1]["example_event"], late.to_string());
    assert_eq!(
        (&found[2]["class"], &found[2]["example_event"]),
        (&json!(NO_ERROR_NOTED), &json!(untold))
    );
    assert_eq!((&classes["looked_at"], &classes["complete"]), (&json!(8), &json!(true)));
    use crate::api::events::classes::ErrorClasses;
    use engine::outbox::search::SearchBounds;
    let bounds = SearchBounds { rows: 4, chunk: 2 };
    let cut = fixture.write(move |conn| ErrorClasses::take(conn, bounds)).await;
    assert_eq!((cut.looked_at, cut.complete), (4, false));
}

async fn one_box_finds_ids_and_keys(fixture: AdminFixture) {
    let (first, second) =
        (fixture.event("A", 1, Is::Sent).await, fixture.event("A", 2, Is::Sent).await);
    // An order's id is a key that looks like an event's id.
    let order = "019b8f00-0000-7000-8000-000000000000";
    let placed = fixture.event(order, 0, Is::Exhausted).await;
    for (query, expected) in [
        (first.to_string(), vec![first]),
        (format!("%20{second}%20"), vec![second]),
        ("A".to_owned(), vec![second, first]),
        (order.to_owned(), vec![placed]),
        ("nobody".to_owned(), vec![]),
        (format!("{first}&status=EXHAUSTED"), vec![]),
        ("A&key=A&limit=5".to_owned(), vec![second, first]),
        ("A&key=B".to_owned(), vec![]),
        (format!("{first}&after={first}"), vec![]),
        (EventId::MAX.to_string(), vec![]),
    ] {
        let page = fixture.get(&format!("/events?q={query}")).await;
        let expected: Vec<String> = expected.iter().map(EventId::to_string).collect();
        assert_eq!(page.items("id"), expected, "{query}");
    }
}

async fn what_a_job_touched_is_found_again(fixture: AdminFixture) {
    let mut touched = Vec::new();
    for number in 0..5 {
        touched.push(fixture.event("A", number, Is::Exhausted).await);
    }
    fixture.event("A", 9, Is::Exhausted).await;
    let items = touched.clone();
    let now = fixture.env.now();
    let job: i64 = fixture
        .write(move |conn| {
            let row = (
                bulk_job::action.eq("retry"),
                bulk_job::selection.eq(r#"{"filter":{}}"#),
                bulk_job::state.eq(2_i16),
                bulk_job::expected.eq(5_i64),
                bulk_job::created_us.eq(now),
                bulk_job::created_by.eq("anna"),
                bulk_job::created_via.eq("session"),
            );
            on!(conn, c => {
                let job = diesel::insert_into(bulk_job::table)
                    .values(row)
                    .returning(bulk_job::seq)
                    .get_result(c)?;
                for id in items {
                    diesel::insert_into(bulk_item::table)
                        .values((bulk_item::job.eq(job), bulk_item::event_id.eq(id)))
                        .execute(c)?;
                }
                Ok(job)
            })
        })
        .await;
    let (met, pages) = fixture.walk(&format!("/events?job={job}&limit=2"), "id").await;
    let newest_first: Vec<String> = touched.iter().rev().map(EventId::to_string).collect();
    assert_eq!((met, pages), (newest_first, 3));
    assert!(fixture.get(&format!("/events?job={}", job + 1)).await.items("id").is_empty());
    fixture.get("/events?job=x").await.is_problem(422, "job");
}

async fn a_timeline_tells_class_job_and_trace(fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Exhausted).await;
    fixture.history(id, 5, "FAILED", "shelf 7 is full").await;
    let now = fixture.env.now();
    fixture
        .write(move |conn| {
            let line = (
                outbox_history::event_id.eq(id),
                outbox_history::at_us.eq(now),
                outbox_history::attempt.eq(5),
                outbox_history::what.eq("RETRIED"),
                outbox_history::error.eq("the shelf is mended"),
                outbox_history::by_whom.eq("anna (job 7)"),
            );
            let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            on!(conn, c => {
                diesel::update(outbox_event::table.find(id))
                    .set(outbox_event::traceparent.eq(trace))
                    .execute(c)?;
                diesel::insert_into(outbox_history::table).values(line).execute(c)
            })
        })
        .await;
    let event = fixture.get(&format!("/events/{id}")).await.body;
    assert_eq!(event["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    let upper = "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01";
    fixture
        .write(move |conn| {
            on!(conn, c => diesel::update(outbox_event::table.find(id))
                .set(outbox_event::traceparent.eq(upper))
                .execute(c))
        })
        .await;
    let other = fixture.get(&format!("/events/{id}")).await.body;
    assert_eq!(other["trace_id"], json!(null), "upper case is no traceparent");
    let (failed, retried) = (&event["history"][0], &event["history"][1]);
    assert_eq!(failed["error_class"], "shelf # is full");
    assert_eq!((&failed["by"], &failed["job"]), (&json!(null), &json!(null)));
    assert_eq!((&retried["by"], &retried["job"]), (&json!("anna"), &json!("7")));
    assert_eq!(retried["reason"], "the shelf is mended");
}
