//! `stockloop admin` as an operator and a script use it: a child process against services that run.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use stockloop_tests::program::{Outcome, Program, assert_contains};

use crate::system::{DEADLINE, MAX_ATTEMPTS, TestSystem, text};

/// The command line, and both services.
struct AdminCli {
    system: TestSystem,
    program: Program,
}

impl AdminCli {
    async fn with_products(skus: &[&str]) -> Self {
        let system = TestSystem::embedded().await;
        for sku in skus {
            system.product.put_product(sku, 12).await;
        }
        system.wait_until_settled().await;
        Self { system, program: Program::built("stockloop") }
    }

    /// Runs it to its end while the services of this process go on.
    fn run(&self, args: &[&str]) -> Outcome {
        let (product, order) =
            (self.system.product.base_url.get(), self.system.order.base_url.get());
        let env = [
            ("STOCKLOOP_ADMIN_URL", product.as_str()),
            ("STOCKLOOP_ADMIN_ORDER_URL", order.as_str()),
        ];
        let args = [&["admin"], args].concat();
        tokio::task::block_in_place(|| self.program.run(&args, &env))
    }

    /// What it prints; it has to succeed.
    #[track_caller]
    fn stdout(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
        outcome.stdout
    }

    /// What it prints for programs, line by line.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let lines = self.stdout(&[args, &["--json"]].concat());
        let lines = lines.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// What it says on standard error; it has to end with `code`.
    #[track_caller]
    fn stderr(&self, code: i32, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        outcome.stderr
    }

    /// Puts `skus` into quarantine, changes each, and waits until all have given up; their events.
    async fn exhaust(&self, skus: &[&str]) -> Vec<String> {
        for sku in skus {
            self.stdout(&["--order", "quarantine", "put", sku, "--reason", "the shelf is counted"]);
            self.system.product.adjust(sku, -1).await;
        }
        eventually("events that gave up", DEADLINE, async || {
            let events = self.json(&["events", "--status", "EXHAUSTED", "--resolved", "false"]);
            let ids: Vec<String> =
                events.iter().filter_map(|event| event["id"].as_str()).map(str::to_owned).collect();
            if ids.len() == skus.len() { Ok(ids) } else { Err(ids.len()) }
        })
        .await
    }

    fn release(&self, skus: &[&str]) {
        for sku in skus {
            self.stdout(&["--order", "quarantine", "release", sku]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_found_and_retried() {
    let cli = AdminCli::with_products(&["TEA"]).await;
    let ids = cli.exhaust(&["TEA"]).await;
    let id = ids[0].as_str();

    let list = cli.stdout(&["events", "--status", "exhausted"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    assert_contains(
        &list,
        &["EVENT", "LAST ERROR", id, "EXHAUSTED", "TEA", "the shelf is counted"],
    );
    for found in [["--q", id], ["--key", "TEA"], ["--min-attempts", "3"]] {
        assert_contains(&cli.stdout(&[&["events"], &found[..]].concat()), &[id]);
    }
    assert_eq!(cli.json(&["events", "--key", "NONE"]), Vec::<Value>::new());
    assert_contains(&cli.stderr(0, &["events", "--key", "NONE"]), &["No event matches"]);
    assert_contains(&cli.stderr(0, &["events", "--limit", "1"]), &["There are more"]);
    assert_eq!(cli.json(&["events", "--all"]).len(), 2);

    let event = cli.stdout(&["event", id, "--peer"]);
    assert_contains(
        &event,
        &["What happened:", "FAILED", "Payload:", "\"sku\": \"TEA\"", "service says:"],
    );
    assert_contains(&event, &["reachable"]);
    let classes = cli.json(&["errors"]);
    assert_eq!((classes.len(), &classes[0]["count"]), (1, &json!(1)), "{classes:?}");
    let class = classes[0]["class"].as_str().expect("a class");
    assert_contains(&cli.stdout(&["events", "--error-class", class]), &[id]);
    assert_contains(&cli.stdout(&["errors"]), &[class, id]);

    cli.release(&["TEA"]);
    assert_contains(&cli.stdout(&["retry", id, "--reason", "it is counted"]), &["sent again", id]);
    cli.system.wait_until_settled().await;
    let event = cli.json(&["event", id]).remove(0);
    let history = event["history"].as_array().expect("a history");
    let retried = history.iter().find(|line| line["outcome"] == "RETRIED").expect("its retry");
    assert_eq!(retried["reason"], "it is counted");
    assert_contains(&cli.stderr(1, &["retry", id]), &["(409)", "only an EXHAUSTED event"]);
    let refused = cli.stderr(1, &["retry", id, "--json"]);
    let problem: Value = serde_json::from_str(&refused).expect("a problem in JSON");
    assert_eq!(problem["type"], "urn:stockloop:problem:not-exhausted");
    assert_contains(&cli.stderr(1, &["event", "no-id"]), &["(422)", "(id)"]);
    assert_audited(&cli, id);
    cli.system.stop().await;
}

/// Who did it can be shown afterwards, and the overview is at rest.
fn assert_audited(cli: &AdminCli, id: &str) {
    let actions = cli.json(&["audit", "--subject", id]);
    assert_eq!((actions.len(), &actions[0]["action"]), (1, &json!("event.retry")), "{actions:?}");
    let actions = cli.stdout(&["--order", "audit", "--since", "1h", "--action", "quarantine."]);
    assert_contains(&actions, &["quarantine.put", "quarantine.release", "anonymous", "TEA"]);
    assert_eq!(cli.json(&["audit", "--until", "1h"]), Vec::<Value>::new());
    assert_contains(&cli.stdout(&["overview"]), &["PROCESSED", "alerts open", "counted"]);
    assert!(cli.json(&["overview"])[0]["as_of"].is_string());
    let alerts = cli.json(&["alerts"]);
    assert_eq!((alerts.len(), &alerts[0]["event_id"]), (1, &json!(id)), "{alerts:?}");
    assert_contains(&cli.stdout(&["whoami"]), &["anonymous", "admin", "open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_a_job_with_an_honest_end() {
    const SKUS: [&str; 4] = ["TEA", "MUG", "POT", "BAG"];
    let cli = AdminCli::with_products(&SKUS).await;
    let ids = cli.exhaust(&SKUS).await;
    let all = ["retry", "--all-matching", "--key"];
    let nobody = cli.run(&["retry", "--all-matching"]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    assert_contains(&nobody.stderr, &["This will retry 4 events", "Retry 4 events?", "--yes"]);
    assert_contains(&nobody.stdout, &[ids[0].as_str()]);
    assert_eq!(cli.json(&["jobs"]), Vec::<Value>::new(), "nothing was begun");
    assert_contains(&cli.stderr(0, &[&all[..], &["NONE", "--yes"]].concat()), &["nothing is done"]);

    cli.release(&SKUS[1..]);
    let (one, rest) = (ids[0].as_str(), cli.json(&["retry", "--all-matching", "--yes"]));
    let job = &rest[0];
    assert_eq!(
        (&job["state"], &job["done"], &job["skipped"]),
        (&json!("done"), &json!(4), &json!(0))
    );
    eventually("three that arrive, and one that gives up again", DEADLINE, async || {
        let open = cli.json(&["events", "--status", "EXHAUSTED"]);
        let waiting = open.iter().all(|event| event["attempt"] == 2 * MAX_ATTEMPTS);
        let sent = cli.json(&["events", "--status", "PENDING"]).len()
            + cli.json(&["events", "--status", "SENT"]).len();
        if open.len() == 1 && waiting && sent == 0 { Ok(()) } else { Err((open, sent)) }
    })
    .await;
    let seq = text(&job["seq"]);
    assert_eq!(cli.json(&["events", "--job", &seq]).len(), 4, "what was retried is found again");
    assert_contains(&cli.stdout(&["job", &seq]), &["retry", "done", "anonymous"]);
    assert_eq!(cli.json(&["job", &seq, "--items"]).len(), 4);

    // Named one by one: all but one have arrived meanwhile.
    let named: Vec<&str> = ids.iter().map(String::as_str).collect();
    let outcome = cli.run(&[&["resolve"], &named[..], &["--reason", "counted", "--yes"]].concat());
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_contains(&outcome.stdout, &["has done 1 and skipped 3", "PROCESSED"]);
    assert_contains(&cli.stdout(&["jobs"]), &["resolve", "retry"]);
    assert_eq!(cli.stderr(3, &["job", "2", "--follow", "--json"]), "");
    assert!(ids.iter().any(|id| id == one));
    cli.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_is_paused_and_goes_on() {
    let cli = AdminCli::with_products(&["TEA"]).await;
    assert_contains(&cli.stdout(&["pause", "TEA", "--reason", "a count"]), &["\"TEA\" is paused"]);
    assert_contains(&cli.stdout(&["relay"]), &["The relay sends", "TEA", "a count", "INSTANCE"]);
    cli.system.product.adjust("TEA", -1).await;
    cli.system.product.put_product("MUG", 3).await;
    let paused = BTreeMap::from([("PENDING".to_owned(), 1)]);
    eventually("a later change to arrive, and only that", DEADLINE, async || {
        let open = cli.system.product.open_events().await.map_err(|error| error.to_string())?;
        if open == paused { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    assert_eq!(cli.json(&["events", "--status", "PENDING", "--key", "TEA"]).len(), 1);
    cli.stdout(&["resume", "TEA"]);
    cli.system.wait_until_settled().await;
    cli.stdout(&["pause", "--reason", "a move"]);
    assert_eq!(cli.json(&["relay"])[0]["paused"]["reason"], "a move");
    assert_contains(&cli.stdout(&["relay"]), &["a move"]);
    cli.stdout(&["resume"]);
    assert_contains(&cli.stderr(1, &["resume", "TEA"]), &["(404)"]);
    cli.system.product.adjust("TEA", -1).await;
    cli.system.wait_until_settled().await;
    cli.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_acknowledged_and_silenced() {
    let cli = AdminCli::with_products(&["TEA"]).await;
    cli.stdout(&["silences", "add", "--key", "MUG", "--for", "2h", "--reason", "a count"]);
    cli.exhaust(&["TEA"]).await;
    let open = cli.json(&["alerts", "--state", "open", "--key", "TEA"]);
    let seq = open[0]["seq"].as_str().expect("a number");
    assert_contains(&cli.stdout(&["alerts"]), &["exhausted", "TEA"]);
    assert_contains(&cli.stdout(&["alert", "show", seq]), &["exhausted", "TEA"]);
    assert_contains(&cli.stdout(&["alert", "ack", seq]), &["acknowledged", "anonymous"]);
    assert_eq!(cli.json(&["alerts", "--state", "open"]), Vec::<Value>::new());
    let silence = cli.json(&["alert", "silence", seq, "--for", "1h", "--reason", "noon"]);
    assert_eq!((&silence[0]["alert"], &silence[0]["active"]), (&json!(seq), &json!(true)));
    let silences = cli.json(&["silences", "--active", "true"]);
    assert_eq!(silences.len(), 2, "{silences:?}");
    assert_contains(&cli.stdout(&["silences", "end", "1"]), &["has ended"]);
    assert_eq!(cli.json(&["silences", "--active", "true"]).len(), 1);
    assert_contains(&cli.stdout(&["mails", "test", "--to", "me@example.test"]), &["is on its way"]);
    eventually("the test mail", DEADLINE, async || {
        let mails = cli.system.mails.mails();
        if mails.iter().any(|mail| mail.to == ["me@example.test"]) {
            Ok(())
        } else {
            Err(mails.len())
        }
    })
    .await;
    assert_contains(&cli.stdout(&["mails"]), &["me@example.test"]);
    cli.system.mails.refuse_recipient("gone@example.test", 550);
    let to = ["--to", "gone@example.test", "--to", "you@example.test"];
    cli.stdout(&[&["mails", "test"], to.as_slice()].concat());
    eventually("who was refused", DEADLINE, async || {
        let newest = cli.json(&["mails"]).remove(0);
        if newest["state"] == "partly" { Ok(()) } else { Err(newest) }
    })
    .await;
    assert_contains(&cli.stdout(&["mails"]), &["partly", "gone@example.test: ", "550"]);
    cli.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_become_files_and_what_people_wrote_is_no_command() {
    let cli = AdminCli::with_products(&["TEA"]).await;
    let reason = "\u{1b}]0;owned\u{7}\u{1b}[31m\u{202e}=1+1";
    cli.system.order.quarantine("TEA", reason).await;
    let list = cli.stdout(&["--order", "quarantine"]);
    assert_contains(&list, &["TEA", "\\u{1b}]0;owned\\u{7}\\u{1b}[31m\\u{202e}=1+1"]);
    let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(list.chars().all(is_plain), "{list:?}");
    let raw = cli.stdout(&["--order", "quarantine", "--json"]);
    assert!(raw.chars().all(is_plain), "{raw:?}");
    assert_eq!(cli.json(&["--order", "quarantine"])[0]["reason"], reason);

    let events = cli.stdout(&["export", "events", "--format", "ndjson", "--where", "key=TEA"]);
    assert_eq!(events.lines().count(), 1, "{events}");
    let file = cli.program.folder().join("quarantine.csv");
    let said = cli.stderr(0, &["--order", "export", "quarantine", "-o", "quarantine.csv"]);
    assert_contains(&said, &["written to quarantine.csv"]);
    let csv = std::fs::read_to_string(file).expect("the file");
    assert_contains(&csv, &["\"key\",", "TEA"]);
    assert_contains(
        &cli.stderr(1, &["export", "events", "--where", "colour=red"]),
        &["(422)", "colour"],
    );
    assert!(!cli.program.folder().join("quarantine.csv.part").exists());
    cli.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_enough_breaks_no_pipe() {
    let cli = AdminCli::with_products(&[]).await;
    let stockloop = stockloop_tests::process::built_binary("stockloop").expect("it is built");
    let piped = format!(
        "\"{}\" admin --url {} overview | true",
        stockloop.display(),
        cli.system.product.base_url.get()
    );
    let ended = tokio::task::block_in_place(|| {
        std::process::Command::new("sh").args(["-c", &piped]).output().expect("a shell")
    });
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    cli.system.stop().await;
}
