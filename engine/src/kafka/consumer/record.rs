//! A message as it came.

use common::clock::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};

use crate::kafka::membership::Held;

/// A message as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Where from.
    pub topic: String,
    /// Which partition.
    pub partition: i32,
    /// Where in it.
    pub offset: i64,
    /// Which assignment of the partition to its consumer brought it; 0: none, as where it is no message any more.
    pub assignment: u64,
    /// When it was made, or taken by the broker, as the topic says; unknown where it is no message of a topic any more.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
}

impl Record {
    /// A header's bytes.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }
}

/// The message that a client gave, copied out of it, while the client has what is `held`.
pub(super) fn record(message: &BorrowedMessage<'_>, held: &Held) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_owned()))
            .collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        assignment: held.assignment_of(message.partition()),
        timestamp: sent_at(message),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        payload: message.payload().map(<[u8]>::to_vec),
    }
}

fn sent_at(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let millis = message.timestamp().to_millis()?;
    Some(Timestamp::from_micros(millis.saturating_mul(1_000)))
}
