//! What the demo proved, for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::Context;
use engine::verify::{State, Verification};
use serde::Serialize;

use super::play::Played;
use super::verify::Findings;
use super::views::ComparedView;
use crate::admin_cli::table::grouped;
use crate::dataset::Catalogue;
use crate::stack::Stack;

/// The summary; its JSON has stable keys.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Lines read.
    rows: u64,
    /// Lines that changed the stock.
    accepted: u64,
    /// Lines that did not.
    refused: u64,
    /// Changes committed, opening stock included.
    changes: u64,
    /// Those of them that are PROCESSED.
    processed: u64,
    /// Changes that had given up and were retried.
    exhausted_then_retried: u64,
    /// Mails about alerts that arrived.
    alerts_mailed: usize,
    /// Whether the copy equals the source, row by row.
    replica_equal: bool,
    /// What product-service itself found when it verified order-service's copy.
    verified: Verified,
    /// What it found of further copies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also_verified: Vec<Verified>,
    /// Orders placed, and their final states.
    orders: Orders,
    /// Whether every product's stock is what opening stock, adjustments and confirmed orders make.
    stock_conserved: bool,
    /// Whether the views say what the lines and the services say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    views: Vec<ComparedView>,
    /// From the first change to the last acknowledgement.
    seconds: f64,
    /// Commit → acknowledged, but for the opening stock.
    latency_ms: Latency,
    /// Refused lines by reason.
    refused_by_reason: BTreeMap<String, u64>,
    #[serde(skip)]
    refused_examples: Vec<String>,
    #[serde(skip)]
    differences: Vec<String>,
    #[serde(skip)]
    stock_differences: Vec<String>,
    #[serde(skip)]
    products: usize,
    #[serde(skip)]
    open: u64,
}

/// Orders by their final state; those add up to `placed`.
#[derive(Debug, Serialize)]
struct Orders {
    placed: u64,
    confirmed: u64,
    rejected: u64,
    cancelled: u64,
}

impl Orders {
    fn of(by_status: &BTreeMap<String, u64>) -> Self {
        let of = |status: &str| by_status.get(status).copied().unwrap_or(0);
        Self {
            placed: by_status.values().sum(),
            confirmed: of("CONFIRMED"),
            rejected: of("REJECTED"),
            cancelled: of("CANCELLED"),
        }
    }

    fn all_ended(&self) -> bool {
        self.confirmed + self.rejected + self.cancelled == self.placed
    }
}

/// A verification of all keys.
#[derive(Debug, Serialize)]
struct Verified {
    /// Whose copy.
    consumer: String,
    /// `equal`, `different` or `unknown`.
    state: &'static str,
    /// Keys that were compared, removed ones too.
    keys: i64,
    /// Keys that differed.
    differences: i64,
    /// Why it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Verification> for Verified {
    fn from(row: Verification) -> Self {
        let Verification { consumer, state, keys, differences, reason, .. } = row;
        Self { consumer, state: state.name(), keys, differences, reason }
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consumer, state, keys, differences, reason } = self;
        match reason {
            Some(reason) => write!(f, "{consumer}: {state}: {reason}"),
            None => write!(f, "{consumer}: {state} ({keys} keys, {differences} differences)"),
        }
    }
}

impl fmt::Display for ComparedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, compared, equal, reason, noun, differences } = self;
        if let Some(reason) = reason {
            return writeln!(f, "views: {view:<15}NOT COMPARED: {reason}");
        }
        let equals = if *equal { "equals" } else { "DIFFERS" };
        let label = format!("views: {view}");
        writeln!(f, "{label:<22}{equals} ({} {noun} compared)", grouped(*compared))?;
        differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))
    }
}

/// Percentiles, in milliseconds.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

impl Report {
    pub(crate) fn new(
        survey: &Catalogue,
        played: &Played,
        retried: u64,
        findings: Findings,
        verified: (Verification, Vec<Verification>),
        stack: &Stack,
        seconds: f64,
    ) -> Self {
        let mut refused_by_reason = played.refused.clone();
        for (reason, lines) in &survey.refused {
            *refused_by_reason.entry((*reason).to_owned()).or_default() += lines;
        }
        let mut refused_examples: Vec<String> =
            survey.examples.iter().map(ToString::to_string).collect();
        refused_examples.extend(played.examples.iter().cloned());
        Self {
            rows: survey.rows,
            accepted: played.accepted,
            refused: refused_by_reason.values().sum(),
            changes: findings.changes,
            processed: findings.processed,
            exhausted_then_retried: retried,
            alerts_mailed: stack.catcher.mails().len(),
            replica_equal: findings.differences.is_empty(),
            verified: verified.0.into(),
            also_verified: verified.1.into_iter().map(Verified::from).collect(),
            orders: Orders::of(&findings.orders),
            stock_conserved: findings.stock_differences.is_empty(),
            views: Vec::new(),
            seconds,
            latency_ms: Latency {
                p50: findings.latency.value_at_quantile(0.5) as f64 / 1_000.0,
                p99: findings.latency.value_at_quantile(0.99) as f64 / 1_000.0,
            },
            refused_by_reason,
            refused_examples,
            differences: findings.differences,
            stock_differences: findings.stock_differences,
            products: findings.products,
            open: findings.open,
        }
    }

    /// The same with the views that were compared.
    pub(crate) fn with_views(self, views: Vec<ComparedView>) -> Self {
        Self { views, ..self }
    }

    /// Whether something was played, every change is PROCESSED, the copy equals the source, all copies are verified, every
    /// order has ended, no piece is lost, and the views are right.
    pub(crate) fn is_good(&self) -> bool {
        self.accepted > 0
            && self.replica_equal
            && self.all_verified().all(|one| one.state == State::Equal.name())
            && self.processed == self.changes
            && self.open == 0
            && self.orders.all_ended()
            && self.stock_conserved
            && self.views.iter().all(|view| view.equal)
    }

    fn all_verified(&self) -> impl Iterator<Item = &Verified> {
        std::iter::once(&self.verified).chain(&self.also_verified)
    }

    /// Tries whether a summary can be written to this file, before the work begins.
    pub(crate) fn try_place(file: &Path) -> anyhow::Result<()> {
        let known = file.metadata().ok();
        // What is no file, such as a pipe, may be opened only once.
        if known.as_ref().is_some_and(|known| !known.is_file() && !known.is_dir()) {
            return Ok(());
        }
        let tried =
            OpenOptions::new().append(true).create(true).open(file).and_then(|_| match known {
                Some(_) => Ok(()),
                None => fs::remove_file(file),
            });
        tried.with_context(|| format!("the report {} can't be written", file.display()))
    }

    /// Writes the summary as JSON.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        fs::write(file, json + "\n")
            .with_context(|| format!("the report {} can't be written", file.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(f, "lines read            {}", self.rows)?;
        writeln!(f, "  accepted            {}", self.accepted)?;
        writeln!(f, "  refused             {}", self.refused)?;
        for (reason, lines) in &self.refused_by_reason {
            writeln!(f, "    {lines:>6}  {reason}")?;
        }
        for example in &self.refused_examples {
            writeln!(f, "            {example}")?;
        }
        if self.accepted == 0 {
            writeln!(f, "NOTHING WAS PLAYED")?;
        }
        writeln!(f, "changes committed     {}", self.changes)?;
        writeln!(f, "  PROCESSED           {}", self.processed)?;
        writeln!(f, "  gave up, retried    {}", self.exhausted_then_retried)?;
        writeln!(f, "mails to the operator {}", self.alerts_mailed)?;
        writeln!(f, "time                  {:.1} s", self.seconds)?;
        writeln!(
            f,
            "commit→acknowledged   p50 {:.1} ms, p99 {:.1} ms, without the opening stock",
            self.latency_ms.p50, self.latency_ms.p99
        )?;
        let equal = if self.replica_equal { "equals" } else { "DIFFERS FROM" };
        writeln!(
            f,
            "the copy              {equal} the source ({} products compared)",
            self.products
        )?;
        for difference in self.differences.iter().take(10) {
            writeln!(f, "  {difference}")?;
        }
        for verified in self.all_verified() {
            writeln!(f, "stockloop verify      {verified}")?;
        }
        let orders = &self.orders;
        writeln!(f, "orders placed         {}", orders.placed)?;
        writeln!(
            f,
            "  CONFIRMED {}, REJECTED {}, CANCELLED {}",
            orders.confirmed, orders.rejected, orders.cancelled
        )?;
        let conserved =
            if self.stock_conserved { "adds up for every product" } else { "DOES NOT ADD UP" };
        writeln!(f, "the stock             {conserved}")?;
        for difference in self.stock_differences.iter().take(10) {
            writeln!(f, "  {difference}")?;
        }
        for view in &self.views {
            write!(f, "{view}")?;
        }
        if self.open > 0 {
            writeln!(f, "NOT PROCESSED         {}", self.open)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_for_the_report_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new.json"), folder.path().join("old.json"));
        fs::write(&old, "old").unwrap();
        Report::try_place(&new).unwrap();
        Report::try_place(&old).unwrap();
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        for bad in [folder.path().join("no/such.json"), folder.path().to_owned()] {
            let error = Report::try_place(&bad).unwrap_err().to_string();
            assert!(error.contains(&bad.display().to_string()), "{error}");
        }
    }
}
