//! Sends one chunk, and says what became of its lines.

use std::collections::VecDeque;

use anyhow::anyhow;
use common::http::Problem;

use super::chunks::Chunk;
use super::product::Product;
use super::reader::{Entry, Original};
use super::refusal::Refusal;
use super::service::{BatchReply, BatchResult, InventoryService, LineResult, Sending};

/// What became of a chunk's lines.
#[derive(Debug, Default)]
pub(super) struct ChunkOutcome {
    pub(super) accepted: u64,
    pub(super) unchanged: u64,
    pub(super) skipped: u64,
    /// Lines that an earlier run had sent; they are counted above, too.
    pub(super) replayed: u64,
    /// In the order of their lines.
    pub(super) refused: Vec<RefusedLine>,
}

/// A line that was refused.
#[derive(Debug)]
pub(super) struct RefusedLine {
    pub(super) line: u64,
    pub(super) original: Original,
    pub(super) refusal: Refusal,
}

/// A line that is sent.
struct Waiting {
    line: u64,
    original: Original,
    product: Product,
}

/// Sends what can be sent of a chunk.
///
/// # Errors
/// When the service is away for long, or refuses more than a line.
pub(super) async fn send(
    service: &InventoryService,
    sending: &Sending,
    chunk: Chunk,
) -> anyhow::Result<ChunkOutcome> {
    let mut outcome = ChunkOutcome::default();
    let mut parts = VecDeque::from([sort(chunk, &mut outcome)]);
    while let Some(part) = parts.pop_front() {
        if part.is_empty() {
            continue;
        }
        let products: Vec<&Product> = part.iter().map(|waiting| &waiting.product).collect();
        match service.put(sending, &products).await? {
            BatchReply::Done(result) => outcome.count(part, result),
            BatchReply::BadLine(place, problem) => {
                parts.push_front(without(part, place, problem, &mut outcome)?);
            }
            BatchReply::TooLarge(problem) if part.len() == 1 => {
                without(part, 0, problem, &mut outcome)?;
            }
            BatchReply::TooLarge(_) => halve(part, &mut parts),
        }
    }
    outcome.refused.sort_by_key(|refused| refused.line);
    Ok(outcome)
}

/// Puts aside what is refused without the service.
fn sort(chunk: Chunk, outcome: &mut ChunkOutcome) -> Vec<Waiting> {
    let mut waiting = Vec::with_capacity(chunk.entries.len());
    for Entry { line, original, product } in chunk.entries {
        match product {
            Ok(product) => waiting.push(Waiting { line, original, product }),
            Err(refusal) => outcome.refused.push(RefusedLine { line, original, refusal }),
        }
    }
    waiting
}

/// One line that the service can't read spoils its whole batch: it is refused, and the rest goes again.
fn without(
    mut part: Vec<Waiting>,
    place: usize,
    problem: Problem,
    outcome: &mut ChunkOutcome,
) -> anyhow::Result<Vec<Waiting>> {
    if place >= part.len() {
        return Err(anyhow!("the service refuses a line that it was not sent: {problem}"));
    }
    outcome.refuse(part.remove(place), problem);
    Ok(part)
}

/// In the order of the lines: what comes later counts.
fn halve(mut part: Vec<Waiting>, parts: &mut VecDeque<Vec<Waiting>>) {
    let rest = part.split_off(part.len() / 2);
    parts.push_front(rest);
    parts.push_front(part);
}

impl ChunkOutcome {
    fn count(&mut self, part: Vec<Waiting>, result: BatchResult) {
        if result.replayed {
            self.replayed += part.len() as u64;
        }
        for (waiting, line) in part.into_iter().zip(result.lines) {
            match line {
                LineResult::Accepted => self.accepted += 1,
                LineResult::Unchanged => self.unchanged += 1,
                LineResult::Skipped => self.skipped += 1,
                LineResult::Refused { problem } => self.refuse(waiting, problem),
            }
        }
    }

    fn refuse(&mut self, Waiting { line, original, .. }: Waiting, problem: Problem) {
        let refusal = Refusal::Service(problem.detail);
        self.refused.push(RefusedLine { line, original, refusal });
    }
}
