//! What travels: events, and the answers to them.

use std::hint::black_box;

use anyhow::{Result, ensure};
use common::event::Event;
use engine::kafka::{Ack, AckBatch, Envelope, Message, Record, Verdict};
use engine::outbox::check_answers;

use crate::{NOW, Part, event_id, key};

/// Events of one run.
const EVENTS: u16 = 100;

/// Answers of one message.
const ANSWERS: u16 = 500;

const TOPIC: &str = "stockloop.inventory.v1";
const CONSUMER: &str = "order-service";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An event becomes a message; it is made anew each time, as the relay makes it from its row.
pub(crate) fn envelope_encode() -> Part {
    let envelopes: Vec<Envelope> = (0..EVENTS).map(envelope).collect();
    Part::new("envelope-encode", EVENTS, move || {
        for envelope in &envelopes {
            black_box(black_box(envelope).clone().into_message(TOPIC, 3));
        }
        Ok(())
    })
}

/// A message becomes an event again.
pub(crate) fn envelope_decode() -> Part {
    let record = |number| record(envelope(number).into_message(TOPIC, 3), number);
    let records: Vec<Record> = (0..EVENTS).map(record).collect();
    Part::new("envelope-decode", EVENTS, move || {
        for record in &records {
            black_box(Envelope::read(black_box(record))?);
        }
        Ok(())
    })
}

/// Answers become a message.
pub(crate) fn acks_encode() -> Part {
    let acks = answers();
    Part::new("acks-encode", ANSWERS, move || {
        black_box(message(black_box(&acks))?);
        Ok(())
    })
}

/// A message becomes answers again.
pub(crate) fn acks_decode() -> Result<Part> {
    let record = record(message(&answers())?, 0);
    Ok(Part::new("acks-decode", ANSWERS, move || {
        let read = check_answers(black_box(&record));
        ensure!(read.is_ok(), "{read:?}");
        Ok(())
    }))
}

fn envelope(number: u16) -> Envelope {
    let key = key(number);
    let data = format!(
        r#"{{"sku":"{key}","description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":{number},"unit_price_minor":255,"allow_backorder":false,"removed":false,"version":{number},"updated_at":"{NOW}"}}"#
    );
    let event = Event {
        id: event_id(number),
        event_type: "stockloop.inventory.changed".to_owned(),
        key,
        epoch: 1,
        attempt: 1,
        time: NOW,
        traceparent: Some(TRACEPARENT.to_owned()),
        data: data.into_bytes(),
    };
    Envelope { source: "/product-service".to_owned(), event }
}

fn answers() -> AckBatch {
    let ack = |number: u16| Ack {
        event_id: event_id(number),
        attempt: 1,
        outcome: Verdict::Success,
        detail: Some("applied".to_owned()),
        error: None,
        retryable: false,
        version: Some(number.into()),
        result: None,
        consumer: CONSUMER.to_owned(),
        processed_at: NOW,
        traceparent: None,
        partition: Some(3),
        offset: Some(number.into()),
    };
    AckBatch { acks: (0..ANSWERS).map(ack).collect() }
}

fn message(acks: &AckBatch) -> Result<Message> {
    Ok(acks.to_message(event_id(0), NOW, CONSUMER, "stockloop.inventory.acks.v1", 3)?)
}

/// The message as it comes back from the broker.
fn record(message: Message, offset: u16) -> Record {
    let (offset, timestamp) = (offset.into(), Some(NOW));
    Record { partition: 3, offset, timestamp, ..Record::from(message) }
}
