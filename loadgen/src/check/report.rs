//! What was looked at, what was found, and what could not be looked at.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Error, Result};
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

    /// Lets a judge look, and says so if it could not; the others look all the same.
    pub(crate) fn judge(
        &mut self,
        invariant: Invariant,
        look: impl FnOnce(&mut Self) -> Result<()>,
    ) {
        if let Err(error) = look(self) {
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
    pub(crate) fn kinds(&self) -> Vec<(Kind, u64)> {
        self.found.iter().map(|(kind, told)| (*kind, told.many)).collect()
    }

    /// Writes it for a person to read. Who has read enough, such as `head`, may hang up: that is no error.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        match self.print_all(out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed,
        }
    }

    fn print_all(&self, out: &mut impl Write) -> io::Result<()> {
        self.print_table(out)?;
        for (kind, told) in &self.found {
            print_kind(out, *kind, told)?;
        }
        print_list(out, "To know:", &self.notes)?;
        print_list(out, "Not checked:", &self.unchecked)?;
        let many: u64 = self.found.values().map(|told| told.many).sum();
        match (many, self.whole) {
            (0, true) => writeln!(out, "Nothing was found."),
            (0, false) => {
                writeln!(out, "Nothing was found, but not everything could be looked at.")
            }
            (1, _) => writeln!(out, "1 finding."),
            _ => writeln!(out, "{many} findings."),
        }?;
        out.flush()
    }

    fn print_table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut last = None;
        writeln!(
            out,
            "{:<2}  {:<16} {:<42} {:>10}  findings",
            "", "database", "looked at", "rows"
        )?;
        for ((invariant, side, what), many) in &self.looked {
            if last != Some(*invariant) {
                let (name, words) = invariant.words();
                writeln!(out, "{name}  {words:<70}  {}", self.found_of(*invariant))?;
                last = Some(*invariant);
            }
            writeln!(out, "    {:<16} {what:<42} {many:>10}", side.to_string())?;
        }
        writeln!(out)
    }

    fn found_of(&self, invariant: Invariant) -> u64 {
        let own = self.found.iter().filter(|(kind, _)| kind.invariant() == invariant);
        own.map(|(_, told)| told.many).sum()
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

/// What is written to the file where nothing could be judged.
pub(crate) fn json_of_error(error: &Error) -> Value {
    json!({ "whole": false, "unchecked": [format!("{error:#}")] })
}

/// A text of a database, which may hold anything, as a terminal may show it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn print_kind(out: &mut impl Write, kind: Kind, told: &Told) -> io::Result<()> {
    writeln!(out, "{} {} ({} found)", kind.invariant().words().0, kind.name(), told.many)?;
    for Finding { service, subject, expected, found, .. } in &told.first {
        writeln!(out, "  {service} {}", plain(subject))?;
        writeln!(out, "    expected: {}", plain(expected))?;
        writeln!(out, "    is there: {}", plain(found))?;
    }
    let more = told.many.saturating_sub(told.first.len() as u64);
    if more > 0 {
        writeln!(out, "  … and {more} more (--first shows more)")?;
    }
    writeln!(out, "  next: {}\n", kind.next_step())
}

fn print_list(out: &mut impl Write, title: &str, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}")?;
    for line in lines {
        writeln!(out, "  - {}", plain(line))?;
    }
    writeln!(out)
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

    /// Somebody who reads nothing.
    struct HungUp(io::ErrorKind);

    impl Write for HungUp {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_has_read_enough_may_hang_up() {
        let mut report = Report::new(1);
        report.tell_all((0..3).map(finding));
        let printed = |kind: io::ErrorKind| report.print(&mut HungUp(kind));
        assert!(printed(io::ErrorKind::BrokenPipe).is_ok());
        assert!(printed(io::ErrorKind::WriteZero).is_err());
        let mut text = Vec::new();
        assert!(report.print(&mut text).is_ok());
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("I1 event_lost (3 found)") && text.contains("and 2 more"), "{text}");
        assert!(text.ends_with("3 findings.\n"), "{text}");
    }

    #[test]
    fn who_can_not_look_is_named_and_the_report_is_not_whole() {
        let mut report = Report::new(2);
        report.judge(Invariant::I2, |_| Err(anyhow::anyhow!("the server has hung up")));
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
