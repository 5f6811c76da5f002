//! What became of a till's lines.

use engine::kafka::{Offset, SendError};

use super::lines::Chunk;
use crate::admin_cli::outcome::Outcome;
use crate::admin_cli::table::{grouped, printable};

/// Refused lines that are shown.
const SHOWN: usize = 20;

/// What became of the lines so far.
#[derive(Debug, Default)]
pub(super) struct Summary {
    sent: u64,
    refused: u64,
    /// Lines that were read and that the broker did not confirm.
    unsent: u64,
    /// The first refused lines, with the reason.
    refusals: Vec<String>,
}

impl Summary {
    /// Counts a chunk whose messages were sent with these outcomes; returns why the broker took some of them not.
    pub(super) fn add(
        &mut self,
        chunk: &Chunk,
        sent: Vec<Result<Offset, SendError>>,
    ) -> Option<String> {
        self.refuse_unread(chunk);
        let mut broken = None;
        for (line, outcome) in chunk.numbers.iter().zip(sent) {
            match outcome {
                Ok(_) => self.sent += 1,
                Err(SendError::Message(reason)) => self.refuse(format!("line {line}: {reason}")),
                Err(SendError::Broker(reason)) => {
                    self.unsent += 1;
                    broken = broken.or(Some(reason));
                }
            }
        }
        broken
    }

    /// Counts a chunk that is not sent any more.
    pub(super) fn leave(&mut self, chunk: &Chunk) {
        self.refuse_unread(chunk);
        self.unsent += chunk.numbers.len() as u64;
    }

    fn refuse_unread(&mut self, chunk: &Chunk) {
        for refused in &chunk.refused {
            self.refuse(refused.to_string());
        }
    }

    fn refuse(&mut self, what: String) {
        self.refused += 1;
        if self.refusals.len() < SHOWN {
            self.refusals.push(what);
        }
    }

    /// Lines that were read and that the broker did not confirm.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent
    }

    /// How far it is.
    pub(super) fn progress(&self) -> String {
        format!("{} lines, {} refused", grouped(self.sent), grouped(self.refused))
    }

    /// How a run that came to its end has ended.
    pub(super) fn outcome(&self) -> Outcome {
        match (self.sent, self.refused) {
            (_, 0) => Outcome::Done,
            (0, _) => Outcome::NotDone,
            _ => Outcome::PartlyDone,
        }
    }

    /// The refused lines, one by one.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.refusals.iter().map(|text| printable(text)).collect();
        let hidden = self.refused - self.refusals.len() as u64;
        if hidden > 0 {
            remarks.push(format!("… and {} refused lines more", grouped(hidden)));
        }
        remarks
    }

    /// The counts, as one sentence.
    pub(super) fn sentence(&self, file: &str, topic: &str, complete: bool) -> String {
        let lines = self.sent + self.refused + self.unsent;
        let [lines, sent, refused, unsent] =
            [lines, self.sent, self.refused, self.unsent].map(grouped);
        let end = if complete { "" } else { ", as far as it came" };
        let left = if self.unsent == 0 { String::new() } else { format!(", {unsent} not sent") };
        printable(&format!(
            "{lines} lines of {file}{end}: {sent} sent to {topic}, {refused} refused{left}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use engine::kafka::Message;

    use super::*;

    fn chunk(lines: u64) -> Chunk {
        let message = |key: u64| Message {
            topic: "till".to_owned(),
            partition: None,
            key: key.to_string(),
            headers: Vec::new(),
            payload: Vec::new(),
        };
        let numbers: Vec<u64> = (2..2 + lines).collect();
        let messages = numbers.iter().copied().map(message).collect();
        Chunk { numbers, messages, refused: Vec::new() }
    }

    #[test]
    fn what_the_broker_refuses_is_told_by_line_and_what_it_misses_ends_the_run() {
        let mut summary = Summary::default();
        let large = || Err(SendError::Message("too large".to_owned()));
        assert_eq!(summary.add(&chunk(3), vec![Ok(Some(7)), large(), Ok(None)]), None);
        assert_eq!(summary.outcome(), Outcome::PartlyDone);
        let away = || Err(SendError::Broker("away".to_owned()));
        assert_eq!(summary.add(&chunk(2), vec![away(), Ok(Some(8))]), Some("away".to_owned()));
        let sentence = summary.sentence("sales.csv", "till", false);
        let counts =
            "5 lines of sales.csv, as far as it came: 3 sent to till, 1 refused, 1 not sent";
        assert_eq!(sentence, counts);
        summary.leave(&chunk(2));
        assert_eq!(summary.unsent(), 3);
        assert_eq!(summary.remarks(), ["line 3: too large"]);
    }

    #[test]
    fn only_some_of_many_refused_lines_are_shown() {
        let mut summary = Summary::default();
        assert_eq!(summary.outcome(), Outcome::Done);
        let refused = vec![Err(SendError::Message("no".to_owned())); 1_020];
        assert_eq!(summary.add(&chunk(1_020), refused), None);
        assert_eq!(summary.outcome(), Outcome::NotDone);
        let remarks = summary.remarks();
        assert_eq!(remarks.len(), SHOWN + 1);
        assert_eq!(remarks[SHOWN], "… and 1,000 refused lines more");
    }
}
