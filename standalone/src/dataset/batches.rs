//! The second pass: what to play, invoice by invoice.

use super::catalogue::unless_fatal;
use super::{DatasetError, Refused, SalesLine, SalesLines, Source};

/// The most lines one batch holds; a longer invoice goes on in the next batch.
pub(crate) const MAX_BATCH: usize = 1_000;

/// Consecutive playable lines of one invoice, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The invoice, which serves as the adjustments' reason and reference.
    pub(crate) invoice: String,
    /// Between 1 and [`MAX_BATCH`] lines. What was refused in between is left out.
    pub(crate) lines: Vec<SalesLine>,
}

impl Batch {
    /// The number of its first line, which no other batch of the file shares (an invoice may have several).
    pub(crate) fn first_line(&self) -> u64 {
        self.lines.first().map_or(0, |line| line.line)
    }
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
        lines: Box::new(take_rows(SalesLines::open(source)?, limit)),
        next: None,
        broken: None,
    })
}

/// The first `limit` lines, each judged whether it can be played. Both passes go through here, so they agree.
pub(super) fn take_rows(
    lines: SalesLines,
    limit: Option<u64>,
) -> impl Iterator<Item = Result<SalesLine, Refused>> + Send {
    let limit = limit.and_then(|rows| usize::try_from(rows).ok());
    lines.take(limit.unwrap_or(usize::MAX)).map(|line| line.and_then(SalesLine::playable))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::sales::tests::file_of;
    use super::*;

    fn line(invoice: &str, sku: &str) -> String {
        format!("{invoice},{sku},A,1,2010-12-01T08:26:00,1,")
    }

    fn played(lines: &[String], limit: Option<u64>) -> Vec<(String, usize, u64)> {
        let (_file, source) = file_of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let batches = batches(&source, limit).unwrap().map(Result::unwrap);
        batches
            .map(|batch| (batch.invoice.clone(), batch.lines.len(), batch.first_line()))
            .collect()
    }

    #[test]
    fn consecutive_lines_of_an_invoice_go_together() {
        let lines = [
            line("1", "22423"),
            line("1", "POST"),
            line("1", "22424"),
            line("2", "POST"),
            line("C3", "22423"),
            line("1", "22423"),
        ];
        let expected =
            [("1", 2, 2), ("C3", 1, 6), ("1", 1, 7)].map(|(i, n, l)| (i.to_owned(), n, l));
        assert_eq!(played(&lines, None), expected);
        assert_eq!(played(&lines, Some(2)), [("1".to_owned(), 1, 2)]);
        assert!(played(&lines, Some(0)).is_empty());
    }

    #[test]
    fn a_long_invoice_is_split() {
        let lines = vec![line("1", "22423"); 2 * MAX_BATCH + 1];
        let sizes: Vec<_> = played(&lines, None).iter().map(|(_, size, _)| *size).collect();
        assert_eq!(sizes, [MAX_BATCH, MAX_BATCH, 1]);
    }
}
