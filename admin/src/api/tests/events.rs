use std::time::Duration;

use common::db::DbError;
use common::http::Params;
use common::ids::EventId;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, COMMAND, Is};
use crate::api::events::search::page;

on_every_database!(AdminFixture::new =>
    filters_combine,
    paging_meets_every_event_once,
    a_selective_filter_walks_a_bounded_way,
    one_event_with_its_history,
    an_event_that_waits_for_its_answer,
    bad_filters_are_refused_by_name,
);

async fn filters_combine(fixture: AdminFixture) {
    let a1 = fixture.event("A", 1, Is::Processed).await.to_string();
    let b1 = fixture.event("B", 1, Is::Exhausted).await.to_string();
    let b2 = fixture.event("B", 2, Is::Resolved).await.to_string();
    fixture.clock.advance(Duration::from_secs(3_600));
    let noon = fixture.env.now().to_string();
    let a2 = fixture.event("A", 2, Is::Sent).await.to_string();
    let a3 = fixture.event("A", 3, Is::Pending).await.to_string();
    let order = fixture.event_of(COMMAND, "O-1", 0, Is::Processed).await.to_string();
    let all = [&order, &a3, &a2, &b2, &b1, &a1];
    for (filter, expected) in [
        ("", &all[..]),
        ("status=PENDING", &[&a3]),
        ("status=SENT", &[&a2]),
        ("status=EXHAUSTED", &[&b2, &b1]),
        ("status=EXHAUSTED&resolved=false", &[&b1]),
        ("status=EXHAUSTED&resolved=true&key=B", &[&b2]),
        ("status=PROCESSED", &[&order, &a1]),
        ("status=PROCESSED&key=A", &[&a1]),
        ("status=PENDING&key=B", &[]),
        ("key=A", &[&a3, &a2, &a1]),
        ("key=nobody", &[]),
        ("type=stockloop.order.placed", &[&order]),
        ("type=stockloop.order.placed&status=SENT", &[]),
        ("min_attempts=2", &[&order, &b2, &b1, &a1]),
        ("min_attempts=3&status=PROCESSED", &[]),
        ("min_attempts=5&status=EXHAUSTED", &[&b2, &b1]),
        ("older_than_seconds=1800", &[&b2, &b1, &a1]),
        ("older_than_seconds=1800&status=PROCESSED", &[&a1]),
        ("older_than_seconds=99999999999999999", &[]),
        (&format!("created_after={noon}"), &[&order, &a3, &a2]),
        (&format!("created_after={noon}&status=SENT&key=A"), &[&a2]),
        (&format!("created_after={noon}&older_than_seconds=1"), &[&a3, &a2]),
    ] {
        let page = fixture.get(&format!("/events?{filter}")).await;
        let expected: Vec<String> = expected.iter().map(|id| (*id).clone()).collect();
        assert_eq!(page.items("id"), expected, "{filter}");
        assert_eq!(page.body.get("next"), None, "{filter}");
    }
}

async fn paging_meets_every_event_once(fixture: AdminFixture) {
    let states = [Is::Pending, Is::Sent, Is::Exhausted, Is::Processed];
    let mut ids = Vec::new();
    for number in 0..23 {
        let (key, is) = (format!("K{}", number % 3), states[number % 4]);
        ids.push((fixture.event(&key, 1, is).await.to_string(), key, is));
    }
    ids.reverse();
    let of = |wanted: &dyn Fn(&str, Is) -> bool| -> Vec<String> {
        let wanted = ids.iter().filter(|(_, key, is)| wanted(key, *is));
        wanted.map(|(id, _, _)| id.clone()).collect()
    };
    for limit in [1, 2, 5, 23, 24] {
        let (met, pages) = fixture.walk(&format!("/events?limit={limit}"), "id").await;
        assert_eq!(met, of(&|_, _| true), "{limit} a page");
        assert_eq!(pages, 23_usize.div_ceil(limit));
        let (met, _) = fixture.walk(&format!("/events?limit={limit}&status=SENT"), "id").await;
        assert_eq!(met, of(&|_, is| is == Is::Sent), "{limit} a page");
        let (met, _) = fixture.walk(&format!("/events?limit={limit}&status=PROCESSED"), "id").await;
        assert_eq!(met, of(&|_, is| is == Is::Processed), "{limit} a page");
        let filter = format!("/events?limit={limit}&status=PROCESSED&key=K1");
        let (met, _) = fixture.walk(&filter, "id").await;
        assert_eq!(met, of(&|key, is| is == Is::Processed && key == "K1"), "{limit} a page");
    }
}

async fn a_selective_filter_walks_a_bounded_way(fixture: AdminFixture) {
    use crate::api::events::search::search_of;
    use engine::outbox::search::SearchBounds;
    let rare = fixture.event_of(COMMAND, "O-1", 0, Is::Processed).await;
    for number in 0..30 {
        fixture.event("A", number, Is::Processed).await;
    }
    for query in ["type=stockloop.order.placed&limit=2", "key=O-1&limit=2"] {
        let (mut met, mut pages, mut after) = (Vec::<EventId>::new(), 0, String::new());
        loop {
            let search = search_of(
                Params::parse(&format!("{query}&after={after}")).unwrap(),
                fixture.env.now(),
            )
            .unwrap();
            let bounds = SearchBounds { rows: 10, chunk: 4 };
            let page = fixture
                .db
                .read(move |conn| page(conn, search, bounds).map_err(DbError::from))
                .await
                .unwrap();
            met.extend(page.items.iter().map(|item| item.id));
            pages += 1;
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(met, [rare], "{query}");
        // A key is found by its own index, without passing the others by.
        let expected = if query.starts_with("key") { 1 } else { 3 };
        assert_eq!(pages, expected, "{query}");
    }
}

async fn one_event_with_its_history(fixture: AdminFixture) {
    let id = fixture.event("85123A", 4, Is::Processed).await;
    fixture.history(id, 1, "FAILED", "85123A is in quarantine").await;
    fixture.history(id, 2, "OVERDUE", "").await;
    let event = fixture.get(&format!("/events/{id}")).await;
    assert_eq!(event.status, 200);
    let mut body = event.body;
    assert_eq!(body["id"], id.to_string());
    body["id"] = "<id>".into();
    insta::assert_json_snapshot!("an_event_with_its_history", body);
    let list = fixture.get("/events?key=85123A").await;
    assert_eq!(list.items("last_error"), ["no answer came in time"]);
    let text = fixture.get_text(&format!("/events/{id}")).await;
    assert!(text.contains(r#""price":2.550"#), "digits stay as they were written: {text}");
}

async fn an_event_that_waits_for_its_answer(fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Sent).await;
    fixture.history(id, 0, "UNPRODUCIBLE", "too large").await;
    let event = fixture.get(&format!("/events/{id}")).await.body;
    assert_eq!(event["status"], "SENT");
    assert_eq!(event["last_error"], "too large");
    assert_eq!(event["due_at"], json!(null));
    let history = event["history"].as_array().unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[1]["outcome"], "SENT");
    assert_eq!(history[1]["sent_at"], event["sent_at"]);
    assert_eq!(history[1]["at"], json!(null));
}

async fn bad_filters_are_refused_by_name(fixture: AdminFixture) {
    for (query, field) in [
        ("status=DONE", "status"),
        ("status=pending", "status"),
        ("resolved=perhaps", "resolved"),
        ("min_attempts=many", "min_attempts"),
        ("min_attempts=99999999999", "min_attempts"),
        ("older_than_seconds=-1", "older_than_seconds"),
        ("created_after=yesterday", "created_after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=here", "after"),
        ("colour=red", "colour"),
    ] {
        fixture.get(&format!("/events?{query}")).await.is_problem(422, field);
    }
    fixture.get("/events/not-an-id").await.is_problem(422, "id");
    fixture.get("/events/019b8f00-0000-7000-8000-000000000000").await.is_problem(404, "");
    fixture.get("/events?status=&key=&type=&after=").await.items("id");
}
