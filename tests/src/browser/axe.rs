//! axe-core, which finds what shuts people out of a page: fetched by npm once, for tests only.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::Window;
use crate::once::Once;
use crate::parts;
use crate::process::Launch;

const PACKAGE: &str = "axe-core@4.14.1";
const NAME: &str = "axe-core-4.14.1";
const SCRIPT: &str = "node_modules/axe-core/axe.min.js";
const FETCH_DEADLINE: Duration = Duration::from_secs(120);
/// What counts as a finding: the two highest of four grades.
const SERIOUS: [&str; 2] = ["serious", "critical"];
const RUN: &str = "
    const done = arguments[arguments.length - 1];
    axe.run(document, { resultTypes: ['violations'] })
        .then(found => done(found.violations), error => done(String(error)));
";

static SHARED: Once<Axe> = Once::new();

/// The script, ready for use.
#[derive(Debug)]
pub struct Axe {
    source: String,
}

/// A rule that a page breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad that is: `serious` or `critical`.
    pub impact: String,
    /// The rule's name and what it asks for.
    pub rule: String,
    /// The elements, and what is wrong with each.
    pub elements: Vec<String>,
}

impl Axe {
    /// The script, fetched on first use.
    pub fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get(Self::fetched)
    }

    fn fetched() -> anyhow::Result<Self> {
        let script = parts::kept(NAME, fetch)?.join(SCRIPT);
        let source = fs::read_to_string(&script)
            .with_context(|| format!("{} can't be read", script.display()))?;
        Ok(Self { source })
    }

    /// The serious findings on the page that `window` shows.
    pub async fn findings(&self, window: &Window) -> anyhow::Result<Vec<Finding>> {
        // By the driver, past the page's policy for scripts, as an extension would.
        if window.run("return window.axe === undefined").await? == true {
            window.run(&self.source).await?;
        }
        let found = window.run_async(RUN).await?;
        let Some(violations) = found.as_array() else { bail!("axe-core failed: {found}") };
        Ok(violations.iter().map(Finding::new).filter(Finding::is_serious).collect())
    }
}

impl Finding {
    fn new(violation: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let nodes = violation["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let element =
            |node: &Value| format!("{}: {}", text(&node["html"]), text(&node["failureSummary"]));
        Self {
            impact: text(&violation["impact"]),
            rule: format!("{}: {}", text(&violation["id"]), text(&violation["help"])),
            elements: nodes.iter().map(element).collect(),
        }
    }

    fn is_serious(&self) -> bool {
        SERIOUS.contains(&self.impact.as_str())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.rule, self.impact)?;
        self.elements.iter().try_for_each(|element| write!(f, "\n    {element}"))
    }
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    let mut run = Launch::new("npm")
        .args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
        .args([folder.to_owned(), PathBuf::from(PACKAGE)])
        .spawn()?;
    let status = run.wait_for_exit(FETCH_DEADLINE)?;
    ensure!(
        status.success(),
        "npm could not fetch {PACKAGE}; are `npm` on PATH and its registry reachable?\n{}",
        run.log_tail()
    );
    Ok(())
}
