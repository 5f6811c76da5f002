use std::sync::Arc;
use std::time::Duration;

use engine::alerts::{NewAlert, raise};
use engine::kafka::Record;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::AdminFixture;

on_every_database!(AdminFixture::new =>
    a_service_without_a_copy_of_a_view_says_so,
    how_far_a_copy_of_a_view_is,
    why_a_view_is_not_answered,
);

async fn a_service_without_a_copy_of_a_view_says_so(fixture: AdminFixture) {
    assert_eq!(
        fixture.get("/view").await.body,
        json!({"topic": null, "behind": null, "checked_at": null, "receiving": null, "unanswered": null,
            "partitions": []})
    );
    fixture.get("/view?limit=1").await.is_problem(422, "limit");
}

async fn how_far_a_copy_of_a_view_is(fixture: AdminFixture) {
    let fixture = fixture.copying_a_view();
    assert_eq!(fixture.get("/view").await.body["topic"], "purchases");
    let record = Record {
        topic: "purchases".to_owned(),
        partition: 2,
        offset: 7,
        timestamp: Some(fixture.env.now()),
        ..Record::default()
    };
    let written_at = fixture.env.now().to_string();
    fixture.clock.advance(Duration::from_secs(1));
    let copy = fixture.engine.view.clone().unwrap();
    copy.run_once(Arc::new(vec![record])).await.unwrap();
    let state = fixture.engine.broker.consumer("view", "purchases", "order-service.views");
    state.received();
    let view = fixture.get("/view").await.body;
    assert_eq!(
        view["partitions"],
        json!([{"partition": 2, "next_offset": 8, "end_offset": null, "behind": null,
            "checked_at": null, "written_at": written_at, "taken_at": fixture.env.now().to_string()}])
    );
    assert_eq!((&view["behind"], &view["receiving"]["state"]), (&json!(null), &json!("up")));
}

async fn why_a_view_is_not_answered(fixture: AdminFixture) {
    let fixture = fixture.copying_a_view();
    assert_eq!(fixture.get("/view").await.body["unanswered"], json!(null));
    let words = "3 answers wait <since noon>";
    let now = fixture.env.now();
    let alert = NewAlert::not_answered("order-service", "purchases", "acks", words);
    assert!(fixture.write(move |conn| raise(conn, now, alert)).await);
    assert_eq!(fixture.get("/view").await.body["unanswered"], words);
}
