use common::on;
use common::schema::{alert, dead_letter, mail};
use diesel::prelude::*;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new => alerts_with_their_mails, dead_letters_with_their_bytes);

impl AdminFixture {
    /// An alert for each of `subjects`, the first one closed, the second one mailed.
    pub(crate) async fn alerts(&self, subjects: &'static [&'static str]) {
        let event = self.event("A", 9, Is::Exhausted).await;
        let now = self.env.now();
        self.write(move |conn| {
            let mailed = (
                mail::message_id.eq("<m1@stockloop>"),
                mail::recipients.eq(r#"["ops@example.com"]"#),
                mail::subject.eq("1 alert"),
                mail::text.eq("text"),
                mail::html.eq("html"),
                mail::created_us.eq(now),
                mail::tries.eq(2),
                mail::due_us.eq(now),
                mail::last_error.eq("connection refused"),
            );
            let mail_seq: i64 = on!(conn, c => diesel::insert_into(mail::table)
                .values(mailed)
                .returning(mail::seq)
                .get_result(c))?;
            for (number, subject) in subjects.iter().enumerate() {
                let row = (
                    alert::kind.eq("exhausted"),
                    alert::subject.eq(*subject),
                    alert::event_id.eq(event),
                    alert::key.eq("A"),
                    alert::attempt.eq(i32::try_from(number).unwrap()),
                    alert::created_us.eq(now),
                    alert::closed_us.eq((number == 0).then_some(now)),
                    alert::mail_seq.eq((number == 1).then_some(mail_seq)),
                );
                on!(conn, c => diesel::insert_into(alert::table).values(row).execute(c))?;
            }
            Ok(())
        })
        .await;
    }

    /// A dead letter of these bytes.
    pub(crate) async fn dead_letter(&self, offset: i64, bytes: Vec<u8>) {
        let row = (
            dead_letter::topic.eq("stockloop.inventory.v1"),
            dead_letter::partition.eq(2),
            dead_letter::offset.eq(offset),
            dead_letter::hash.eq(format!("{offset:064}")),
            dead_letter::bytes.eq(bytes),
            dead_letter::error.eq("not JSON"),
            dead_letter::at_us.eq(self.env.now()),
        );
        self.write(move |conn| {
            on!(conn, c => diesel::insert_into(dead_letter::table).values(row).execute(c))
        })
        .await;
    }
}

async fn alerts_with_their_mails(fixture: AdminFixture) {
    fixture.alerts(&["first", "second", "third"]).await;
    let all = fixture.get("/alerts").await;
    assert_eq!(all.items("subject"), ["third", "second", "first"]);
    assert_eq!(all.body["items"][0]["mail"], json!(null));
    let mail = &all.body["items"][1]["mail"];
    assert_eq!(mail["recipients"], json!(["ops@example.com"]));
    assert_eq!((&mail["tries"], &mail["sent_at"]), (&json!(2), &json!(null)));
    assert_eq!(mail["last_error"], "connection refused");
    assert_eq!(fixture.get("/alerts?open=true").await.items("subject"), ["third", "second"]);
    assert_eq!(fixture.get("/alerts?open=false").await.items("subject"), ["first"]);
    let (met, pages) = fixture.walk("/alerts?limit=1", "subject").await;
    assert_eq!((met.join(" "), pages), ("third second first".to_owned(), 3));
    fixture.get("/alerts?open=yes").await.is_problem(422, "open");
    fixture.get("/alerts?after=x").await.is_problem(422, "after");
}

async fn dead_letters_with_their_bytes(fixture: AdminFixture) {
    fixture.dead_letter(1, vec![0xff, 0x00, b'a']).await;
    fixture.dead_letter(2, vec![b'x'; 1_000]).await;
    fixture.dead_letter(3, Vec::new()).await;
    let all = fixture.get("/dead-letters").await.body;
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.iter().map(|item| &item["offset"]).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(
        (&items[1]["size"], items[1]["preview"].as_str().unwrap().len()),
        (&json!(1_000), 200)
    );
    assert_eq!(items[2]["preview"], "\u{fffd}\0a");
    let seq = items[2]["seq"].as_str().unwrap();
    let one = fixture.get(&format!("/dead-letters/{seq}")).await.body;
    assert_eq!(one["bytes_hex"], "ff0061");
    assert_eq!(one["topic"], "stockloop.inventory.v1");
    let (met, pages) = fixture.walk("/dead-letters?limit=2", "seq").await;
    assert_eq!((met.len(), pages), (3, 2));
    fixture.get("/dead-letters/999").await.is_problem(404, "");
    fixture.get("/dead-letters/one").await.is_problem(422, "seq");
    fixture.get("/dead-letters?after=one").await.is_problem(422, "after");
}
