//! A message as it came.

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::clock::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};

use crate::kafka::Message;
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

/// What a reader gets of a message, but for where it lies, which only a broker knows.
impl From<Message> for Record {
    fn from(message: Message) -> Self {
        let header = |(name, value): (&str, String)| (name.to_owned(), value.into_bytes());
        Self {
            topic: message.topic,
            partition: message.partition.unwrap_or_default(),
            key: Some(message.key.into_bytes()),
            headers: message.headers.into_iter().map(header).collect(),
            payload: Some(message.payload),
            ..Self::default()
        }
    }
}

/// The message that a client gave, copied out of it, while the client has what is `held`.
pub(super) fn record(message: &BorrowedMessage<'_>, held: &Held) -> Record {
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        assignment: held.assignment_of(message.partition()),
        timestamp: sent_at(message),
        key: message.key().map(<[u8]>::to_vec),
        headers: headers(message),
        payload: message.payload().map(<[u8]>::to_vec),
    }
}

/// Its headers. The client's library panics at a name that is not UTF-8, each time that the message comes; nobody here looks
/// for such a header, so it is left out.
fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let header = |place| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(place)));
        let header = header.unwrap_or_else(|_panic| {
            let (topic, offset) = (message.topic(), message.offset());
            tracing::warn!(topic, offset, place, "a header whose name is not UTF-8 is left out");
            None
        });
        header.map(|one| (one.key.to_owned(), one.value.unwrap_or_default().to_owned()))
    };
    (0..headers.count()).filter_map(header).collect()
}

fn sent_at(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let millis = message.timestamp().to_millis()?;
    Some(Timestamp::from_micros(millis.saturating_mul(1_000)))
}
