//! Events on the wire: CloudEvents 1.0 in Kafka's binary mode (attributes as `ce_…` headers, data as value).
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>

use common::event::Event;
use common::ids::EventId;
use common::trace_context::TraceContext;
use thiserror::Error;

use super::{Message, Record};

/// An event with its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// `ce_source`: the service that it comes from, as `/product-service`.
    pub source: String,
    /// The event itself.
    pub event: Event,
}

/// Why a message is not an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Unreadable {
    /// The event's id and attempt, if at least those can be read: then an answer can go back.
    pub event: Option<(EventId, i32)>,
    /// What is wrong with it.
    pub reason: String,
}

/// Who sent a message, and for which attempt: as much as can be known of it without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender<'a> {
    /// `ce_source`: the service that it comes from, as `/product-service`.
    pub source: &'a str,
    /// The event.
    pub id: EventId,
    /// Which of its attempts.
    pub attempt: i32,
}

/// Whose event `record` is, by its headers alone; none: it is no event.
pub fn sender_of(record: &Record) -> Option<Sender<'_>> {
    let headers = Headers(record);
    let (id, attempt) = headers.sent()?;
    Some(Sender { source: headers.text("ce_source").ok()?, id, attempt })
}

const CONTENT_TYPE: &str = "application/json";

impl Envelope {
    /// As a message for `topic`.
    pub fn into_message(self, topic: &str, partition: i32) -> Message {
        let event = self.event;
        let mut headers = vec![
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", event.id.to_string()),
            ("ce_source", self.source),
            ("ce_type", event.event_type),
            ("ce_subject", event.key.clone()),
            ("ce_time", event.time.to_string()),
            ("content-type", CONTENT_TYPE.to_owned()),
            ("stockloopattempt", event.attempt.to_string()),
            ("stockloopepoch", event.epoch.to_string()),
        ];
        headers.extend(event.traceparent.map(|traceparent| ("traceparent", traceparent)));
        Message {
            topic: topic.to_owned(),
            partition: Some(partition),
            key: event.key,
            headers,
            payload: event.data,
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Unreadable`], for the dead letters.
    pub fn read(record: &Record) -> Result<Self, Unreadable> {
        let headers = Headers(record);
        let event = headers.sent();
        Self::parse(&headers).map_err(|reason| Unreadable { event, reason })
    }

    fn parse(headers: &Headers<'_>) -> Result<Self, String> {
        let version = headers.text("ce_specversion")?;
        if version.split('.').next() != Some("1") {
            return Err(format!(
                "CloudEvents version {version} is not known here, only 1.x; update this service"
            ));
        }
        let data = headers.0.payload.clone().ok_or("it has no data")?;
        let event = Event {
            id: headers.required("ce_id")?,
            event_type: headers.text("ce_type")?.to_owned(),
            key: headers.text("ce_subject")?.to_owned(),
            epoch: headers.required("stockloopepoch")?,
            attempt: headers.required("stockloopattempt")?,
            time: headers.required("ce_time")?,
            traceparent: headers.traceparent(),
            data,
        };
        Ok(Self { source: headers.text("ce_source")?.to_owned(), event })
    }
}

struct Headers<'a>(&'a Record);

impl<'a> Headers<'a> {
    /// Which event, and which of its attempts.
    fn sent(&self) -> Option<(EventId, i32)> {
        let id = self.required::<EventId>("ce_id").ok();
        id.zip(self.required::<i32>("stockloopattempt").ok())
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        let value = self.0.header(name).ok_or_else(|| format!("the header {name} is missing"))?;
        std::str::from_utf8(value).map_err(|_| format!("the header {name} is not UTF-8"))
    }

    /// Noise counts as none, as W3C asks.
    fn traceparent(&self) -> Option<String> {
        let text = self.text("traceparent").ok()?;
        text.parse::<TraceContext>().is_ok().then(|| text.to_owned())
    }

    fn required<T: std::str::FromStr>(&self, name: &str) -> Result<T, String>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(name)?;
        text.parse().map_err(|error| format!("the header {name} can't be read: {error}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::kafka::{envelope_for_tests as envelope, received_for_tests as received};

    #[test]
    fn the_wire_format_is_stable() {
        let message = envelope().into_message("stockloop.inventory.v1", 3);
        let headers: Vec<String> =
            message.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        insta::assert_snapshot!(headers.join("\n"));
        assert_eq!(message.key, "85123A");
        assert_eq!(Envelope::read(&received(&message, None)).unwrap(), envelope());
    }

    #[test]
    fn what_is_missing_is_named_and_the_id_is_kept_where_it_can_be_read() {
        let whole = received(&envelope().into_message("t", 0), None);
        for name in
            ["ce_id", "ce_type", "ce_subject", "ce_time", "stockloopattempt", "stockloopepoch"]
        {
            let headers = whole.headers.iter().filter(|(key, _)| key != name).cloned().collect();
            let unreadable = Envelope::read(&Record { headers, ..whole.clone() }).unwrap_err();
            assert!(unreadable.reason.contains(name), "{unreadable}");
            let answerable = name != "ce_id" && name != "stockloopattempt";
            assert_eq!(unreadable.event.is_some(), answerable, "{name}");
        }
    }
}
