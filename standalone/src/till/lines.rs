//! Reads the file in a thread of its own, and makes messages of its lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::iter::Take;
use std::time::Duration;

use engine::kafka::Message;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::message::{KeyKind, json};
use super::{Plan, TillArgs};
use crate::dataset::{DatasetError, RawLine, RawLines, Refused, Source, unless_fatal};
use crate::tabular::unpacked;

/// Lines that are sent together at the most.
const MAX_CHUNK: usize = 1_000;
/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;
/// Without a line for so long, the reader waits for bytes: it needs microseconds for one.
const AT_REST: Duration = Duration::from_millis(500);

/// What a line of the file is.
#[derive(Debug)]
pub(super) enum Line {
    /// Its number and its message.
    Message(u64, Message),
    /// It can't be read.
    Refused(Refused),
}

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
    pub(super) fn of(lines: Vec<Line>) -> Self {
        let mut chunk = Self::default();
        for line in lines {
            match line {
                Line::Message(number, message) => {
                    chunk.numbers.push(number);
                    chunk.messages.push(message);
                }
                Line::Refused(refused) => chunk.refused.push(refused),
            }
        }
        chunk
    }
}

/// The messages of a file, line by line.
pub(super) struct TillLines {
    source: Source,
    lines: Take<RawLines>,
    key: KeyKind,
    topic: String,
    /// Lines that are read ahead.
    ahead: usize,
}

impl TillLines {
    /// Opens the file and reads its header; `bar` shows how far it is read. Blocks.
    ///
    /// Once `ended`, only lines come whose bytes are read already.
    ///
    /// # Errors
    /// [`DatasetError`] if it can't be opened, or has no proper header.
    pub(super) fn open(
        args: &TillArgs,
        bar: &ProgressBar,
        ended: CancellationToken,
    ) -> Result<Self, DatasetError> {
        let plan = args.plan();
        let opened = bytes(args).and_then(|bytes| {
            let bytes = bar.wrap_read(UntilEnded { bytes, ended });
            unpacked(BufReader::with_capacity(BUFFER, bytes))
        });
        let origin = || plan.source.clone();
        let text = opened.map_err(|error| DatasetError::Open { origin: origin(), error })?;
        Self::of(&plan, text)
    }

    /// The lines of a text, whose header is read. Blocks.
    ///
    /// # Errors
    /// [`DatasetError`] if it has no proper header.
    pub(super) fn of(plan: &Plan, text: Box<dyn BufRead + Send>) -> Result<Self, DatasetError> {
        let source = plan.source.clone();
        let limit = plan.limit.and_then(|lines| usize::try_from(lines).ok());
        let lines = RawLines::of(&source, text)?.take(limit.unwrap_or(usize::MAX));
        let (key, topic) = (plan.key, plan.topic.clone());
        Ok(Self { source, lines, key, topic, ahead: together(plan.rate) })
    }

    /// Reads no further ahead than the lines that are sent together; what the thread returns is why the file could not
    /// be read to its end.
    pub(super) fn read(self) -> (mpsc::Receiver<Line>, JoinHandle<Option<DatasetError>>) {
        let Self { source, lines, key, topic, ahead } = self;
        let (to, read) = mpsc::channel(ahead);
        let reading = tokio::task::spawn_blocking(move || {
            for raw in lines {
                let line = match raw.map_err(|refused| unless_fatal(&source, refused)) {
                    Ok(raw) => Line::Message(raw.line, message(&topic, key, &raw)),
                    Err(Ok(refused)) => Line::Refused(refused),
                    Err(Err(broken)) => return Some(broken),
                };
                if to.blocking_send(line).is_err() {
                    return None;
                }
            }
            None
        });
        (read, reading)
    }
}

/// The lines that are read already, at the most so many as are ever sent together; none where more would have to come
/// first.
pub(super) async fn read_already(lines: &mut mpsc::Receiver<Line>) -> Option<Chunk> {
    let mut read = Vec::new();
    let got = timeout(AT_REST, lines.recv_many(&mut read, MAX_CHUNK)).await.unwrap_or(0);
    (got > 0).then(|| Chunk::of(read))
}

fn message(topic: &str, key: KeyKind, raw: &RawLine) -> Message {
    Message {
        topic: topic.to_owned(),
        partition: None,
        key: key.of(raw),
        headers: Vec::new(),
        payload: json(raw),
    }
}

/// Bytes of which no more are read once that is to end.
struct UntilEnded {
    bytes: Box<dyn Read + Send>,
    ended: CancellationToken,
}

impl Read for UntilEnded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // The end of the file would make a line of half a line.
        if self.ended.is_cancelled() {
            return Err(io::Error::other("reading was stopped"));
        }
        self.bytes.read(into)
    }
}

fn bytes(args: &TillArgs) -> io::Result<Box<dyn Read + Send>> {
    match args.is_standard_input() {
        true => Ok(Box::new(io::stdin())),
        false => Ok(Box::new(File::open(&args.file)?)),
    }
}

/// Lines that are sent together: about a tenth of a second's, so that a slow till sends steadily.
pub(super) fn together(rate: u32) -> usize {
    match usize::try_from(rate / 10) {
        _ if rate == 0 => MAX_CHUNK,
        Ok(lines) => lines.clamp(1, MAX_CHUNK),
        Err(_) => MAX_CHUNK,
    }
}
