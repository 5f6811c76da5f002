//! What the log says, understood: pgoutput's messages, protocol 1.

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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use bytes::{BufMut, BytesMut};
    use stockloop_tests::fuzz::{self, Target};

    use super::super::feed::Ended;
    use super::*;

    const ID: &str = "01936f2e-7c00-7000-8000-000000000001";

    /// The columns in another order than the decoder asks for them, and one that it does not know.
    const COLUMNS: [&str; 9] = [
        "key",
        "id",
        "event_type",
        "epoch",
        "version",
        "news",
        "payload",
        "created_us",
        "traceparent",
    ];

    const ROW: [Option<&str>; 9] = [
        Some("TEA"),
        Some(ID),
        Some("test.changed"),
        Some("2"),
        Some("3"),
        Some("whatever"),
        Some("{}"),
        Some("4"),
        Some("00-trace"),
    ];

    fn length(length: usize) -> u16 {
        length.try_into().unwrap()
    }

    /// How pgoutput tells what a relation looks like.
    fn relation(number: u32, name: &str, columns: &[&str]) -> Bytes {
        let mut message = BytesMut::new();
        message.put_u8(b'R');
        message.put_u32(number);
        message.put_slice(b"public\0");
        message.put_slice(name.as_bytes());
        // The end of the name, and the default replica identity.
        message.put_slice(b"\0d");
        message.put_u16(length(columns.len()));
        for column in columns {
            message.put_u8(0);
            message.put_slice(column.as_bytes());
            message.put_u8(0);
            // A text, of any length.
            message.put_u32(25);
            message.put_i32(-1);
        }
        message.freeze()
    }

    /// How pgoutput tells of a new row.
    fn insert(relation: u32, values: &[Option<&str>]) -> Bytes {
        let mut message = BytesMut::new();
        message.put_u8(b'I');
        message.put_u32(relation);
        message.put_u8(b'N');
        message.put_u16(length(values.len()));
        for value in values {
            match value {
                Some(text) => {
                    message.put_u8(b't');
                    message.put_u32(text.len().try_into().unwrap());
                    message.put_slice(text.as_bytes());
                }
                None => message.put_u8(b'n'),
            }
        }
        message.freeze()
    }

    /// How pgoutput tells that a table was emptied.
    fn truncate(relation: u32) -> Bytes {
        let mut message = BytesMut::new();
        message.put_u8(b'T');
        message.put_u32(1);
        // Neither CASCADE nor RESTART IDENTITY.
        message.put_u8(0);
        message.put_u32(relation);
        message.freeze()
    }

    /// How pgoutput tells of what `pg_logical_emit_message` wrote.
    fn written(prefix: &str, content: &str) -> Bytes {
        let mut message = BytesMut::new();
        message.put_u8(b'M');
        message.put_u8(0);
        message.put_u64(5);
        message.put_slice(prefix.as_bytes());
        message.put_u8(0);
        message.put_u32(length(content.len()).into());
        message.put_slice(content.as_bytes());
        message.freeze()
    }

    /// The beginning of the transaction with this number.
    fn begin(transaction: u32) -> Bytes {
        let mut message = BytesMut::new();
        message.put_u8(b'B');
        message.put_u64(1);
        message.put_i64(1);
        message.put_u32(transaction);
        message.freeze()
    }

    /// The end of a transaction.
    fn commit() -> Bytes {
        let mut message = BytesMut::new();
        message.put_u8(b'C');
        message.put_u8(0);
        message.put_u64(1);
        message.put_u64(2);
        message.put_i64(1);
        message.freeze()
    }

    /// One that was told of the table as relation 7.
    fn told() -> Decoder {
        let mut decoder = Decoder::new();
        let said = decoder.read(relation(7, "outbox_event", &COLUMNS)).unwrap();
        assert!(matches!(said, Said::Nothing), "{said:?}");
        decoder
    }

    /// The row with another value in one column.
    fn row_with(column: &str, value: Option<&'static str>) -> [Option<&'static str>; 9] {
        let mut row = ROW;
        row[COLUMNS.iter().position(|name| *name == column).unwrap()] = value;
        row
    }

    /// What is odd in that.
    #[track_caller]
    fn odd(read: Result<Said, LogError>) -> String {
        match read {
            Err(LogError::Odd(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_is_read_with_its_transaction() {
        let mut decoder = told();
        assert!(matches!(decoder.read(begin(9)), Ok(Said::Nothing)));
        let Said::Appended(row) = decoder.read(insert(7, &ROW)).unwrap() else {
            panic!("no event");
        };
        assert_eq!((row.id.to_string().as_str(), row.tx, row.attempt), (ID, 9, 0));
        assert_eq!((row.key.as_str(), row.shard), ("TEA", shard_of("TEA")));
        assert_eq!((row.event_type.as_str(), row.epoch, row.version), ("test.changed", 2, 3));
        assert_eq!((row.payload.as_str(), row.size), ("{}", 2));
        assert_eq!(row.traceparent.as_deref(), Some("00-trace"));
        assert_eq!(row.created_us, Timestamp::from_micros(4));
        assert!(matches!(decoder.read(commit()), Ok(Said::Committed)));
    }

    #[test]
    fn only_a_trace_may_be_absent() {
        for column in COLUMNS {
            let read = told().read(insert(7, &row_with(column, None)));
            match (column, read) {
                ("traceparent", Ok(Said::Appended(row))) => assert_eq!(row.traceparent, None),
                ("news", Ok(Said::Appended(_))) => {}
                (_, read) => {
                    let place = COLUMNS.iter().position(|name| *name == column).unwrap() + 1;
                    let wanted = format!("a row of outbox_event without its column {place}");
                    assert_eq!(odd(read), wanted, "{column}");
                }
            }
        }
        assert!(odd(told().read(insert(7, &ROW[..7]))).ends_with("without its column 8"));
    }

    #[test]
    fn what_is_no_event_is_told() {
        let read = |column, value| odd(told().read(insert(7, &row_with(column, Some(value)))));
        assert_eq!(read("id", "1"), "\"1\" is no event's id");
        assert_eq!(read("epoch", "one"), "\"one\" is no number");
        assert_eq!(read("created_us", ""), "\"\" is no number");
    }

    #[test]
    fn a_table_without_a_column_is_told() {
        let without = |left_out: &str| {
            let columns: Vec<&str> =
                COLUMNS.into_iter().filter(|column| *column != left_out).collect();
            Decoder::new().read(relation(7, "outbox_event", &columns))
        };
        for column in COLUMNS.into_iter().filter(|column| *column != "news") {
            let wanted = format!("outbox_event has no column {column} in the publication");
            assert_eq!(odd(without(column)), wanted);
        }
        assert!(without("news").is_ok());
    }

    #[test]
    fn a_row_of_an_unknown_relation_is_told() {
        let wanted = "a row of relation 9, which the log did not tell of";
        assert_eq!(odd(told().read(insert(9, &ROW))), wanted);
    }

    /// What somebody has published beside the inserts of events.
    #[test]
    fn other_tables_and_other_changes_are_passed_by() {
        let mut decoder = told();
        let others = [relation(8, "product", &["sku"]), insert(8, &[Some("TEA")]), truncate(7)];
        for message in others {
            assert!(matches!(decoder.read(message), Ok(Said::Nothing)));
        }
        assert!(matches!(decoder.read(insert(7, &ROW)), Ok(Said::Appended(_))));
    }

    #[test]
    fn a_mark_is_known_from_what_others_write_into_the_log() {
        let mut decoder = told();
        let mark = written(PREFIX, "me 3 7:9:8");
        let Ok(Said::Marked(session, number, mark)) = decoder.read(mark) else {
            panic!("no mark");
        };
        assert_eq!((session.as_str(), number, mark.lsn), ("me", 3, 5));
        assert_eq!(mark.before, "7:9:8".parse::<Ended>().unwrap());
        for (prefix, content) in [("other", "me 3 7:9:8"), (PREFIX, "me 3"), (PREFIX, "me 3 x")] {
            let read = decoder.read(written(prefix, content));
            assert!(matches!(read, Ok(Said::Nothing)), "{prefix} {content}");
        }
    }

    #[test]
    fn only_rows_are_rows() {
        assert!(is_row(&insert(7, &ROW)));
        for other in [begin(9), commit(), relation(7, "outbox_event", &COLUMNS), Bytes::new()] {
            assert!(!is_row(&other));
        }
        assert!(!is_row(&written(PREFIX, "me 3 7:9:8")));
    }

    #[test]
    fn any_frames_are_understood_or_told() {
        fuzz::apart(Target::Log, |input| {
            let mut decoder = Decoder::new();
            for frame in input.parts() {
                match understand(&mut decoder, frame) {
                    Ok(Said::Appended(row)) => assert_comes_back(&row, frame.len()),
                    Ok(_) => {}
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
        });
    }

    fn understand(decoder: &mut Decoder, frame: &[u8]) -> Result<Said, LogError> {
        match Frame::read(Bytes::copy_from_slice(frame))? {
            Frame::Message(_, message) => decoder.read(message),
            Frame::Alive(..) => Ok(Said::Nothing),
        }
    }

    /// Nothing is in the row that was not in its frame, and the same row is read of one that is written with it.
    fn assert_comes_back(row: &DueRow, frame: usize) {
        let trace = row.traceparent.as_deref();
        let texts = [Some(&*row.key), Some(&*row.event_type), Some(&*row.payload), trace];
        assert!(texts.iter().flatten().map(|text| text.len()).sum::<usize>() < frame);
        assert_eq!((row.shard, row.attempt), (shard_of(&row.key), 0));
        let numbers = [row.epoch, row.version, row.created_us.micros()].map(|n| n.to_string());
        let id = row.id.to_string();
        let [epoch, version, created] = &numbers;
        let written = insert(
            7,
            &[
                Some(&row.key),
                Some(&id),
                Some(&row.event_type),
                Some(epoch),
                Some(version),
                None,
                Some(&row.payload),
                Some(created),
                trace,
            ],
        );
        let Ok(Said::Appended(again)) = told().read(written) else { panic!("it is no row") };
        let row = DueRow { tx: again.tx, ..row.clone() };
        assert_eq!(format!("{again:?}"), format!("{row:?}"));
    }

    #[test]
    fn what_is_no_message_is_told() {
        let whole = insert(7, &ROW);
        for message in [Bytes::new(), Bytes::from_static(b"?"), whole.slice(..whole.len() - 1)] {
            odd(told().read(message));
        }
    }
}
