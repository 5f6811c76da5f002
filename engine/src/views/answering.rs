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
        let ack = |record: &Record, said: Result<Detail, &str>| {
            let event = sender_of(record)?;
            let ack = Ack::new(event.id, event.attempt, Verdict::Success, consumer, now);
            let ack = match said {
                Ok(detail) => Ack { detail: Some(detail.name().to_owned()), ..ack },
                Err(reason) => {
                    Ack { outcome: Verdict::Failed, error: Some(cut_error(reason)), ..ack }
                }
            };
            Some((record.partition, ack.of_record(record)))
        };
        let reasons: BTreeMap<(i32, i64), &str> = refused
            .iter()
            .map(|one| ((one.record.partition, one.record.offset), one.reason.as_str()))
            .collect();
        let reason = |record: &Record| reasons.get(&(record.partition, record.offset)).copied();
        let mut last: BTreeMap<&[u8], Place> = BTreeMap::new();
        for message in messages.iter().filter(|message| reason(message.record).is_none()) {
            let place = last.entry(key(message.record)).or_insert(message.place);
            *place = message.place.max(*place);
        }
        let taken = messages.iter().filter_map(|message| {
            let is_last = last.get(key(message.record)) == Some(&message.place);
            let detail = if is_last { Detail::Applied } else { Detail::Superseded };
            ack(message.record, reason(message.record).map_or(Ok(detail), Err))
        });
        let repeated = again.iter().copied().filter_map(|record| {
            let reason = too_large(record).or_else(|| self.view.refusal(record));
            ack(record, reason.as_deref().map_or(Ok(Detail::Duplicate), Err))
        });
        taken.chain(repeated).collect()
    }
}

fn key(record: &Record) -> &[u8] {
    record.key.as_deref().unwrap_or_default()
}
