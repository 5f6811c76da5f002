//! Reads the file in a thread of its own, and makes messages of its lines.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::iter::Take;

use engine::kafka::Message;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::TillArgs;
use super::message::{KeyKind, json};
use crate::dataset::{DatasetError, RawLine, RawLines, Refused, Source, unless_fatal};
use crate::tabular::unpacked;

/// Lines that are sent together at the most.
const MAX_CHUNK: usize = 1_000;
/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;

/// Lines that follow each other in the file, and are sent together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The numbers of the lines that have a message.
    pub(super) numbers: Vec<u64>,
    /// Their messages.
    pub(super) messages: Vec<Message>,
    /// The lines that can't be read.
    pub(super) refused: Vec<Refused>,
}

impl Chunk {
    /// How many lines it was made of; none at the end of the file.
    pub(super) fn lines(&self) -> usize {
        self.numbers.len() + self.refused.len()
    }
}

/// The messages of a file, a chunk at a time.
pub(super) struct TillLines {
    source: Source,
    lines: Take<RawLines>,
    key: KeyKind,
    topic: String,
    /// Lines of a chunk.
    together: usize,
}

impl TillLines {
    /// Opens the file and reads its header; `bar` shows how far it is read. Blocks.
    ///
    /// # Errors
    /// [`DatasetError`] if it can't be opened, or has no proper header.
    pub(super) fn open(args: &TillArgs, bar: &ProgressBar) -> Result<Self, DatasetError> {
        let source = args.source();
        let opened = bytes(args)
            .and_then(|bytes| unpacked(BufReader::with_capacity(BUFFER, bar.wrap_read(bytes))));
        let text = opened.map_err(|error| DatasetError::Open { origin: source.clone(), error })?;
        let limit = args.limit.and_then(|lines| usize::try_from(lines).ok());
        let lines = RawLines::of(&source, text)?.take(limit.unwrap_or(usize::MAX));
        let (key, topic) = (args.key, args.topic.clone());
        Ok(Self { source, lines, key, topic, together: together(args.rate) })
    }

    /// Reads no further ahead than a chunk; what the thread returns is why the file could not be read to its end.
    pub(super) fn read(mut self) -> (mpsc::Receiver<Chunk>, JoinHandle<Option<DatasetError>>) {
        let (to, chunks) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || {
            loop {
                let (chunk, broken) = self.next_chunk();
                let ended = broken.is_some() || chunk.lines() == 0;
                let nobody_waits = chunk.lines() > 0 && to.blocking_send(chunk).is_err();
                if ended || nobody_waits {
                    return broken;
                }
            }
        });
        (chunks, reading)
    }

    fn next_chunk(&mut self) -> (Chunk, Option<DatasetError>) {
        let mut chunk = Chunk::default();
        while chunk.lines() < self.together {
            match self.lines.next() {
                None => break,
                Some(Ok(raw)) => {
                    chunk.numbers.push(raw.line);
                    chunk.messages.push(self.message(&raw));
                }
                Some(Err(refused)) => match unless_fatal(&self.source, refused) {
                    Ok(refused) => chunk.refused.push(refused),
                    Err(broken) => return (chunk, Some(broken)),
                },
            }
        }
        (chunk, None)
    }

    fn message(&self, raw: &RawLine) -> Message {
        Message {
            topic: self.topic.clone(),
            partition: None,
            key: self.key.of(raw),
            headers: Vec::new(),
            payload: json(raw),
        }
    }
}

fn bytes(args: &TillArgs) -> io::Result<Box<dyn Read + Send>> {
    match args.is_standard_input() {
        true => Ok(Box::new(io::stdin())),
        false => Ok(Box::new(File::open(&args.file)?)),
    }
}

/// Lines that are sent together: about a tenth of a second's, so that a slow till sends steadily.
fn together(rate: u32) -> usize {
    match usize::try_from(rate / 10) {
        _ if rate == 0 => MAX_CHUNK,
        Ok(lines) => lines.clamp(1, MAX_CHUNK),
        Err(_) => MAX_CHUNK,
    }
}
