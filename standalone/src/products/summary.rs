//! What became of an import, for people and for programs.

use std::io::{self, Write};

use serde::Serialize;

use super::sending::{ChunkOutcome, RefusedLine};
use crate::admin_cli::outcome::Outcome;
use crate::admin_cli::table::{grouped, harmless_json, printable};

/// Refused lines that are shown.
const SHOWN: usize = 20;

/// What became of the lines so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// The file.
    file: String,
    /// Whether nothing was written.
    dry_run: bool,
    /// Whether the file was read to its end, and everything was sent.
    pub(super) complete: bool,
    accepted: u64,
    unchanged: u64,
    skipped: u64,
    refused: u64,
    /// Lines above that an earlier run had sent.
    replayed: u64,
    /// The first refused lines.
    refusals: Vec<ShownRefusal>,
    /// Columns or fields that were not read.
    pub(super) ignored: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownRefusal {
    line: u64,
    reason: String,
}

impl Summary {
    /// Before anything was sent.
    pub(super) fn new(file: String, dry_run: bool) -> Self {
        Self { file, dry_run, ..Self::default() }
    }

    pub(super) fn add(&mut self, outcome: &ChunkOutcome) {
        self.accepted += outcome.accepted;
        self.unchanged += outcome.unchanged;
        self.skipped += outcome.skipped;
        self.replayed += outcome.replayed;
        self.refused += outcome.refused.len() as u64;
        let left = SHOWN.saturating_sub(self.refusals.len());
        self.refusals.extend(outcome.refused.iter().take(left).map(ShownRefusal::from));
    }

    /// Lines that were read, the header and blank ones not counted.
    pub(super) fn lines(&self) -> u64 {
        self.accepted + self.unchanged + self.skipped + self.refused
    }

    /// How a run that came to its end has ended.
    pub(super) fn outcome(&self) -> Outcome {
        match self.refused {
            0 => Outcome::Done,
            refused if refused == self.lines() => Outcome::NotDone,
            _ => Outcome::PartlyDone,
        }
    }

    /// The counts, as one sentence.
    fn sentence(&self) -> String {
        let [lines, accepted, unchanged, skipped, refused] =
            [self.lines(), self.accepted, self.unchanged, self.skipped, self.refused].map(grouped);
        let would = if self.dry_run { "would be " } else { "" };
        let end = if self.complete { "" } else { ", as far as it came" };
        let first = if self.dry_run { "Nothing was written. " } else { "" };
        let earlier = match self.replayed {
            0 => String::new(),
            replayed => format!(" ({} of them by an earlier run)", grouped(replayed)),
        };
        format!(
            "{first}{lines} products of {}{end}: {accepted} {would}accepted, {unchanged} unchanged, {skipped} skipped, {refused} refused{earlier}",
            self.file
        )
    }

    /// How far it is.
    pub(super) fn progress(&self) -> String {
        format!("{} products, {} refused", grouped(self.lines()), grouped(self.refused))
    }

    /// Prints the result: for programs as JSON alone.
    pub(super) fn print(&self, json: bool, rejects: bool) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            writeln!(out, "{}", harmless_json(&serde_json::to_string(self)?))?;
            return Ok(());
        }
        if !self.complete && self.lines() == 0 {
            return Ok(());
        }
        for remark in self.remarks(rejects) {
            eprintln!("{remark}");
        }
        writeln!(out, "{}", printable(&self.sentence()))?;
        if !self.complete && !self.dry_run {
            eprintln!("Run it again in the same way: what is done is not done twice.");
        }
        Ok(())
    }

    /// What else there is to say, line by line.
    fn remarks(&self, rejects: bool) -> Vec<String> {
        let mut remarks = Vec::new();
        let shown = self
            .refusals
            .iter()
            .map(|refused| format!("line {}: {}", refused.line, printable(&refused.reason)));
        remarks.extend(shown);
        let hidden = self.refused - self.refusals.len() as u64;
        if hidden > 0 {
            remarks.push(format!("… and {} refused lines more", grouped(hidden)));
        }
        if self.refused > 0 && !rejects {
            remarks.push(
                "--rejects FILE writes the refused lines to a file, to be corrected.".to_owned(),
            );
        }
        if !self.ignored.is_empty() {
            remarks.push(format!("Not read: {}", printable(&self.ignored.join(", "))));
        }
        if self.replayed > 0 {
            remarks.push(format!(
                "{} of them were sent by an earlier run within a day: they count as they did then, and nothing was written now, \
                 also if they changed since. --again sends them as new.",
                grouped(self.replayed)
            ));
        }
        remarks
    }
}

impl From<&RefusedLine> for ShownRefusal {
    fn from(refused: &RefusedLine) -> Self {
        Self { line: refused.line, reason: refused.refusal.to_string() }
    }
}
