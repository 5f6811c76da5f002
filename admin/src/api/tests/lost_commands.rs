use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::lost_command;
use diesel::prelude::*;
use engine::lost::{LostCommand, State};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::AdminFixture;

const AT: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

on_every_database!(AdminFixture::new =>
    lost_commands_are_listed_and_decided_once,
    bad_decisions_are_refused_by_name,
);

/// Puts down that commands of these keys are lost.
pub(crate) async fn lose(fixture: &AdminFixture, keys: &[&str]) -> Vec<EventId> {
    let row = |key: &&str| LostCommand {
        event_id: fixture.env.event_id(),
        found_by: 1,
        event_type: "command".to_owned(),
        key: (*key).to_owned(),
        payload: "{}".to_owned(),
        state: State::Open,
        settled_us: AT,
        found_us: AT,
        closed_us: None,
        closed_by: None,
        reason: None,
        sent_as: None,
    };
    let rows: Vec<LostCommand> = keys.iter().map(row).collect();
    let ids = rows.iter().map(|row| row.event_id).collect();
    let insert = move |conn: &mut Conn| on!(conn, c => diesel::insert_into(lost_command::table).values(&rows).execute(c));
    fixture.write(insert).await;
    ids
}

async fn lost_commands_are_listed_and_decided_once(fixture: AdminFixture) {
    let ids = lose(&fixture, &["A", "B", "C", "obsolete"]).await;
    assert_eq!(fixture.get("/lost-commands/check").await.body, json!({ "newest": null }));
    let first = fixture.get("/lost-commands?state=open&limit=2").await.body;
    assert_eq!(first["items"][1]["key"], "B");
    let rest = format!("/lost-commands?after={}", first["next"].as_str().unwrap());
    assert_eq!(fixture.get(&rest).await.items("key"), ["C", "obsolete"]);
    let path = format!("/lost-commands/{}/decide", ids[0]);
    let again = fixture.post(&path, json!({ "verdict": "again" })).await;
    assert_eq!((again.status, &again.body["state"]), (200, &json!("again")), "{again:?}");
    let twice = fixture.post(&path, json!({ "verdict": "accept", "reason": "by hand" })).await;
    assert_eq!(twice.status, 409, "{twice:?}");
    assert!(twice.body["type"].as_str().unwrap().ends_with("lost-command-closed"), "{twice:?}");
    let all = json!({ "verdict": "accept", "reason": "counted" });
    let all = fixture.post("/lost-commands/decide", all).await;
    let wanted = json!({ "again": 0, "accepted": 2, "obsolete": 1, "skipped": 0, "next": null });
    assert_eq!((all.status, &all.body), (200, &wanted), "{all:?}");
    let one = fixture.get(&format!("/lost-commands/{}", ids[3])).await.body;
    assert_eq!((&one["state"], &one["reason"]), (&json!("obsolete"), &json!("it is over")));
    let audited = fixture.get("/audit").await.items("action");
    assert_eq!(audited, ["lost_command.accept", "lost_command.accept", "lost_command.again"]);
    let unknown = fixture.env.event_id();
    assert_eq!(fixture.get(&format!("/lost-commands/{unknown}")).await.status, 404);
    let path = format!("/lost-commands/{unknown}/decide");
    assert_eq!(fixture.post(&path, json!({ "verdict": "again" })).await.status, 404);
}

async fn bad_decisions_are_refused_by_name(fixture: AdminFixture) {
    let ids = lose(&fixture, &["A"]).await;
    let one = format!("/lost-commands/{}/decide", ids[0]);
    for (path, body, field) in [
        (one.as_str(), json!({ "verdict": "accept" }), "reason"),
        (one.as_str(), json!({ "verdict": "again", "reason": " " }), "reason"),
        (one.as_str(), json!({ "verdict": "again", "reason": "a\0b" }), "reason"),
        (one.as_str(), json!({ "verdict": "forget" }), "verdict"),
        ("/lost-commands/decide", json!({ "verdict": "accept" }), "reason"),
        ("/lost-commands/7/decide", json!({ "verdict": "again" }), "id"),
    ] {
        let refused = fixture.post(path, body).await;
        assert_eq!((refused.status, &refused.body["field"]), (422, &json!(field)), "{refused:?}");
    }
    assert_eq!(fixture.get("/lost-commands?state=gone").await.status, 422);
    assert_eq!(fixture.get("/lost-commands?state=open").await.items("key"), ["A"]);
}
