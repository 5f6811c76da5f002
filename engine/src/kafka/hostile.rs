//! Messages that nobody should send, for the tests of whatever reads them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::str::FromStr;

use common::ids::EventId;
use stockloop_tests::fuzz::{self, Input, Target};

use super::{Envelope, Record, Unreadable, received_for_tests as received, sender_of};

/// What the reason of a refusal names one of.
const PARTS: [&str; 10] = [
    "CloudEvents version",
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "stockloopattempt",
    "stockloopepoch",
    "no data",
];

/// The message that an input is: headers, an empty line, and the data.
pub(crate) fn record_of(input: &Input) -> Record {
    let (head, payload) = input.head_and_body();
    let headers = head.iter().filter_map(|line| header(line)).collect();
    Record { topic: "events".to_owned(), headers, payload, ..Record::default() }
}

/// A name, a colon, and the value; a name that is not UTF-8 does not come this far.
fn header(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(line.get(..colon)?).ok()?;
    let value = line.get(colon + 1..)?;
    Some((name.to_owned(), value.strip_prefix(b" ").unwrap_or(value).to_vec()))
}

#[test]
fn any_message_is_read_or_refused() {
    fuzz::apart(Target::Envelope, |input| {
        let record = record_of(input);
        match Envelope::read(&record) {
            Ok(envelope) => assert_comes_back(&record, envelope),
            Err(unreadable) => assert_told(&record, &unreadable),
        }
    });
}

fn assert_comes_back(record: &Record, envelope: Envelope) {
    let sender = sender_of(record).unwrap();
    assert_eq!(sender.source, envelope.source);
    assert_eq!((sender.id, sender.attempt), (envelope.event.id, envelope.event.attempt));
    let message = envelope.clone().into_message("events", 0);
    assert_eq!(message.key, envelope.event.key);
    assert_eq!(Envelope::read(&received(&message, None)), Ok(envelope));
}

/// Something is named, and whoever can be answered is known.
fn assert_told(record: &Record, unreadable: &Unreadable) {
    assert!(PARTS.iter().any(|part| unreadable.reason.contains(part)), "{unreadable}");
    let id = value::<EventId>(record, "ce_id");
    assert_eq!(unreadable.event, id.zip(value(record, "stockloopattempt")));
}

fn value<T: FromStr>(record: &Record, name: &str) -> Option<T> {
    std::str::from_utf8(record.header(name)?).ok()?.parse().ok()
}
