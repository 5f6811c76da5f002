use std::time::Duration;

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{App, HttpServer, web};
use common::http::{Page, Params, Problem, ProblemResult};
use common::on;
use common::schema::webhook;
use diesel::prelude::*;
use engine::audit::AuthMethod;
use engine::verify::{Finding, State};
use serde::Serialize;
use serde_json::{Value, json};
use stockloop_tests::on_every_database;
use utoipa::ToSchema;

use super::fixture::{AdminFixture, Is};
use super::lost_commands::lose;
use crate::access::{Caller, Role};
use crate::api::Admin;
use crate::api::export::{Export, without_formulas};

on_every_database!(AdminFixture::new =>
    every_list_is_a_file,
    a_file_of_nothing_has_its_header,
    a_long_list_comes_whole,
    filters_hold_and_pages_are_refused,
    nothing_becomes_a_formula,
    a_file_for_excel_has_its_mark,
    what_a_job_did_is_a_file,
    what_differs_is_a_file,
    an_export_is_noted,
    a_file_that_breaks_off_is_not_taken_for_whole,
);

/// The lists that have a file.
const LISTS: [&str; 17] = [
    "/events",
    "/jobs",
    "/verifications",
    "/resyncs",
    "/bootstraps",
    "/lost-commands",
    "/alerts",
    "/silences",
    "/mails",
    "/webhooks",
    "/dead-letters",
    "/quarantine",
    "/pauses",
    "/consumers",
    "/users",
    "/tokens",
    "/audit",
];

impl AdminFixture {
    async fn ndjson(&self, path: &str) -> Vec<Value> {
        let text = self.get_text(path).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn csv(&self, path: &str) -> Vec<Vec<String>> {
        let text = self.get_text(path).await;
        assert!(text.ends_with("\r\n"), "{text}");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    async fn called(&self) {
        let row = (
            webhook::delivery_id.eq("msg_1"),
            webhook::body.eq("{}"),
            webhook::created_us.eq(5_i64),
            webhook::tries.eq(3),
            webhook::due_us.eq(7_i64),
            webhook::last_error.eq("HTTP 500"),
        );
        self.write(
            move |conn| on!(conn, c => diesel::insert_into(webhook::table).values(row).execute(c)),
        )
        .await;
    }

    async fn fill_lists(&self) {
        self.alerts(&["first", "second"]).await;
        self.event("B", 1, Is::Processed).await;
        self.dead_letter(1, b"garbage".to_vec()).await;
        self.put("/quarantine/A", json!({ "reason": "stock take" })).await;
        self.put("/pauses/A", json!({ "reason": "stock take" })).await;
        let silence = json!({ "key": "A", "reason": "known", "for_seconds": 60 });
        assert_eq!(self.post("/silences", silence).await.status, 201);
        let filter = json!({ "filter": { "status": "EXHAUSTED" } });
        let job = json!({ "action": "retry", "selection": filter, "expected": 1 });
        assert_eq!(self.post("/jobs", job).await.status, 201);
        let seq = self.verified(State::Different, &[("A", Finding::Older)]).await.to_string();
        let repair = json!({ "kind": "repair", "selection": { "differences": seq } });
        assert_eq!(self.post("/resyncs", repair).await.status, 201);
        lose(self, &["LOST"]).await;
        self.called().await;
        assert_eq!(self.post("/bootstraps", json!({})).await.status, 201);
        let search = json!({ "name": "search-service", "required": false, "reason": "new" });
        assert_eq!(self.post("/consumers", search).await.status, 201);
        let user = json!({ "name": "ada", "password": "correct horse battery", "role": "viewer" });
        assert_eq!(self.post("/users", user).await.status, 201);
        let token = json!({ "name": "backup", "role": "viewer", "areas": ["events"] });
        assert_eq!(self.post("/tokens", token).await.status, 201);
    }
}

/// Line by line the items of the list, and cell by cell their values under the names of the header.
async fn every_list_is_a_file(fixture: AdminFixture) {
    fixture.fill_lists().await;
    for list in LISTS {
        let shown = fixture.get(list).await;
        let items = shown.body["items"].as_array().unwrap();
        assert!(!items.is_empty(), "{list}");
        // The export before is an entry of the audit log by now.
        let skip = |len: usize| len - items.len();
        let lines = fixture.ndjson(&format!("{list}/export?format=ndjson")).await;
        assert_eq!(&lines[skip(lines.len())..], &items[..], "{list}");
        let table = fixture.csv(&format!("{list}/export?format=csv")).await;
        let (header, rows) = table.split_first().unwrap();
        for (row, item) in rows[skip(rows.len())..].iter().zip(items) {
            for name in item.as_object().unwrap().keys() {
                assert!(header.contains(name), "{list} has no column {name}");
            }
            for (name, cell) in header.iter().zip(row) {
                match &item[name] {
                    Value::Null => assert_eq!(cell, ""),
                    Value::String(text) => assert_eq!(cell, &without_formulas(text)),
                    other => assert_eq!(&serde_json::from_str::<Value>(cell).unwrap(), other),
                }
            }
        }
    }
}

async fn a_file_of_nothing_has_its_header(fixture: AdminFixture) {
    for list in LISTS {
        let file = fixture.get(&format!("{list}/export?format=csv")).await;
        assert_eq!(file.status, 200, "{file:?}");
        assert_eq!(file.header(CONTENT_TYPE), "text/csv; charset=utf-8; header=present");
        let name = format!("attachment; filename=\"{}-2026-01-05T12-00-00Z.csv\"", &list[1..]);
        assert_eq!(file.header(CONTENT_DISPOSITION), name);
    }
    let header = fixture.csv("/quarantine/export?format=csv").await;
    assert_eq!(header, [["key", "reason", "since", "by"]]);
    assert_eq!(fixture.get_text("/quarantine/export?format=ndjson").await, "");
}

async fn a_long_list_comes_whole(fixture: AdminFixture) {
    for _ in 0..3 {
        let keys: Vec<String> = (0..401).map(|n| format!("K{n}")).collect();
        fixture.events("P", keys).await;
    }
    let ids: Vec<String> = fixture.walk("/events?limit=1000", "id").await.0;
    assert_eq!(ids.len(), 1_203);
    let lines = fixture.ndjson("/events/export?format=ndjson").await;
    let exported: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(exported, ids);
    assert_eq!(fixture.csv("/events/export?format=csv").await.len(), 1_204);
}

async fn filters_hold_and_pages_are_refused(fixture: AdminFixture) {
    fixture.event("A", 1, Is::Exhausted).await;
    fixture.event("B", 1, Is::Pending).await;
    let file = "/events/export?format=ndjson";
    let keys = fixture.ndjson(&format!("{file}&status=EXHAUSTED")).await;
    assert_eq!(keys.iter().map(|item| item["key"].clone()).collect::<Vec<_>>(), ["A"]);
    fixture.get("/events/export").await.is_problem(422, "format");
    fixture.get("/events/export?format=xlsx").await.is_problem(422, "format");
    fixture.get(&format!("{file}&limit=5")).await.is_problem(422, "limit");
    fixture.get(&format!("{file}&after=5")).await.is_problem(422, "after");
    fixture.get(&format!("{file}&odd=5")).await.is_problem(422, "odd");
    fixture.get(&format!("{file}&status=odd")).await.is_problem(422, "status");
}

async fn nothing_becomes_a_formula(fixture: AdminFixture) {
    let reasons = [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("＝1", "'＝1"),
        ("A;=1+1", "A;'=1+1"),
        ("a \"quoted\", text\r\nwith lines", "a \"quoted\", text\r\nwith lines"),
    ];
    for (number, (reason, _)) in reasons.iter().enumerate() {
        let put = fixture.put(&format!("/quarantine/K{number}"), json!({ "reason": reason })).await;
        assert_eq!(put.status, 201, "{put:?}");
    }
    let text = fixture.get_text("/quarantine/export?format=csv").await;
    assert!(text.contains("\"A;'=1+1\""), "{text}");
    let table = fixture.csv("/quarantine/export?format=csv").await;
    for (row, (_, written)) in table[1..].iter().zip(&reasons) {
        assert_eq!(row[1], *written);
    }
    let lines = fixture.ndjson("/quarantine/export?format=ndjson").await;
    assert_eq!(lines[0]["reason"], "=1+1");
}

async fn a_file_for_excel_has_its_mark(fixture: AdminFixture) {
    let file = "/quarantine/export?format";
    let plain = fixture.get_text(&format!("{file}=csv")).await;
    assert_eq!(fixture.get_text(&format!("{file}=csv&bom=false")).await, plain);
    let marked = fixture.get_text(&format!("{file}=csv&bom=true")).await;
    assert_eq!(marked, format!("\u{feff}{plain}"));
    assert_eq!(fixture.get_text(&format!("{file}=ndjson&bom=false")).await, "");
    fixture.get(&format!("{file}=ndjson&bom=true")).await.is_problem(422, "bom");
    fixture.get(&format!("{file}=csv&bom=yes")).await.is_problem(422, "bom");
}

async fn what_a_job_did_is_a_file(fixture: AdminFixture) {
    fixture.fill_lists().await;
    let job = fixture.get("/jobs").await.items("seq").remove(0);
    let header = fixture.csv(&format!("/jobs/{job}/items/export?format=csv")).await;
    assert_eq!(header, [["event_id", "skipped"]]);
    fixture.get("/jobs/999/items/export?format=csv").await.is_problem(404, "");
}

async fn what_differs_is_a_file(fixture: AdminFixture) {
    let found = [("A", Finding::Missing), ("B", Finding::Waiting)];
    let seq = fixture.verified(State::Different, &found).await;
    let file = format!("/verifications/{seq}/differences/export?format=ndjson");
    let keys: Vec<Value> =
        fixture.ndjson(&file).await.into_iter().map(|line| line["key"].clone()).collect();
    assert_eq!(keys, ["A"]);
    let waiting = "/verifications/latest/differences/export?waiting=true&format=csv";
    let table = fixture.csv(waiting).await;
    assert_eq!((&*table[0][0], &*table[1][0], table.len()), ("key", "B", 2));
    let none = fixture.get("/verifications/99/differences/export?format=csv").await;
    none.is_problem(404, "");
    let repair = json!({ "kind": "repair", "selection": { "differences": seq.to_string() } });
    let job = fixture.post("/resyncs", repair).await.body["seq"].clone();
    let skipped = format!("/resyncs/{}/skipped/export?format=csv", job.as_str().unwrap());
    assert_eq!(fixture.csv(&skipped).await, [["key", "why"]]);
}

async fn an_export_is_noted(fixture: AdminFixture) {
    fixture.get("/events/export?format=csv&status=EXHAUSTED&key=A").await;
    let noted = fixture.get("/audit?action=export").await;
    let entry = &noted.body["items"][0];
    assert_eq!((&entry["who"], &entry["subject"]), (&json!("anonymous"), &json!("events")));
    let detail = json!({ "format": "csv", "filter": { "status": "EXHAUSTED", "key": "A" } });
    assert_eq!(entry["detail"], detail);
}

#[derive(Serialize, ToSchema)]
struct Number {
    n: i64,
}

/// Numbers, of which the third page can't be read.
async fn numbers(admin: web::Data<Admin>) -> ProblemResult<actix_web::HttpResponse> {
    let mut params = Params::parse("format=csv")?;
    let export = Export::of("numbers", &mut params)?;
    let by = Caller::new("ada", Role::Viewer, AuthMethod::Open);
    let page = |_: &mut _, after: Option<i64>, limit: i64| match after.unwrap_or(0) {
        from @ 0..1_000 => {
            let items = (from..from + limit).map(|n| Number { n }).collect();
            Ok(Page { items, next: Some((from + limit).to_string()) })
        }
        _ => Err(Problem::unavailable("the database is gone")),
    };
    export.run(&admin, by, page).await
}

async fn a_file_that_breaks_off_is_not_taken_for_whole(fixture: AdminFixture) {
    let admin = web::Data::new(fixture.admin());
    let server = HttpServer::new(move || {
        App::new().app_data(admin.clone()).route("/numbers", web::get().to(numbers))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .bind(("127.0.0.1", 0))
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    let serving = tokio::spawn(server);
    let mut answer = reqwest::get(format!("http://{address}/numbers")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut text = Vec::new();
    let broken = loop {
        match tokio::time::timeout(Duration::from_secs(30), answer.chunk()).await.unwrap() {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "the answer looks whole");
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().next(), Some("\"n\""));
    // What was sent last may be lost with the connection.
    let numbers = text.lines().count() - 1;
    assert!(numbers == 500 || numbers == 1_000, "{numbers}");
    handle.stop(false).await;
    serving.await.unwrap().unwrap();
}
