//! `stockloop admin` as an operator and a script use it: a child process against services that run.

use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use stockloop_tests::program::{Outcome, Program};

use crate::stage::{MAX_ATTEMPTS, PATIENCE, Stage};
use crate::users::program;

/// The command line, and both services.
struct Desk {
    stage: Stage,
    program: Program,
}

impl Desk {
    async fn open() -> Self {
        Self { stage: Stage::embedded().await, program: program("stockloop") }
    }

    /// Runs it to its end while the services of this process go on.
    fn run(&self, args: &[&str]) -> Outcome {
        let (product, order) = (self.stage.product.base.get(), self.stage.order.base.get());
        let env = [
            ("STOCKLOOP_ADMIN_URL", product.as_str()),
            ("STOCKLOOP_ADMIN_ORDER_URL", order.as_str()),
        ];
        let args = [&["admin"], args].concat();
        tokio::task::block_in_place(|| self.program.run(&args, &env))
    }

    /// What it prints; it has to succeed.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
        outcome.stdout
    }

    /// What it prints for programs, line by line.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let lines = self.done(&[args, &["--json"]].concat());
        let lines = lines.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// What it says on standard error; it has to end with `code`.
    #[track_caller]
    fn ends(&self, code: i32, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        outcome.stderr
    }

    /// Puts `skus` into quarantine, changes each, and waits until all have given up; their events.
    async fn give_up(&self, skus: &[&str]) -> Vec<String> {
        for sku in skus {
            self.done(&["--order", "quarantine", "put", sku, "--reason", "the shelf is counted"]);
            self.stage.product.adjust(sku, -1).await;
        }
        eventually("events that gave up", PATIENCE, async || {
            let events = self.json(&["events", "--status", "EXHAUSTED", "--resolved", "false"]);
            let ids: Vec<String> =
                events.iter().filter_map(|event| event["id"].as_str()).map(str::to_owned).collect();
            if ids.len() == skus.len() { Ok(ids) } else { Err(ids.len()) }
        })
        .await
    }

    fn release(&self, skus: &[&str]) {
        for sku in skus {
            self.done(&["--order", "quarantine", "release", sku]);
        }
    }
}

/// `text` with all `words`.
#[track_caller]
fn holds(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_found_and_retried() {
    let desk = Desk::open().await;
    desk.stage.product.put_product("TEA", 12).await;
    desk.stage.settled().await;
    let ids = desk.give_up(&["TEA"]).await;
    let id = ids[0].as_str();

    let list = desk.done(&["events", "--status", "exhausted"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    holds(&list, &["EVENT", "LAST ERROR", id, "EXHAUSTED", "TEA", "the shelf is counted"]);
    for found in [["--q", id], ["--key", "TEA"], ["--min-attempts", "3"]] {
        holds(&desk.done(&[&["events"], &found[..]].concat()), &[id]);
    }
    assert_eq!(desk.json(&["events", "--key", "NONE"]), Vec::<Value>::new());
    holds(&desk.ends(0, &["events", "--key", "NONE"]), &["No event matches"]);
    holds(&desk.ends(0, &["events", "--limit", "1"]), &["There are more"]);
    assert_eq!(desk.json(&["events", "--all"]).len(), 2);

    let event = desk.done(&["event", id, "--peer"]);
    holds(&event, &["What happened:", "FAILED", "Payload:", "\"sku\": \"TEA\"", "other service"]);
    holds(&event, &["reachable"]);
    let classes = desk.json(&["errors"]);
    assert_eq!((classes.len(), &classes[0]["count"]), (1, &json!(1)), "{classes:?}");
    let class = classes[0]["class"].as_str().expect("a class");
    holds(&desk.done(&["events", "--error-class", class]), &[id]);
    holds(&desk.done(&["errors"]), &[class, id]);

    desk.release(&["TEA"]);
    holds(&desk.done(&["retry", id, "--reason", "it is counted"]), &["sent again", id]);
    desk.stage.settled().await;
    let event = desk.json(&["event", id]).remove(0);
    let history = event["history"].as_array().expect("a history");
    let retried = history.iter().find(|line| line["outcome"] == "RETRIED").expect("its retry");
    assert_eq!(retried["reason"], "it is counted");
    holds(&desk.ends(1, &["retry", id]), &["(409)", "only an EXHAUSTED event"]);
    let refused = desk.ends(1, &["retry", id, "--json"]);
    let problem: Value = serde_json::from_str(&refused).expect("a problem in JSON");
    assert_eq!(problem["type"], "urn:stockloop:problem:not-exhausted");
    holds(&desk.ends(1, &["event", "no-id"]), &["(422)", "(id)"]);
    told_of(&desk, id);
    desk.stage.stop().await;
}

/// Who did it can be shown afterwards, and the overview is at rest.
fn told_of(desk: &Desk, id: &str) {
    let deeds = desk.json(&["audit", "--subject", id]);
    assert_eq!((deeds.len(), &deeds[0]["action"]), (1, &json!("event.retry")), "{deeds:?}");
    let deeds = desk.done(&["--order", "audit", "--since", "1h", "--action", "quarantine."]);
    holds(&deeds, &["quarantine.put", "quarantine.release", "anonymous", "TEA"]);
    assert_eq!(desk.json(&["audit", "--until", "1h"]), Vec::<Value>::new());
    holds(&desk.done(&["overview"]), &["PROCESSED", "alerts open", "counted"]);
    assert!(desk.json(&["overview"])[0]["as_of"].is_string());
    let alerts = desk.json(&["alerts"]);
    assert_eq!((alerts.len(), &alerts[0]["event_id"]), (1, &json!(id)), "{alerts:?}");
    holds(&desk.done(&["whoami"]), &["anonymous", "admin", "open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_a_job_with_an_honest_end() {
    const SKUS: [&str; 4] = ["TEA", "MUG", "POT", "BAG"];
    let desk = Desk::open().await;
    for sku in SKUS {
        desk.stage.product.put_product(sku, 12).await;
    }
    desk.stage.settled().await;
    let ids = desk.give_up(&SKUS).await;
    let all = ["retry", "--all-matching", "--key"];
    let nobody = desk.run(&["retry", "--all-matching"]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    holds(&nobody.stderr, &["This will retry 4 events", "Retry 4 events?", "--yes"]);
    holds(&nobody.stdout, &[ids[0].as_str()]);
    assert_eq!(desk.json(&["jobs"]), Vec::<Value>::new(), "nothing was begun");
    holds(&desk.ends(0, &[&all[..], &["NONE", "--yes"]].concat()), &["nothing is done"]);

    desk.release(&SKUS[1..]);
    let (one, rest) = (ids[0].as_str(), desk.json(&["retry", "--all-matching", "--yes"]));
    let job = &rest[0];
    assert_eq!(
        (&job["state"], &job["done"], &job["skipped"]),
        (&json!("done"), &json!(4), &json!(0))
    );
    eventually("three that arrive, and one that gives up again", PATIENCE, async || {
        let open = desk.json(&["events", "--status", "EXHAUSTED"]);
        let waiting = open.iter().all(|event| event["attempt"] == 2 * MAX_ATTEMPTS);
        let sent = desk.json(&["events", "--status", "PENDING"]).len()
            + desk.json(&["events", "--status", "SENT"]).len();
        if open.len() == 1 && waiting && sent == 0 { Ok(()) } else { Err((open, sent)) }
    })
    .await;
    let seq = job["seq"].as_str().expect("a number").to_owned();
    assert_eq!(desk.json(&["events", "--job", &seq]).len(), 4, "what was retried is found again");
    holds(&desk.done(&["job", &seq]), &["retry", "done", "anonymous"]);
    assert_eq!(desk.json(&["job", &seq, "--items"]).len(), 4);

    // Named one by one: all but one have arrived meanwhile.
    let named: Vec<&str> = ids.iter().map(String::as_str).collect();
    let outcome = desk.run(&[&["resolve"], &named[..], &["--reason", "counted", "--yes"]].concat());
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    holds(&outcome.stdout, &["has done 1 and skipped 3", "PROCESSED"]);
    holds(&desk.done(&["jobs"]), &["resolve", "retry"]);
    assert_eq!(desk.ends(3, &["job", "2", "--follow", "--json"]), "");
    assert!(ids.iter().any(|id| id == one));
    desk.stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_is_paused_and_goes_on() {
    let desk = Desk::open().await;
    desk.stage.product.put_product("TEA", 12).await;
    desk.stage.settled().await;
    holds(&desk.done(&["pause", "TEA", "--reason", "a count"]), &["\"TEA\" is paused"]);
    holds(&desk.done(&["relay"]), &["The relay sends", "TEA", "a count", "INSTANCE"]);
    desk.stage.product.adjust("TEA", -1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.json(&["events", "--status", "PENDING", "--key", "TEA"]).len(), 1);
    desk.done(&["resume", "TEA"]);
    desk.stage.settled().await;
    desk.done(&["pause", "--reason", "a move"]);
    assert_eq!(desk.json(&["relay"])[0]["paused"]["reason"], "a move");
    holds(&desk.done(&["relay"]), &["a move"]);
    desk.done(&["resume"]);
    holds(&desk.ends(1, &["resume", "TEA"]), &["(404)"]);
    desk.stage.product.adjust("TEA", -1).await;
    desk.stage.settled().await;
    desk.stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_acknowledged_and_silenced() {
    let desk = Desk::open().await;
    desk.stage.product.put_product("TEA", 12).await;
    desk.stage.settled().await;
    desk.done(&["silences", "add", "--key", "MUG", "--for", "2h", "--reason", "a count"]);
    desk.give_up(&["TEA"]).await;
    let open = desk.json(&["alerts", "--state", "open", "--key", "TEA"]);
    let seq = open[0]["seq"].as_str().expect("a number");
    holds(&desk.done(&["alerts"]), &["exhausted", "TEA"]);
    holds(&desk.done(&["alert", "show", seq]), &["exhausted", "TEA"]);
    holds(&desk.done(&["alert", "ack", seq]), &["acknowledged", "anonymous"]);
    assert_eq!(desk.json(&["alerts", "--state", "open"]), Vec::<Value>::new());
    let silence = desk.json(&["alert", "silence", seq, "--for", "1h", "--reason", "noon"]);
    assert_eq!((&silence[0]["alert"], &silence[0]["active"]), (&json!(seq), &json!(true)));
    let silences = desk.json(&["silences", "--active", "true"]);
    assert_eq!(silences.len(), 2, "{silences:?}");
    holds(&desk.done(&["silences", "end", "1"]), &["has ended"]);
    assert_eq!(desk.json(&["silences", "--active", "true"]).len(), 1);
    holds(&desk.done(&["mails", "test", "--to", "me@example.test"]), &["is on its way"]);
    eventually("the test mail", PATIENCE, async || {
        let mails = desk.stage.mails.mails();
        if mails.iter().any(|mail| mail.to == ["me@example.test"]) {
            Ok(())
        } else {
            Err(mails.len())
        }
    })
    .await;
    holds(&desk.done(&["mails"]), &["me@example.test"]);
    desk.stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_become_files_and_what_people_wrote_is_no_command() {
    let desk = Desk::open().await;
    desk.stage.product.put_product("TEA", 12).await;
    desk.stage.settled().await;
    let reason = "\u{1b}]0;owned\u{7}\u{1b}[31m\u{202e}=1+1";
    let body = json!({ "reason": reason });
    assert_eq!(desk.stage.order.put("/api/admin/v1/quarantine/TEA", body).await.status, 201);
    let list = desk.done(&["--order", "quarantine"]);
    holds(&list, &["TEA", "\\u{1b}]0;owned\\u{7}\\u{1b}[31m\\u{202e}=1+1"]);
    let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(list.chars().all(is_plain), "{list:?}");
    let raw = desk.done(&["--order", "quarantine", "--json"]);
    assert!(raw.chars().all(is_plain), "{raw:?}");
    assert_eq!(desk.json(&["--order", "quarantine"])[0]["reason"], reason);

    let events = desk.done(&["export", "events", "--format", "ndjson", "--where", "key=TEA"]);
    assert_eq!(events.lines().count(), 1, "{events}");
    let file = desk.program.folder().join("quarantine.csv");
    let said = desk.ends(0, &["--order", "export", "quarantine", "-o", "quarantine.csv"]);
    holds(&said, &["written to quarantine.csv"]);
    let csv = std::fs::read_to_string(file).expect("the file");
    holds(&csv, &["key,", "TEA"]);
    holds(&desk.ends(1, &["export", "events", "--where", "colour=red"]), &["(422)", "colour"]);
    assert!(!desk.program.folder().join("quarantine.csv.part").exists());
    desk.stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_enough_breaks_no_pipe() {
    let desk = Desk::open().await;
    desk.stage.product.put_product("TEA", 12).await;
    let stockloop = stockloop_tests::process::built_binary("stockloop").expect("it is built");
    let piped = format!(
        "\"{}\" admin --url {} overview | true",
        stockloop.display(),
        desk.stage.product.base.get()
    );
    let ended = tokio::task::block_in_place(|| {
        std::process::Command::new("sh").args(["-c", &piped]).output().expect("a shell")
    });
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    desk.stage.stop().await;
}
