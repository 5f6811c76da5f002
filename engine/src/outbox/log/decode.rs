//! What the log says, understood: pgoutput's messages, protocol 1.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use common::clock::Timestamp;
use pg_walstream::protocol::parse_keepalive_message;
use pg_walstream::{ColumnData, LogicalReplicationMessage, LogicalReplicationParser, TupleData};

use super::super::append::shard_of;
use super::super::store::DueRow;
use super::LogError;
use super::feed::Mark;

/// What marks begin with: the prefix of the messages that this service writes into the log.
pub(super) const PREFIX: &str = "stockloop";

/// What a frame with a message begins with: its kind, two places and a time.
const FRAME_HEAD: usize = 25;

/// One frame of the stream that the log comes in.
#[derive(Debug)]
pub(super) enum Frame {
    /// A message, and how far the log is with it.
    Message(u64, Bytes),
    /// How far the log is, and whether the server asks how far it is dealt with.
    Alive(u64, bool),
}

impl Frame {
    /// Understands one frame.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn read(mut frame: Bytes) -> Result<Self, LogError> {
        match frame.first() {
            Some(b'w') if frame.len() >= FRAME_HEAD => {
                frame.advance(1);
                let (_, end, _) = (frame.get_u64(), frame.get_u64(), frame.get_i64());
                Ok(Self::Message(end, frame))
            }
            Some(b'k') => {
                let alive = parse_keepalive_message(&frame)?;
                Ok(Self::Alive(alive.wal_end, alive.reply_requested))
            }
            _ => Err(LogError::Odd("a frame of an unknown kind".to_owned())),
        }
    }
}

/// One thing that the log says and that matters here.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made for each event, and taken apart at once")]
pub(super) enum Said {
    /// An event was appended.
    Appended(DueRow),
    /// A transaction's events are all there.
    Committed,
    /// A mark of the session with this name: which of its marks it is, and where.
    Marked(String, u64, Mark),
    /// Nothing that matters.
    Nothing,
}

/// Whether a message tells of a new row, and of nothing that later messages build on.
pub(super) fn is_row(message: &[u8]) -> bool {
    message.first() == Some(&b'I')
}

/// Reads the messages of one session: the log tells what a relation looks like once, before its first row.
pub(super) struct Decoder {
    parser: LogicalReplicationParser,
    /// Those that the log told of; none: another table than that of events, which somebody has published, too.
    relations: HashMap<u32, Option<Columns>>,
    /// The number of the transaction that is told of.
    transaction: i64,
    /// A number that is near those of now: that of the last mark.
    near: i64,
}

/// Where the columns of `outbox_event` are in a row.
struct Columns {
    id: usize,
    event_type: usize,
    key: usize,
    epoch: usize,
    version: usize,
    payload: usize,
    traceparent: usize,
    created_us: usize,
}

impl Decoder {
    /// One that has heard nothing yet.
    pub(super) fn new() -> Self {
        Self {
            parser: LogicalReplicationParser::with_protocol_version(1),
            relations: HashMap::new(),
            transaction: 0,
            near: 0,
        }
    }

    /// Understands one message.
    ///
    /// # Errors
    /// When it is none, or a row is not an event.
    pub(super) fn read(&mut self, message: Bytes) -> Result<Said, LogError> {
        use LogicalReplicationMessage as M;
        let parsed = self.parser.parse_wal_message_bytes(message);
        match parsed.map_err(|error| LogError::Odd(error.to_string()))?.message {
            M::Relation { relation_id, relation_name, columns, .. } => {
                let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
                let is_of_events = &*relation_name == "outbox_event";
                let columns = is_of_events.then(|| Columns::find(&names)).transpose()?;
                self.relations.insert(relation_id, columns);
                Ok(Said::Nothing)
            }
            M::Begin { xid, .. } => {
                self.transaction = whole_number(xid, self.near);
                Ok(Said::Nothing)
            }
            M::Insert { relation_id, tuple } => match self.relations.get(&relation_id) {
                Some(Some(columns)) => Ok(Said::Appended(columns.event(&tuple, self.transaction)?)),
                Some(None) => Ok(Said::Nothing),
                None => Err(LogError::Odd(format!(
                    "a row of relation {relation_id}, which the log did not tell of"
                ))),
            },
            M::Commit { .. } => Ok(Said::Committed),
            M::Message { lsn, prefix, content, .. } if prefix == PREFIX => {
                // What others write under this prefix is theirs.
                let said = read_mark(&content, lsn).unwrap_or(Said::Nothing);
                if let Said::Marked(_, _, mark) = &said {
                    self.near = mark.before.xmax;
                }
                Ok(said)
            }
            _ => Ok(Said::Nothing),
        }
    }
}

/// The number of a transaction of which the log tells the lower 32 bits: the one that is nearest to `near`.
///
/// Before the first mark it is not known; then, nothing that the log brings is used. `near` may be any number: whoever may write
/// into the log may write what looks like a mark.
pub(super) fn whole_number(lower: u32, near: i64) -> i64 {
    near.wrapping_add(i64::from(i64::from(lower).wrapping_sub(near) as i32))
}

/// A mark as it is written: the session's name, its number, and the snapshot, with spaces between.
fn read_mark(content: &[u8], lsn: u64) -> Option<Said> {
    let mut words = std::str::from_utf8(content).ok()?.split(' ');
    let (session, number, before) = (words.next()?, words.next()?, words.next()?);
    let mark = Mark { lsn, before: before.parse().ok()? };
    Some(Said::Marked(session.to_owned(), number.parse().ok()?, mark))
}

impl Columns {
    fn find(names: &[&str]) -> Result<Self, LogError> {
        let place = |name: &str| {
            names.iter().position(|other| *other == name).ok_or_else(|| {
                LogError::Odd(format!("outbox_event has no column {name} in the publication"))
            })
        };
        Ok(Self {
            id: place("id")?,
            event_type: place("event_type")?,
            key: place("key")?,
            epoch: place("epoch")?,
            version: place("version")?,
            payload: place("payload")?,
            traceparent: place("traceparent")?,
            created_us: place("created_us")?,
        })
    }

    fn event(&self, tuple: &TupleData, transaction: i64) -> Result<DueRow, LogError> {
        let column = |place: usize| tuple.get_column(place).filter(|column| !column.is_null());
        let text = |place: usize| {
            column(place).and_then(ColumnData::as_str).ok_or_else(|| {
                LogError::Odd(format!("a row of outbox_event without its column {}", place + 1))
            })
        };
        let number = |place: usize| {
            let text = text(place)?;
            text.parse::<i64>().map_err(|_| LogError::Odd(format!("{text:?} is no number")))
        };
        let (id, key, payload) = (text(self.id)?, text(self.key)?, text(self.payload)?);
        Ok(DueRow {
            id: id.parse().map_err(|_| LogError::Odd(format!("{id:?} is no event's id")))?,
            shard: shard_of(&key),
            attempt: 0,
            size: i32::try_from(payload.len()).unwrap_or(i32::MAX),
            tx: transaction,
            event_type: text(self.event_type)?.into_owned(),
            epoch: number(self.epoch)?,
            version: number(self.version)?,
            traceparent: column(self.traceparent).and_then(ColumnData::as_string),
            created_us: Timestamp::from_micros(number(self.created_us)?),
            key: key.into_owned(),
            payload: payload.into_owned(),
        })
    }
}
