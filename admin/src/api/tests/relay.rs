use std::time::Duration;

use common::config::RelayKind;
use common::db::Conn;
use diesel::prelude::*;
use diesel::sql_query;
use engine::outbox::{release, renew};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::AdminFixture;

on_every_database!(AdminFixture::new =>
    the_whole_relay_is_paused_and_resumed,
    keys_are_paused_one_by_one,
    what_another_program_sends_is_not_held_back,
    instances_with_their_shards,
    the_slot_of_the_log_is_shown,
);

async fn the_whole_relay_is_paused_and_resumed(fixture: AdminFixture) {
    let relay = fixture.get("/relay").await.body;
    assert_eq!(
        relay,
        json!({
            "paused": null, "keys_paused": 0, "external": false, "instances": [], "log": null,
            "receiving": [], "topics": []
        })
    );
    let since = fixture.env.now().to_string();
    let paused = fixture.put("/relay/pause", json!({ "reason": "the copy is being moved" })).await;
    assert_eq!(paused.status, 201, "{paused:?}");
    assert_eq!(paused.body["warning"], json!(null), "nothing goes on: {paused:?}");
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(fixture.put("/relay/pause", json!({ "reason": "still" })).await.status, 200);
    let relay = fixture.get("/relay").await.body;
    assert_eq!(relay["paused"], json!({ "reason": "still", "since": since, "by": "anonymous" }));
    assert!(fixture.get("/pauses").await.items("key").is_empty(), "it is no key");
    assert_eq!(fixture.delete("/relay/pause").await.status, 204);
    let woken =
        tokio::time::timeout(Duration::from_secs(5), fixture.outbox.notify().notified()).await;
    assert!(woken.is_ok(), "the relay is woken");
    fixture.delete("/relay/pause").await.is_problem(404, "");
    fixture.put("/relay/pause", json!({ "reason": "" })).await.is_problem(422, "reason");
}

async fn keys_are_paused_one_by_one(fixture: AdminFixture) {
    for key in ["B", "A", "85%20%2F%C3%A9"] {
        let paused = fixture.put(&format!("/pauses/{key}"), json!({ "reason": "it hurts" })).await;
        assert_eq!(paused.status, 201, "{paused:?}");
    }
    let (keys, pages) = fixture.walk("/pauses?limit=2", "key").await;
    assert_eq!((keys, pages), (vec!["85 /é".to_owned(), "A".to_owned(), "B".to_owned()], 2));
    let relay = fixture.get("/relay").await.body;
    assert_eq!((&relay["keys_paused"], &relay["paused"]), (&json!(3), &json!(null)));
    assert_eq!(fixture.delete("/pauses/A").await.status, 204);
    fixture.delete("/pauses/A").await.is_problem(404, "");
    fixture.put("/pauses/%00", json!({ "reason": "x" })).await.is_problem(422, "key");
    let done = fixture.get("/audit?action=relay.").await;
    assert_eq!(done.items("action")[0], "relay.resume");
    assert_eq!(done.items("subject"), ["A", "85 /é", "A", "B"]);
}

async fn what_another_program_sends_is_not_held_back(fixture: AdminFixture) {
    let fixture = fixture.with(|settings| settings.outbox.relay = RelayKind::External);
    assert_eq!(fixture.get("/relay").await.body["external"], json!(true));
    for (path, key) in [("/relay/pause", json!(null)), ("/pauses/A", json!("A"))] {
        let paused = fixture.put(path, json!({ "reason": "it hurts" })).await.body;
        assert_eq!((&paused["key"], &paused["reason"]), (&key, &json!("it hurts")));
        let warning = paused["warning"].as_str().unwrap_or_default();
        assert!(warning.contains("no pause holds that back"), "{paused}");
    }
}

async fn instances_with_their_shards(fixture: AdminFixture) {
    renew(&fixture.db, "one", Duration::from_secs(60)).await.unwrap();
    renew(&fixture.db, "two", Duration::from_secs(60)).await.unwrap();
    renew(&fixture.db, "one", Duration::from_secs(60)).await.unwrap();
    renew(&fixture.db, "two", Duration::from_secs(60)).await.unwrap();
    let relay = fixture.get("/relay").await.body;
    let instances = relay["instances"].as_array().unwrap();
    let shards = |at: usize| instances[at]["shards"].as_array().unwrap().len();
    assert_eq!((instances.len(), shards(0), shards(1)), (2, 32, 32), "{relay}");
    assert_eq!(instances[1]["owner"], "two");
    release(&fixture.db, "one").await.unwrap();
    let relay = fixture.get("/relay").await.body;
    assert_eq!(relay["instances"].as_array().unwrap().len(), 1, "{relay}");
}

async fn the_slot_of_the_log_is_shown(fixture: AdminFixture) {
    let made = fixture.write(|conn| match conn {
        Conn::Pg(c) => {
            sql_query("SELECT pg_create_logical_replication_slot('stockloop_shop_1', 'pgoutput')")
                .execute(c)
        }
        Conn::Sqlite(_) => Ok(0),
    });
    if made.await == 0 {
        return assert_eq!(fixture.get("/relay").await.body["log"], json!(null));
    }
    let slot = fixture.get("/relay").await.body["log"].clone();
    assert_eq!(
        (&slot["slot"], &slot["wal_status"]),
        (&json!("stockloop_shop_1"), &json!("reserved"))
    );
    assert!(slot["kept_bytes"].as_i64().is_some_and(|kept| kept > 0), "{slot}");
    fixture
        .write(|conn| match conn {
            Conn::Pg(c) => {
                sql_query("SELECT pg_drop_replication_slot('stockloop_shop_1')").execute(c)
            }
            Conn::Sqlite(_) => Ok(0),
        })
        .await;
}
