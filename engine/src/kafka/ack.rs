//! Answers on the wire: batches of acknowledgements, one message per source partition and batch.

use common::clock::Timestamp;
use common::ids::EventId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Message, Record};

/// The consumer's word on an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// It has its effect.
    Success,
    /// Commands only: handled, the answer is no.
    Rejected,
    /// A technical fault.
    Failed,
}

impl Verdict {
    /// As written on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Rejected => "REJECTED",
            Self::Failed => "FAILED",
        }
    }
}

/// One acknowledgement. Unknown fields are ignored, so that either side may be newer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ack {
    /// Which event.
    pub event_id: EventId,
    /// Which of its attempts.
    pub attempt: i32,
    /// The verdict.
    pub outcome: Verdict,
    /// `applied`, `duplicate` or `superseded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What went wrong, at most 2 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether a FAILED event may pass later.
    #[serde(default)]
    pub retryable: bool,
    /// The version that the copy holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What the handler has to say to the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// Who answers.
    pub consumer: String,
    /// When it was handled, by the consumer's clock.
    pub processed_at: Timestamp,
    /// The step of its trace that handled it, as a W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The partition of the message that is answered; older consumers do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Where in it that message lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

impl Ack {
    /// A bare verdict on one attempt of an event, by `consumer`.
    pub fn new(
        event_id: EventId,
        attempt: i32,
        outcome: Verdict,
        consumer: &str,
        processed_at: Timestamp,
    ) -> Self {
        Self {
            event_id,
            attempt,
            outcome,
            detail: None,
            error: None,
            retryable: false,
            version: None,
            result: None,
            consumer: consumer.to_owned(),
            processed_at,
            traceparent: None,
            partition: None,
            offset: None,
        }
    }

    /// The same as the answer to this very message.
    #[must_use]
    pub fn of_record(self, record: &Record) -> Self {
        Self { partition: Some(record.partition), offset: Some(record.offset), ..self }
    }

    /// The verdict without what a handler, an error or a trace adds to it; none if there is nothing to leave out.
    #[must_use]
    pub fn bare(self) -> Option<Self> {
        const SHORT: usize = 100;
        let error = self.error.as_ref().is_some_and(|error| error.len() > SHORT);
        let more = error || self.result.is_some() || self.traceparent.is_some();
        let cut = |text: String| text[..text.floor_char_boundary(SHORT)].to_owned();
        more.then(|| Self { result: None, traceparent: None, error: self.error.map(cut), ..self })
    }

    /// About how many bytes it takes on the wire: never less than it does.
    pub fn weight(&self) -> usize {
        // JSON may write a character of a text as six; the rest of the fields are short.
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() * 6);
        let result = self.result.as_ref().map_or(0, |result| result.get().len());
        let trace = self.traceparent.as_ref().map_or(0, String::len);
        500 + self.consumer.len() * 6 + text(&self.detail) + text(&self.error) + result + trace
    }
}

/// The data of an ack message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AckBatch {
    /// In no order that anything depends on.
    pub acks: Vec<Ack>,
}

/// The `ce_type` of ack messages.
const ACK_TYPE: &str = "stockloop.acks";

impl AckBatch {
    /// As a message: keyed by the partition that the events came from. It may go to any partition.
    ///
    /// # Errors
    /// When the batch can't be written as JSON, which would be a flaw of this program.
    pub fn to_message(
        &self,
        id: EventId,
        now: Timestamp,
        consumer: &str,
        topic: &str,
        source_partition: i32,
    ) -> serde_json::Result<Message> {
        Ok(Message {
            topic: topic.to_owned(),
            partition: None,
            key: source_partition.to_string(),
            headers: vec![
                ("ce_specversion", "1.0".to_owned()),
                ("ce_id", id.to_string()),
                ("ce_source", format!("/{consumer}")),
                ("ce_type", ACK_TYPE.to_owned()),
                ("ce_time", now.to_string()),
                ("content-type", "application/json".to_owned()),
            ],
            payload: serde_json::to_vec(self)?,
        })
    }
}

/// Error texts on the wire, in bytes at the most.
const MAX_ERROR: usize = 2048;

/// An error text as it may travel and be stored: cut, and without NUL, which PostgreSQL can't hold.
pub(crate) fn cut_error(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    let end = text.floor_char_boundary(MAX_ERROR);
    text[..end].to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cut_between_characters_and_hold_no_nul() {
        assert_eq!(cut_error("a\0b"), "a\u{fffd}b");
        let long = cut_error(&"ü".repeat(2_000));
        assert!(long.len() <= MAX_ERROR && long.chars().all(|c| c == 'ü'));
    }

    #[test]
    fn the_wire_format_is_stable_and_unknown_fields_are_ignored() {
        let ack = Ack {
            event_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            attempt: 2,
            outcome: Verdict::Failed,
            detail: None,
            error: Some("85123A is in quarantine".to_owned()),
            retryable: true,
            version: None,
            result: None,
            consumer: "order-service".to_owned(),
            processed_at: "2026-01-05T12:00:00.123456Z".parse().unwrap(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            partition: Some(3),
            offset: Some(1_234),
        };
        let json = serde_json::to_string_pretty(&AckBatch { acks: vec![ack] }).unwrap();
        insta::assert_snapshot!(json);
        let newer = json.replacen("\"attempt\"", "\"since_later\": [1], \"attempt\"", 1);
        let read: AckBatch = serde_json::from_str(&newer).unwrap();
        assert_eq!(read.acks[0].attempt, 2);
    }
}
