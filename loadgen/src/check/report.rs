//! What was looked at, what was found, and what could not be looked at.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::finding::{Finding, Invariant, Kind, Side};

/// The findings, the first few of each kind; however many there are, memory is bounded.
#[derive(Debug)]
pub(crate) struct Report {
    /// Findings of each kind that are kept.
    first: usize,
    looked: BTreeMap<(Invariant, Side, &'static str), u64>,
    found: BTreeMap<Kind, Told>,
    notes: Vec<String>,
    unchecked: Vec<String>,
    /// Whether everything that was asked for was looked at.
    whole: bool,
}

#[derive(Debug, Default)]
struct Told {
    many: u64,
    first: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(first: usize) -> Self {
        let (looked, found, notes, unchecked) = Default::default();
        Self { first, looked, found, notes, unchecked, whole: true }
    }

    /// So many rows of something were looked at.
    pub(crate) fn looked(
        &mut self,
        invariant: Invariant,
        side: Side,
        what: &'static str,
        many: u64,
    ) {
        *self.looked.entry((invariant, side, what)).or_default() += many;
    }

    /// Something is wrong.
    pub(crate) fn tell(&mut self, finding: Finding) {
        let told = self.found.entry(finding.kind).or_default();
        told.many += 1;
        if told.first.len() < self.first {
            told.first.push(finding);
        }
    }

    /// All of `findings` are wrong.
    pub(crate) fn tell_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.tell(finding));
    }

    /// Something that a person may want to know and that is no finding.
    pub(crate) fn note(&mut self, words: impl Into<String>) {
        self.notes.push(words.into());
    }

    /// Something was not checked, and why.
    pub(crate) fn unchecked(&mut self, words: impl Into<String>) {
        self.unchecked.push(words.into());
    }

    /// Something that was asked for could not be looked at, and why.
    pub(crate) fn could_not_look(&mut self, words: impl Into<String>) {
        self.whole = false;
        self.unchecked(words);
    }

    /// Notes how a judge ended; one that could not look leaves the others to it.
    pub(crate) fn note_end(&mut self, invariant: Invariant, ended: Result<()>) {
        if let Err(error) = ended {
            let number = invariant.words().0;
            self.could_not_look(format!("{number}: it could not be looked at: {error:#}"));
        }
    }

    pub(crate) fn has_findings(&self) -> bool {
        !self.found.is_empty()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The kinds of what was found, and how many of each.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> Vec<(Kind, u64)> {
        self.found.iter().map(|(kind, told)| (*kind, told.many)).collect()
    }

    pub(crate) fn print(&self) {
        self.print_table();
        for (kind, told) in &self.found {
            self.print_kind(*kind, told);
        }
        print_list("To know:", &self.notes);
        print_list("Not checked:", &self.unchecked);
        let many: u64 = self.found.values().map(|told| told.many).sum();
        match (many, self.whole) {
            (0, true) => println!("Nothing was found."),
            (0, false) => println!("Nothing was found, but not everything could be looked at."),
            (1, _) => println!("1 finding."),
            _ => println!("{many} findings."),
        }
    }

    fn print_table(&self) {
        let mut last = None;
        println!("{:<2}  {:<16} {:<42} {:>10}  findings", "", "database", "looked at", "rows");
        for ((invariant, side, what), many) in &self.looked {
            if last != Some(*invariant) {
                let (name, words) = invariant.words();
                println!("{name}  {words:<70}  {}", self.found_of(*invariant));
                last = Some(*invariant);
            }
            println!("    {:<16} {what:<42} {many:>10}", side.to_string());
        }
        println!();
    }

    fn found_of(&self, invariant: Invariant) -> u64 {
        let own = self.found.iter().filter(|(kind, _)| kind.invariant() == invariant);
        own.map(|(_, told)| told.many).sum()
    }

    fn print_kind(&self, kind: Kind, told: &Told) {
        println!("{} {} ({} found)", kind.invariant().words().0, kind.name(), told.many);
        for Finding { service, subject, expected, found, .. } in &told.first {
            println!("  {service} {}", plain(subject));
            println!("    expected: {}", plain(expected));
            println!("    is there: {}", plain(found));
        }
        if told.many > told.first.len() as u64 {
            println!("  … and {} more (--first shows more)", told.many - told.first.len() as u64);
        }
        println!("  next: {}\n", kind.next_step());
    }

    pub(crate) fn to_json(&self) -> Value {
        let looked = |((invariant, side, what), many): (&(Invariant, Side, &str), &u64)| json!({"invariant": invariant, "service": side, "what": what, "rows": many});
        let found = |(kind, told): (&Kind, &Told)| {
            json!({
                "invariant": kind.invariant(),
                "kind": kind,
                "count": told.many,
                "next": kind.next_step(),
                "first": told.first,
            })
        };
        json!({
            "whole": self.whole,
            "looked": self.looked.iter().map(looked).collect::<Vec<_>>(),
            "findings": self.found.iter().map(found).collect::<Vec<_>>(),
            "notes": self.notes,
            "unchecked": self.unchecked,
        })
    }
}

/// A text of a database, which may hold anything, as a terminal may show it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn print_list(title: &str, lines: &[String]) {
    if !lines.is_empty() {
        println!("{title}");
        lines.iter().for_each(|line| println!("  - {}", plain(line)));
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(subject: usize) -> Finding {
        Finding::new(Kind::EventLost, Side::Product, subject, "a row", "none")
    }

    #[test]
    fn many_are_counted_and_few_are_kept() {
        let mut report = Report::new(2);
        assert!(!report.has_findings());
        report.tell_all((0..5).map(finding));
        assert_eq!(report.kinds(), [(Kind::EventLost, 5)]);
        let json = report.to_json();
        assert_eq!(json["findings"][0]["count"], 5);
        assert_eq!(json["findings"][0]["first"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["findings"][0]["first"][0]["kind"], "event_lost");
    }

    #[test]
    fn who_can_not_look_is_named_and_the_report_is_not_whole() {
        let mut report = Report::new(2);
        report.note_end(Invariant::I2, Err(anyhow::anyhow!("the server has hung up")));
        assert!(!report.is_whole() && !report.has_findings());
        assert_eq!(
            report.to_json()["unchecked"][0],
            "I2: it could not be looked at: the server has hung up"
        );
        let mut report = Report::new(2);
        report.unchecked("I6: nobody asked");
        assert!(report.is_whole());
        report.could_not_look("I3: the copy is not complete yet");
        assert!(!report.is_whole());
    }
}
