#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bytes::{BufMut, BytesMut};
use stockloop_tests::fuzz::{self, Target};

use super::super::feed::Ended;
use super::*;

const ID: &str = "01936f2e-7c00-7000-8000-000000000001";

/// The columns in another order than the decoder asks for them, and one that it does not know.
const COLUMNS: [&str; 9] =
    ["key", "id", "event_type", "epoch", "version", "news", "payload", "created_us", "traceparent"];

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
        let columns: Vec<&str> = COLUMNS.into_iter().filter(|column| *column != left_out).collect();
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
