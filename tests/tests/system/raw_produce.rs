//! Kafka's own protocol, as far as it takes to send a message that no client library makes: Produce, version 3.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::DEADLINE;

/// A header's name and value.
type RawHeader<'a> = (&'a [u8], &'a [u8]);

/// Sends a message with `headers` of any bytes and waits for the broker, the only one at `brokers`, to take it.
pub(crate) fn produce(
    brokers: &str,
    (topic, partition): (&str, i32),
    headers: &[RawHeader<'_>],
    value: &[u8],
) {
    let mut broker = TcpStream::connect(brokers).expect("the broker listens");
    broker.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    broker.write_all(&request(topic, partition, &batch(headers, value))).expect("it can be sent");
    let mut size = [0; 4];
    broker.read_exact(&mut size).expect("the broker answers");
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size)).expect("a small answer")];
    broker.read_exact(&mut answer).expect("a whole answer");
    // Before the error: correlation, topics, the topic's name, partitions, and which one.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "the broker takes it: {answer:?}");
}

fn request(topic: &str, partition: i32, batch: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    // Produce, version 3, correlation 1, no client; no transaction, all replicas.
    request.extend([0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    request.extend(30_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(u16::try_from(topic.len()).expect("a short name").to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(partition.to_be_bytes());
    request.extend(with_size(batch));
    with_size(&request)
}

/// A batch of one record.
fn batch(headers: &[RawHeader<'_>], value: &[u8]) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("a time after 1970").as_millis()).expect("a time");
    let mut checked = Vec::new();
    // No attributes, and the offset of the last record after the first.
    checked.extend([0; 6]);
    checked.extend(now.to_be_bytes());
    checked.extend(now.to_be_bytes());
    // No producer's id, epoch or sequence.
    checked.extend([0xff; 14]);
    checked.extend(1_i32.to_be_bytes());
    checked.extend(record(headers, value));
    let mut batch = vec![0; 8];
    // What follows: the leader's epoch, the format, the checksum, and what that is of.
    let follows = u32::try_from(4 + 1 + 4 + checked.len()).expect("a small batch");
    batch.extend(follows.to_be_bytes());
    batch.extend([0xff, 0xff, 0xff, 0xff, 2]);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

fn record(headers: &[RawHeader<'_>], value: &[u8]) -> Vec<u8> {
    // No attributes, the batch's time and offset, and no key.
    let mut record = vec![0, 0, 0];
    record.extend(varint(-1));
    record.extend(with_varint_size(value));
    record.extend(varint(headers.len().try_into().expect("few headers")));
    for (name, value) in headers {
        record.extend(with_varint_size(name));
        record.extend(with_varint_size(value));
    }
    with_varint_size(&record)
}

fn with_size(bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).expect("not so much").to_be_bytes();
    [&size[..], bytes].concat()
}

fn with_varint_size(bytes: &[u8]) -> Vec<u8> {
    let mut sized = varint(bytes.len().try_into().expect("not so much"));
    sized.extend(bytes);
    sized
}

/// A number in zigzag and seven bits at a time.
fn varint(number: i32) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 31)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// The checksum of Castagnoli.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn the_checksum_is_the_one_of_its_definition() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
