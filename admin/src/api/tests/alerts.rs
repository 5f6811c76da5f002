use std::time::Duration;

use common::on;
use common::schema::{alert, mail, mail_recipient, webhook};
use diesel::prelude::*;
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new =>
    alerts_by_state_kind_and_key,
    one_alert_with_its_event_and_its_silences,
    acknowledging_is_done_once,
    silences_begin_and_end,
    wrong_silences_are_refused,
    mails_and_how_far_they_got,
    what_a_mail_counts_is_listed_at_its_link,
    who_was_refused_is_shown,
    a_test_mail_needs_mail_to_be_on,
    a_test_mail_is_written_down,
    calls_and_how_far_they_got,
);

impl AdminFixture {
    /// The numbers of all alerts, oldest first.
    async fn numbers(&self) -> Vec<String> {
        let mut seqs = self.get("/alerts").await.items("seq");
        seqs.reverse();
        seqs
    }

    async fn actions(&self) -> Vec<String> {
        self.get("/audit").await.items("action")
    }
}

async fn alerts_by_state_kind_and_key(fixture: AdminFixture) {
    fixture.alerts(&["closed", "mailed", "open"]).await;
    let seqs = fixture.numbers().await;
    fixture.post(&format!("/alerts/{}/acknowledge", seqs[1]), Value::Null).await;
    let subjects =
        async |query: &str| fixture.get(&format!("/alerts?{query}")).await.items("subject");
    assert_eq!(subjects("state=open").await, ["open"]);
    assert_eq!(subjects("state=acknowledged").await, ["mailed"]);
    assert_eq!(subjects("state=closed").await, ["closed"]);
    assert_eq!(subjects("open=true").await, ["open", "mailed"]);
    assert_eq!(subjects("kind=exhausted&key=A&open=true").await.len(), 2);
    assert!(subjects("kind=silent").await.is_empty());
    assert!(subjects("key=B").await.is_empty());
    assert_eq!(subjects("mail=1").await, ["mailed"]);
    fixture.get("/alerts?state=loud").await.is_problem(422, "state");
    fixture.get("/alerts?kind=loud").await.is_problem(422, "kind");
    fixture.get("/alerts?sort=up").await.is_problem(422, "sort");
}

async fn one_alert_with_its_event_and_its_silences(fixture: AdminFixture) {
    fixture.alerts(&["closed", "mailed"]).await;
    let seqs = fixture.numbers().await;
    fixture.post("/silences", json!({"key": "A", "reason": "known", "for_seconds": 60})).await;
    let one = fixture.get(&format!("/alerts/{}", seqs[1])).await.body;
    assert_eq!((&one["seq"], &one["state"]), (&json!(seqs[1]), &json!("open")));
    assert_eq!(one["event"]["status"], "EXHAUSTED");
    let page = format!("/admin/events/{}", one["event_id"].as_str().unwrap());
    assert_eq!(one["event"]["page"], page);
    assert_eq!(
        fixture
            .get(one["event"]["api"].as_str().unwrap().trim_start_matches("/api/admin/v1"))
            .await
            .status,
        200
    );
    assert_eq!(one["mail"]["message_id"], "<m1@stockloop>");
    assert_eq!(one["webhook"], json!(null));
    assert_eq!(one["silences"][0]["reason"], "known");
    assert_eq!(one["silenced_until"], one["silences"][0]["until"]);
    let closed = fixture.get(&format!("/alerts/{}", seqs[0])).await.body;
    assert_eq!(closed["silenced_until"], json!(null));
    fixture.get("/alerts/99").await.is_problem(404, "");
    fixture.get("/alerts/x").await.is_problem(422, "seq");
}

async fn acknowledging_is_done_once(fixture: AdminFixture) {
    fixture.alerts(&["closed", "open"]).await;
    let seqs = fixture.numbers().await;
    let path = format!("/alerts/{}/acknowledge", seqs[1]);
    let first = fixture.post(&path, Value::Null).await;
    assert_eq!((first.status, &first.body["state"]), (200, &json!("acknowledged")));
    fixture.clock.advance(std::time::Duration::from_secs(60));
    let again = fixture.post(&path, Value::Null).await;
    assert_eq!(again.body["acknowledged_at"], first.body["acknowledged_at"]);
    assert_eq!(fixture.actions().await, ["alert.acknowledge"]);
    let closed = format!("/alerts/{}/acknowledge", seqs[0]);
    fixture.post(&closed, Value::Null).await.is_problem(409, "");
    fixture.post("/alerts/99/acknowledge", Value::Null).await.is_problem(404, "");
}

async fn silences_begin_and_end(fixture: AdminFixture) {
    let until = "2026-01-06T12:00:00Z";
    let begun = fixture
        .post("/silences", json!({"kind": "silent", "reason": "move", "until": until}))
        .await;
    assert_eq!(begun.status, 201, "{begun:?}");
    assert_eq!(begun.body["until"], "2026-01-06T12:00:00.000000Z");
    assert_eq!((&begun.body["kind"], &begun.body["active"]), (&json!("silent"), &json!(true)));
    fixture.post("/silences", json!({"key": "A", "reason": "r", "for_seconds": 30})).await;
    fixture.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(fixture.get("/silences").await.items("reason"), ["r", "move"]);
    assert_eq!(fixture.get("/silences?active=true").await.items("reason"), ["move"]);
    assert_eq!(fixture.get("/silences?active=false").await.items("reason"), ["r"]);
    let ended = fixture.delete(&format!("/silences/{}", begun.body["seq"].as_str().unwrap())).await;
    assert_eq!((ended.status, &ended.body["active"]), (200, &json!(false)));
    assert!(fixture.get("/silences?active=true").await.items("reason").is_empty());
    fixture.delete("/silences/99").await.is_problem(404, "");
    assert_eq!(fixture.actions().await, ["silence.end", "silence.begin", "silence.begin"]);
}

async fn wrong_silences_are_refused(fixture: AdminFixture) {
    let refused = async |body: Value, field: &str| {
        fixture.post("/silences", body).await.is_problem(422, field);
    };
    refused(json!({"reason": "r", "for_seconds": 60}), "kind").await;
    refused(json!({"kind": "loud", "reason": "r", "for_seconds": 60}), "kind").await;
    refused(json!({"key": "", "reason": "r", "for_seconds": 60}), "key").await;
    refused(json!({"key": "A", "alert": "1", "reason": "r", "for_seconds": 60}), "alert").await;
    refused(json!({"alert": "x", "reason": "r", "for_seconds": 60}), "alert").await;
    refused(json!({"key": "A", "reason": " ", "for_seconds": 60}), "reason").await;
    refused(json!({"key": "A", "for_seconds": 60}), "reason").await;
    refused(json!({"key": "A", "reason": "r"}), "until").await;
    refused(json!({"key": "A", "reason": "r", "for_seconds": 0}), "until").await;
    refused(json!({"key": "A", "reason": "r", "for_seconds": u64::MAX}), "until").await;
    let both =
        json!({"key": "A", "reason": "r", "for_seconds": 60, "until": "2026-01-06T12:00:00Z"});
    refused(both, "until").await;
    refused(json!({"key": "A", "reason": "r", "minutes": 60}), "minutes").await;
    assert!(fixture.actions().await.is_empty());
}

async fn mails_and_how_far_they_got(fixture: AdminFixture) {
    fixture.alerts(&["closed", "mailed"]).await;
    let all = fixture.get("/mails").await;
    let mail = &all.body["items"][0];
    assert_eq!(mail["message_id"], "<m1@stockloop>");
    assert_eq!((&mail["alerts"], &mail["tries"]), (&json!(1), &json!(2)));
    assert_eq!(mail["recipients"], json!(["ops@example.com"]));
    assert_eq!(mail["last_error"], "connection refused");
    assert_eq!(mail["state"], "waiting");
    assert_eq!(mail["recipient_states"][0]["address"], "ops@example.com");
    assert_eq!(fixture.get("/mails?waiting=true").await.items("subject"), ["1 alert"]);
    fixture
        .write(|conn| {
            on!(conn, c => diesel::update(mail::table).set(mail::sent_us.eq(5_i64)).execute(c))
        })
        .await;
    assert!(fixture.get("/mails?waiting=true").await.items("subject").is_empty());
    let sent = fixture.get("/mails?waiting=false").await.body;
    assert_eq!(sent["items"][0]["due_at"], json!(null));
    fixture.get("/mails?waiting=maybe").await.is_problem(422, "waiting");
}

async fn who_was_refused_is_shown(fixture: AdminFixture) {
    fixture.alerts(&["closed", "mailed"]).await;
    fixture
        .write(|conn| {
            let refused = (
                mail_recipient::mail_seq.eq(1_i64),
                mail_recipient::address.eq("ops@example.com"),
                mail_recipient::position.eq(0),
                mail_recipient::refused_us.eq(5_i64),
                mail_recipient::last_error.eq("550 no such mailbox"),
            );
            on!(&mut *conn, c => diesel::insert_into(mail_recipient::table)
                .values(refused)
                .execute(c))?;
            on!(conn, c => diesel::update(mail::table).set(mail::sent_us.eq(5_i64)).execute(c))
        })
        .await;
    let listed = fixture.get("/mails?waiting=false").await.body["items"][0].clone();
    let of_alert = fixture.get("/alerts?mail=1").await.body["items"][0]["mail"].clone();
    for mail in [listed, of_alert] {
        assert_eq!((&mail["state"], &mail["sent_at"]), (&json!("failed"), &json!(null)));
        let recipient = &mail["recipient_states"][0];
        assert_eq!(recipient["state"], "refused");
        assert_eq!(recipient["last_error"], "550 no such mailbox");
    }
}

async fn what_a_mail_counts_is_listed_at_its_link(fixture: AdminFixture) {
    let fixture = fixture.with(|settings| {
        settings.alerts.recipients = vec!["ops@shop.test".to_owned()];
        settings.alerts.digest_size = 1;
    });
    let mut ids = Vec::new();
    for (key, error) in [
        ("A", "no shelf"),
        ("B", "shelf 7 & 'more' is full"),
        ("C", "shelf 12 & 'less' is full"),
        ("D", "no shelf at all"),
    ] {
        let id = fixture.event(key, 1, Is::Exhausted).await;
        fixture.history(id, 1, "FAILED", error).await;
        let row = (
            alert::kind.eq("exhausted"),
            alert::subject.eq("has not arrived"),
            alert::event_id.eq(id),
            alert::key.eq(key),
            alert::attempt.eq(1),
            alert::error.eq(error),
            alert::created_us.eq(fixture.env.now()),
        );
        fixture
            .write(move |conn| {
                on!(conn, c => diesel::insert_into(alert::table).values(row).execute(c))
            })
            .await;
        ids.push(id.to_string());
    }
    fixture.clock.advance(Duration::from_secs(60));
    let outcome = fixture.engine.alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!((outcome.mails.digest.messages, outcome.mails.digest.alerts), (1, 4));
    let text: String =
        fixture.write(|conn| on!(conn, c => mail::table.select(mail::text).first(c))).await;
    let links: Vec<&str> = text.lines().filter_map(|line| line.split('?').nth(1)).collect();
    assert_eq!(links.len(), 2, "{text}");
    for (link, expected) in links.iter().zip([vec![&ids[2], &ids[1]], vec![&ids[3]]]) {
        let found = fixture.get(&format!("/events?{link}")).await.items("id");
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{link}");
    }
    assert_eq!(fixture.get("/mails").await.body["items"][0]["alerts"], 4);
}

async fn a_test_mail_needs_mail_to_be_on(fixture: AdminFixture) {
    let off = fixture.post("/mails/test", json!({})).await;
    off.is_problem(409, "");
    assert!(off.body["detail"].as_str().unwrap().contains("mail.transport is off"));
    let off = fixture.post("/webhooks/test", Value::Null).await;
    off.is_problem(409, "");
    assert!(off.body["detail"].as_str().unwrap().contains("webhook.url is empty"));
    assert!(fixture.actions().await.is_empty());
    assert!(fixture.get("/mails").await.items("seq").is_empty());
}

async fn a_test_mail_is_written_down(fixture: AdminFixture) {
    let fixture =
        fixture.with(|settings| settings.mail.transport = common::config::MailTransport::Memory);
    let nobody = fixture.post("/mails/test", json!({})).await;
    nobody.is_problem(409, "");
    assert!(nobody.body["detail"].as_str().unwrap().contains("alerts.recipients is empty"));
    fixture.post("/mails/test", json!({"to": ["a@b@c"]})).await.is_problem(422, "to[0]");
    let many = vec!["a@shop.test"; 11];
    fixture.post("/mails/test", json!({ "to": many })).await.is_problem(422, "to");
    let queued = fixture.post("/mails/test", json!({"to": ["anna@shop.test"]})).await;
    assert_eq!(queued.status, 202, "{queued:?}");
    let waiting = fixture.get("/mails").await.body["items"][0].clone();
    assert_eq!(
        (&waiting["seq"], &waiting["message_id"]),
        (&queued.body["seq"], &queued.body["message_id"])
    );
    assert_eq!((&waiting["alerts"], &waiting["sent_at"]), (&json!(0), &json!(null)));
    let outcome = fixture.engine.alerts.run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(outcome.mails.sender.sent, 1);
    let raw = fixture.engine.alerts.memory().unwrap().all();
    let text = String::from_utf8(raw[0].clone()).unwrap();
    assert!(text.contains("To: anna@shop.test") && text.contains("test mail"), "{text}");
    assert_eq!(fixture.actions().await, ["mail.test"]);
}

async fn calls_and_how_far_they_got(fixture: AdminFixture) {
    fixture
        .write(|conn| {
            let row = (
                webhook::delivery_id.eq("msg_1"),
                webhook::body.eq("{}"),
                webhook::created_us.eq(5_i64),
                webhook::tries.eq(3),
                webhook::due_us.eq(7_i64),
                webhook::last_error.eq("HTTP 500"),
            );
            let seq: i64 = on!(&mut *conn, c => diesel::insert_into(webhook::table)
                .values(row)
                .returning(webhook::seq)
                .get_result(c))?;
            let row = (
                alert::kind.eq("silent"),
                alert::subject.eq("s"),
                alert::created_us.eq(5_i64),
                alert::webhook_seq.eq(seq),
            );
            on!(conn, c => diesel::insert_into(alert::table).values(row).execute(c))
        })
        .await;
    let all = fixture.get("/webhooks").await.body;
    insta::assert_json_snapshot!("a_call", all["items"][0]);
    assert_eq!(fixture.get("/webhooks?waiting=false").await.body["items"], json!([]));
    let alert = fixture.get("/alerts?webhook=1").await.body["items"][0].clone();
    assert_eq!((&alert["webhook"]["tries"], &alert["event_id"]), (&json!(3), &json!(null)));
}
