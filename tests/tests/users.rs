//! The first admin, made on the service's own command line, signs in at the service that runs.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use stockloop_tests::process::{Child, Launch, built_binary};
use stockloop_tests::program::{Outcome, Program};

use crate::stage::PATIENCE;

const PASSWORD: &str = "correct horse battery";

/// A program of this workspace in a folder of its own.
pub(crate) fn program(name: &str) -> Program {
    let path = built_binary(name).expect("the programs are built");
    Program::new(&path.to_string_lossy())
}

/// A service as somebody who tries it out starts it: on SQLite, and nobody signed up yet.
struct Shop {
    program: Program,
    service: Child,
    base: String,
    http: Client,
}

impl Shop {
    fn env(folder: &Path) -> [(String, String); 4] {
        let url = format!("sqlite:{}", folder.join("shop.db").display());
        [
            ("STOCKLOOP__DATABASE__URL", url.as_str()),
            ("STOCKLOOP__HTTP__BIND", "127.0.0.1:0"),
            // The broker is waited for; nothing here needs it.
            ("STOCKLOOP__KAFKA__BROKERS", "127.0.0.1:1"),
            ("STOCKLOOP__LOG__FILTER", "off"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    fn open() -> Self {
        let program = program("product-service");
        let path = built_binary("product-service").expect("the programs are built");
        let launch = Self::env(program.folder())
            .iter()
            .fold(Launch::new(path).arg("serve"), |launch, (name, value)| launch.env(name, value));
        let mut service = launch.spawn().expect("the service starts");
        let line = service.wait_for_line(" listens on http://", PATIENCE).expect("it listens");
        let (_, base) = line.split_once(" listens on ").expect("just found");
        let http = Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
        Self { base: base.trim().to_owned(), program, service, http }
    }

    /// The service's program once more, beside the one that serves.
    fn command(&self, input: &str, args: &[&str]) -> Outcome {
        let env = Self::env(self.program.folder());
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.program.run_on(input, args, &env)
    }

    fn add(&self, name: &str, role: &str, password: &str) {
        let args = ["users", "add", name, "--role", role, "--password-stdin"];
        let outcome = self.command(password, &args);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(!format!("{outcome:?}").contains(password), "{outcome:?}");
    }

    async fn sign_in(&self, name: &str, password: &str) -> (StatusCode, Value) {
        let address = format!("{}/api/admin/v1/session", self.base);
        let body = json!({ "name": name, "password": password });
        let answer = self.http.post(address).json(&body).send().await.expect("an answer");
        let (status, cookie) = (answer.status(), answer.headers().contains_key("set-cookie"));
        assert_eq!(status.is_success(), cookie, "a cookie for who is let in, and for nobody else");
        (status, answer.json().await.expect("JSON"))
    }

    /// `stockloop admin` on this service.
    fn admin(&self, token: Option<&str>, args: &[&str]) -> Outcome {
        let env = [
            ("STOCKLOOP_ADMIN_URL", self.base.as_str()),
            ("STOCKLOOP_ADMIN_TOKEN", token.unwrap_or("")),
        ];
        program("stockloop").run(&[&["admin"], args].concat(), &env)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_admin_signs_in() {
    let shop = Shop::open();
    let setup = shop.service.log();
    assert!(setup.contains("/admin/setup?token="), "nobody is there yet: {setup}");
    shop.add("alice", "admin", PASSWORD);
    shop.add("bob", "viewer", "staple staple staple");

    let (status, who) = shop.sign_in("alice", PASSWORD).await;
    assert_eq!(status, StatusCode::OK, "{who}");
    assert_eq!((&who["name"], &who["role"]), (&json!("alice"), &json!("admin")));
    for (name, password) in [("alice", "correct horse"), ("nobody", PASSWORD), ("alice", "")] {
        let (status, problem) = shop.sign_in(name, password).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{problem}");
        assert_eq!(problem["detail"], "name or password are wrong");
    }
    // The one-time token has done its work, or rather it never will.
    let (_, token) = setup.split_once("token=").expect("just found");
    let token = token.split_whitespace().next().unwrap_or_default();
    let body = json!({ "token": token, "name": "mallory", "password": PASSWORD });
    let address = format!("{}/api/admin/v1/setup", shop.base);
    let refused = shop.http.post(address).json(&body).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);

    let outcome = shop.command("", &["users", "change", "alice", "--disable"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("the last admin"), "{outcome:?}");
    let changed = shop.command(
        "another password",
        &["users", "change", "bob", "--role", "admin", "--password-stdin"],
    );
    assert_eq!(changed.code, Some(0), "{changed:?}");
    assert_eq!(shop.command("", &["users", "change", "alice", "--disable"]).code, Some(0));
    assert_eq!(shop.sign_in("alice", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    let (status, who) = shop.sign_in("bob", "another password").await;
    assert_eq!((status, &who["role"]), (StatusCode::OK, &json!("admin")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_the_command_line_is_taken_and_held_to_its_role() {
    let shop = Shop::open();
    let made = shop.command("", &["tokens", "add", "night watch", "--role", "viewer"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let viewer = made.stdout.trim();
    let made = shop.command("", &["tokens", "add", "deploy", "--role", "admin"]);
    let admin = made.stdout.trim();

    let outcome = shop.admin(Some(viewer), &["whoami"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("token night watch") && outcome.stdout.contains("viewer"));
    let refused = |token: Option<&str>, args: &[&str], words: &[&str]| {
        let outcome = shop.admin(token, args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{word:?} is missing: {outcome:?}");
        }
        assert!(!outcome.stderr.contains(viewer), "{outcome:?}");
    };
    refused(None, &["events"], &["(401)", "tokens add", "STOCKLOOP_ADMIN_TOKEN"]);
    refused(Some("stockloop_wrong"), &["events"], &["(401)", "--token-file", "/admin/tokens"]);
    let quarantine = ["quarantine", "put", "TEA", "--reason", "a test"];
    refused(Some(viewer), &quarantine, &["(403)", "operator", "whoami"]);
    refused(Some(viewer), &["users"], &["(403)", "admin"]);

    let file = shop.program.folder().join("token");
    std::fs::write(&file, format!("{admin}\n")).expect("a file can be made");
    let file = file.to_string_lossy().into_owned();
    let as_admin = |input: &str, args: &[&str]| {
        let args = [&["admin", "--url", &shop.base, "--token-file", &file], args].concat();
        let outcome = program("stockloop").run_on(input, &args, &[]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    as_admin(PASSWORD, &["users", "add", "carol", "--role", "operator", "--password-stdin"]);
    assert_eq!(shop.sign_in("carol", PASSWORD).await.0, StatusCode::OK);
    as_admin("", &["users", "disable", "carol"]);
    assert_eq!(shop.sign_in("carol", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    assert!(as_admin("", &["users", "list"]).contains("carol"));
    let secret =
        as_admin("", &["tokens", "add", "for a day", "--role", "viewer", "--expires-in", "1day"]);
    assert_eq!(shop.admin(Some(secret.trim()), &["whoami"]).code, Some(0));
    let tokens: Vec<Value> = as_admin("", &["--json", "tokens"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(tokens.len(), 3, "{tokens:?}");
    let seq = tokens[0]["seq"].as_str().expect("a number");
    as_admin("", &["tokens", "revoke", seq]);
    refused(Some(secret.trim()), &["whoami"], &["revoked"]);
    let audit = as_admin("", &["audit", "--action", "token.", "--json"]);
    assert_eq!(audit.lines().count(), 4, "three were made, one was revoked: {audit}");
}
