//! What the producer of a view's messages is answered, where the copy is told to answer: as any consumer answers events.
//!
//! A message is answered if its headers name an event and an attempt. It has its effect, is older than another one that
//! came with it, was taken before, or makes no sense, which another attempt does not change.

use std::collections::BTreeMap;

use common::clock::Timestamp;

use super::{Place, Refused, ViewCopy, ViewMessage, too_large};
use crate::inbox::Detail;
use crate::kafka::{Ack, Record, Verdict, cut_error, sender_of};

impl ViewCopy {
    /// Whether anybody is answered.
    pub(super) fn answers_somebody(&self) -> bool {
        self.answers_as.is_some()
    }

    /// The answers to `messages`, of which some are `refused`, and to those that came `again`.
    pub(super) fn answers(
        &self,
        now: Timestamp,
        messages: &[ViewMessage<'_>],
        refused: &[Refused<'_>],
        again: &[&Record],
    ) -> Vec<(i32, Ack)> {
        let Some(consumer) = &self.answers_as else { return Vec::new() };
        let reasons: BTreeMap<(i32, i64), &str> = refused
            .iter()
            .map(|one| ((one.record.partition, one.record.offset), one.reason.as_str()))
            .collect();
        let reason = |record: &Record| reasons.get(&(record.partition, record.offset)).copied();
        let last = last_places(messages.iter().filter(|one| reason(one.record).is_none()));
        let taken = messages.iter().filter_map(|message| {
            let is_last = last.get(key(message.record)) == Some(&message.place);
            let detail = if is_last { Detail::Applied } else { Detail::Superseded };
            let said = reason(message.record).map_or(Ok(detail), Err);
            answer(consumer, now, message.record, said)
        });
        let repeated = again.iter().copied().filter_map(|record| {
            let reason = too_large(record).or_else(|| self.view.refusal(record));
            answer(consumer, now, record, reason.as_deref().map_or(Ok(Detail::Duplicate), Err))
        });
        taken.chain(repeated).collect()
    }
}

/// The answer to a message, with the partition that it came from; none, if its headers name no event.
fn answer(
    consumer: &str,
    now: Timestamp,
    record: &Record,
    said: Result<Detail, &str>,
) -> Option<(i32, Ack)> {
    let event = sender_of(record)?;
    let ack = Ack::new(event.id, event.attempt, Verdict::Success, consumer, now);
    let ack = match said {
        Ok(detail) => Ack { detail: Some(detail.name().to_owned()), ..ack },
        Err(reason) => Ack { outcome: Verdict::Failed, error: Some(cut_error(reason)), ..ack },
    };
    Some((record.partition, ack.of_record(record)))
}

/// The last place of each key.
fn last_places<'a: 'b, 'b>(
    messages: impl Iterator<Item = &'b ViewMessage<'a>>,
) -> BTreeMap<&'a [u8], Place> {
    let mut last: BTreeMap<&[u8], Place> = BTreeMap::new();
    for message in messages {
        let place = last.entry(key(message.record)).or_insert(message.place);
        *place = message.place.max(*place);
    }
    last
}

fn key(record: &Record) -> &[u8] {
    record.key.as_deref().unwrap_or_default()
}
