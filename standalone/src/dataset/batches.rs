//! The second pass: what to play, invoice by invoice.

use super::reader::{playable_lines, unless_fatal};
use super::refusal::Refused;
use super::sale::SalesLine;
use super::source::{DatasetError, Source};

/// The most lines one batch holds; a longer invoice goes on in the next batch.
pub(super) const MAX_BATCH: usize = 1_000;

/// Consecutive playable lines of one invoice, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Whose lines they are.
    pub(crate) invoice: String,
    /// Between 1 and [`MAX_BATCH`] lines. What was refused in between is left out.
    pub(crate) lines: Vec<SalesLine>,
}

/// The batches of a source, one at a time; only the batch at hand is in memory.
pub(crate) struct Batches {
    source: Source,
    lines: Box<dyn Iterator<Item = Result<SalesLine, Refused>> + Send>,
    next: Option<SalesLine>,
    broken: Option<DatasetError>,
}

/// Opens a source for playing, with the same rules and the same `limit` as [`super::survey`].
///
/// Refused lines are passed over: the survey has counted them.
///
/// # Errors
/// [`DatasetError`] if the source can't be opened or has no proper header.
pub(crate) fn batches(source: &Source, limit: Option<u64>) -> Result<Batches, DatasetError> {
    Ok(Batches {
        source: source.clone(),
        lines: Box::new(playable_lines(source, limit)?),
        next: None,
        broken: None,
    })
}

impl Iterator for Batches {
    type Item = Result<Batch, DatasetError>;

    /// The next batch; the lines before a source breaks off come first, then its error, once.
    fn next(&mut self) -> Option<Self::Item> {
        let Some(first) = self.next.take().or_else(|| self.next_line()) else {
            return self.broken.take().map(Err);
        };
        let invoice = first.invoice.clone();
        let mut lines = vec![first];
        while let Some(line) = self.next_line() {
            if line.invoice != invoice || lines.len() == MAX_BATCH {
                self.next = Some(line);
                break;
            }
            lines.push(line);
        }
        Some(Ok(Batch { invoice, lines }))
    }
}

impl Batches {
    fn next_line(&mut self) -> Option<SalesLine> {
        for line in self.lines.by_ref() {
            match line.map_err(|refused| unless_fatal(&self.source, refused)) {
                Ok(line) => return Some(line),
                Err(Ok(_counted_by_the_survey)) => {}
                Err(Err(error)) => self.broken = Some(error),
            }
        }
        None
    }
}
