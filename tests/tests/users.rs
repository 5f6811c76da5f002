//! The first admin, made on the service's own command line, signs in at the service that runs.

use std::path::Path;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use stockloop_tests::process::{Child, Launch, built_binary};
use stockloop_tests::program::{Outcome, Program, assert_contains};

use crate::system::{http_client, text, wait_until_listening};

const PASSWORD: &str = "correct horse battery";

/// A service as somebody who tries it out starts it: on SQLite, and nobody signed up yet.
struct FreshService {
    program: Program,
    process: Child,
    base_url: String,
    http: Client,
}

impl FreshService {
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

    fn start() -> Self {
        let program = Program::built("product-service");
        let path = built_binary("product-service").expect("the programs are built");
        let launch = Self::env(program.folder())
            .iter()
            .fold(Launch::new(path).arg("serve"), |launch, (name, value)| launch.env(name, value));
        let mut process = launch.spawn().expect("the service starts");
        let base_url = wait_until_listening(&mut process);
        Self { base_url, program, process, http: http_client(1) }
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
        let address = format!("{}/api/admin/v1/session", self.base_url);
        let body = json!({ "name": name, "password": password });
        let answer = self.http.post(address).json(&body).send().await.expect("an answer");
        let (status, cookie) = (answer.status(), answer.headers().contains_key("set-cookie"));
        assert_eq!(status.is_success(), cookie, "a cookie for who is let in, and for nobody else");
        (status, answer.json().await.expect("JSON"))
    }

    /// `stockloop admin` on this service.
    fn admin(&self, token: Option<&str>, args: &[&str]) -> Outcome {
        let env = [
            ("STOCKLOOP_ADMIN_URL", self.base_url.as_str()),
            ("STOCKLOOP_ADMIN_TOKEN", token.unwrap_or("")),
        ];
        Program::built("stockloop").run(&[&["admin"], args].concat(), &env)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_admin_signs_in() {
    let service = FreshService::start();
    let setup = service.process.log();
    assert!(setup.contains("/admin/setup?token="), "nobody is there yet: {setup}");
    service.add("alice", "admin", PASSWORD);
    service.add("bob", "viewer", "staple staple staple");

    let (status, who) = service.sign_in("alice", PASSWORD).await;
    assert_eq!(status, StatusCode::OK, "{who}");
    assert_eq!((&who["name"], &who["role"]), (&json!("alice"), &json!("admin")));
    for (name, password) in [("alice", "correct horse"), ("nobody", PASSWORD), ("alice", "")] {
        let (status, problem) = service.sign_in(name, password).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{problem}");
        assert_eq!(problem["detail"], "the name or the password is wrong");
    }
    // The one-time token has done its work, or rather it never will.
    let (_, token) = setup.split_once("token=").expect("just found");
    let token = token.split_whitespace().next().unwrap_or_default();
    let body = json!({ "token": token, "name": "mallory", "password": PASSWORD });
    let address = format!("{}/api/admin/v1/setup", service.base_url);
    let refused = service.http.post(address).json(&body).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);

    let outcome = service.command("", &["users", "change", "alice", "--disable"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("the last admin"), "{outcome:?}");
    let changed = service.command(
        "another password",
        &["users", "change", "bob", "--role", "admin", "--password-stdin"],
    );
    assert_eq!(changed.code, Some(0), "{changed:?}");
    assert_eq!(service.command("", &["users", "change", "alice", "--disable"]).code, Some(0));
    assert_eq!(service.sign_in("alice", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    let (status, who) = service.sign_in("bob", "another password").await;
    assert_eq!((status, &who["role"]), (StatusCode::OK, &json!("admin")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_the_command_line_is_taken_and_held_to_its_role() {
    let service = FreshService::start();
    let made = service.command("", &["tokens", "add", "night watch", "--role", "viewer"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let viewer = made.stdout.trim();
    let made = service.command("", &["tokens", "add", "deploy", "--role", "admin"]);
    let admin = made.stdout.trim();

    let outcome = service.admin(Some(viewer), &["whoami"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("token night watch") && outcome.stdout.contains("viewer"));
    let refused = |token: Option<&str>, args: &[&str], words: &[&str]| {
        let outcome = service.admin(token, args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
        assert_contains(&outcome.stderr, words);
        assert!(!outcome.stderr.contains(viewer), "{outcome:?}");
    };
    refused(None, &["events"], &["(401)", "tokens add", "STOCKLOOP_ADMIN_TOKEN"]);
    refused(Some("stockloop_wrong"), &["events"], &["(401)", "--token-file", "/admin/tokens"]);
    let quarantine = ["quarantine", "put", "TEA", "--reason", "a test"];
    refused(Some(viewer), &quarantine, &["(403)", "operator", "whoami"]);
    refused(Some(viewer), &["users"], &["(403)", "admin"]);

    let file = service.program.folder().join("token");
    std::fs::write(&file, format!("{admin}\n")).expect("a file can be made");
    let file = file.to_string_lossy().into_owned();
    let as_admin = |input: &str, args: &[&str]| {
        let args = [&["admin", "--url", &service.base_url, "--token-file", &file], args].concat();
        let outcome = Program::built("stockloop").run_on(input, &args, &[]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    as_admin(PASSWORD, &["users", "add", "carol", "--role", "operator", "--password-stdin"]);
    assert_eq!(service.sign_in("carol", PASSWORD).await.0, StatusCode::OK);
    as_admin("", &["users", "disable", "carol"]);
    assert_eq!(service.sign_in("carol", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    assert!(as_admin("", &["users", "list"]).contains("carol"));
    let secret =
        as_admin("", &["tokens", "add", "for a day", "--role", "viewer", "--expires-in", "1day"]);
    assert_eq!(service.admin(Some(secret.trim()), &["whoami"]).code, Some(0));
    let tokens: Vec<Value> = as_admin("", &["--json", "tokens"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(tokens.len(), 3, "{tokens:?}");
    as_admin("", &["tokens", "revoke", &text(&tokens[0]["seq"])]);
    refused(Some(secret.trim()), &["whoami"], &["revoked"]);
    let audit = as_admin("", &["audit", "--action", "token.", "--json"]);
    assert_eq!(audit.lines().count(), 4, "three were made, one was revoked: {audit}");
}
