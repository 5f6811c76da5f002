//! The table of docs/RELIABILITY.md, a part of a Markdown file that is written anew; the rest of the file stays.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::outcome::{Outcome, Sum, of_all};
use super::scenarios::{ALL, Scenario};
use crate::files::{ensure_writable, write};

/// What is between these lines is written anew.
const BEGIN: &str = "<!-- chaos: begin -->";
const END: &str = "<!-- chaos: end -->";

/// A Markdown file, and what it says around the table.
pub(super) struct Report {
    file: PathBuf,
    before: String,
    after: String,
}

impl Report {
    /// Looks where the table is to be: in a file with both lines, or in one that is new or empty.
    pub(super) fn open(file: &Path) -> Result<Self> {
        let name = file.display();
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {name}"))?,
        };
        let (before, after) = around(&text).with_context(|| {
            format!("{name} has no lines {BEGIN} and {END}, between which the table could be")
        })?;
        // It stays as it is until there is something to say.
        ensure_writable(file)?;
        Ok(Self { file: file.to_owned(), before, after })
    }

    /// Writes the table of `outcomes`, under the words of `command` and those of how much was done.
    pub(super) fn write(&self, command: &str, effort: &str, outcomes: &[Outcome]) -> Result<()> {
        let Self { file, before, after } = self;
        let table = table(outcomes);
        let text = format!("{before}{BEGIN}\n\n`{command}`\n\n{effort}:\n\n{table}\n{END}{after}");
        write(file, text)
    }
}

fn around(text: &str) -> Option<(String, String)> {
    if text.trim().is_empty() {
        return Some((String::new(), "\n".to_owned()));
    }
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before.to_owned(), after.to_owned()))
}

/// A line for each scenario, whatever seeds it was run with, and one for all.
fn table(outcomes: &[Outcome]) -> String {
    let outcomes: Vec<&Outcome> = outcomes.iter().collect();
    let mut text = "| scenario | seeds | changes | lost | applied twice | unalerted | other | exhausted | time to drain |\n\
                    |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    // In the order in which they are listed, whatever ended when.
    for Scenario { name, .. } in &ALL {
        let of_it = outcomes.iter().filter(|run| run.scenario == *name);
        let runs: Vec<&Outcome> = of_it.copied().collect();
        if !runs.is_empty() {
            text.push_str(&line([format!("`{name}`"), seeds(&runs)], &Sum::of(&runs)));
        }
    }
    text + &line(of_all(outcomes.len()), &Sum::of(&outcomes))
}

fn line([scenario, seeds]: [String; 2], sum: &Sum) -> String {
    let Sum { changes, lost, applied_twice, unalerted, other, exhausted, .. } = sum;
    let time_to_drain = sum.time_to_drain();
    format!(
        "| {scenario} | {seeds} | {changes} | {lost} | {applied_twice} | {unalerted} | {other} | {exhausted} | {time_to_drain} |\n"
    )
}

/// Those that follow each other in one.
fn seeds(runs: &[&Outcome]) -> String {
    let follows = |one: &&Outcome, next: &&Outcome| one.seed.wrapping_add(1) == next.seed;
    let words = |runs: &[&Outcome]| match runs {
        [] => String::new(),
        [alone] => alone.seed.to_string(),
        [first, .., last] => format!("{}–{}", first.seed, last.seed),
    };
    runs.chunk_by(follows).map(words).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn run(scenario: &str, seed: u64, drain_s: Option<f64>) -> Outcome {
        let scenario = scenario.to_owned();
        Outcome { scenario, seed, changes: 10, drain_s, ..Outcome::default() }
    }

    #[test]
    fn the_table_takes_its_own_place_and_nothing_else() {
        let folder = tempdir().unwrap();
        let file = folder.path().join("RELIABILITY.md");
        fs::write(&file, format!("# Found\n\n{BEGIN}\nold\n{END}\n\nMore.\n")).unwrap();
        // In the order in which they are run.
        let runs = [run("kill", 7, Some(1.0)), run("poison", 7, None), run("kill", 8, Some(2.5))];
        for _ in 0..2 {
            let report = Report::open(&file).unwrap();
            report.write("chaos --seed 7", "3 runs in 9 s", &runs).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                text.starts_with(&format!(
                    "# Found\n\n{BEGIN}\n\n`chaos --seed 7`\n\n3 runs in 9 s:\n\n| scenario |"
                )),
                "{text}"
            );
            assert!(
                text.ends_with(&format!("{END}\n\nMore.\n")) && !text.contains("old"),
                "{text}"
            );
            for line in [
                "| `kill` | 7–8 | 20 | 0 | 0 | 0 | 0 | 0 | 2.5 s |\n",
                "| `poison` | 7 | 10 | 0 | 0 | 0 | 0 | 0 | never |\n",
                "| all | 3 runs | 30 | 0 | 0 | 0 | 0 | 0 | never |\n",
            ] {
                assert!(text.contains(line), "{text}");
            }
        }
    }

    #[test]
    fn only_seeds_that_there_were_are_named() {
        let seeds = |all: &[u64]| {
            let runs: Vec<Outcome> = all.iter().map(|seed| run("kill", *seed, None)).collect();
            seeds(&runs.iter().collect::<Vec<_>>())
        };
        assert_eq!(seeds(&[7]), "7");
        assert_eq!(seeds(&[7, 8, 9, 11, 13, 14]), "7–9, 11, 13–14");
        assert_eq!(seeds(&[u64::MAX, 0]), format!("{}–0", u64::MAX));
    }

    #[test]
    fn a_new_file_has_the_table_alone_and_one_without_a_place_is_left() {
        let folder = tempdir().unwrap();
        let (new, other) = (folder.path().join("new.md"), folder.path().join("other.md"));
        let report = Report::open(&new).unwrap();
        report.write("chaos", "1 run in 9 s", &[run("kill", 7, None)]).unwrap();
        assert!(fs::read_to_string(&new).unwrap().starts_with(BEGIN));
        fs::write(&other, "words").unwrap();
        let refused = Report::open(&other).err().unwrap().to_string();
        assert!(refused.contains(BEGIN), "{refused}");
        assert_eq!(fs::read_to_string(&other).unwrap(), "words");
        let nowhere = Report::open(&folder.path().join("no/such.md")).err().unwrap().to_string();
        assert!(nowhere.contains("cannot write"), "{nowhere}");
    }
}
