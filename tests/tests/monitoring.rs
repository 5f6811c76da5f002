//! Dashboard and alert rules, held against the metrics that the services expose and the sections that the runbook has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use stockloop_tests::poll::eventually;

use crate::system::{DEADLINE, TestService, TestSystem};

/// Only exposed where a copy of a view is kept, as in the tests of that.
pub(crate) const VIEW_BEHIND: &str = "stockloop_view_behind_messages";

#[tokio::test(flavor = "multi_thread")]
async fn what_dashboard_and_rules_name_is_exposed_by_the_services() {
    let system = TestSystem::embedded().await;
    system.product.put_product("TEA", 12).await;
    system.wait_until_settled().await;
    system.order.place_order("TEA", 2).await;
    assert_eq!(system.product.post("/api/admin/v1/verifications", json!({})).await.status, 201);
    let files = ["deploy/grafana/stockloop.json", "deploy/prometheus/rules.yml"];
    let mut named: BTreeSet<String> = files.iter().flat_map(|file| names(&read(file))).collect();
    named.remove(VIEW_BEHIND);
    assert!(named.len() > 20, "the files name metrics: {named:?}");
    // Some are only there once an order was answered and sampled.
    eventually("every metric that is named", DEADLINE, async || {
        let mut exposed = exposed_by(&system.product).await;
        exposed.extend(exposed_by(&system.order).await);
        let missing: Vec<String> = named.difference(&exposed).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
    .await;
    save_for_promtool(&system.product).await;
    save_for_promtool(&system.order).await;
    system.stop().await;
}

#[test]
fn every_runbook_is_there() {
    let anchors: BTreeSet<String> = read("docs/OPERATIONS.md")
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|heading| anchor(heading.trim_start_matches('#').trim()))
        .collect();
    let rules = read("deploy/prometheus/rules.yml");
    let runbooks: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    let alerts = rules.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
    assert_eq!(runbooks.len(), alerts, "each alert has a runbook");
    for runbook in runbooks {
        let section = runbook.strip_prefix("docs/OPERATIONS.md#").expect("a section of the manual");
        assert!(anchors.contains(section), "{runbook} leads nowhere: {anchors:?}");
    }
}

/// As GitHub makes it: lower case, dashes for blanks, and nothing but letters, digits and dashes.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metrics that a text names.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("stockloop_")).map(str::to_owned).collect()
}

/// The metrics that a service has samples of now.
pub(crate) async fn exposed_by(service: &TestService) -> BTreeSet<String> {
    let lines = service.metrics().await;
    lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| names(line).into_iter().next())
        .collect()
}

/// Keeps a service's metrics for promtool, which .ci/run gives them to.
async fn save_for_promtool(service: &TestService) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.prom", service.name()));
    fs::write(&path, service.metrics().await).expect("the metrics can be kept");
}
