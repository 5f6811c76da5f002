//! The answers to what was sent.

use std::time::Duration;

use common::clock::Timestamp;
use common::telemetry::{Delivery, IgnoredAck, SignedMessage, Step};
use rdkafka::consumer::CommitMode;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::count;
use crate::Engine;
use crate::kafka::{BatchLimits, Consumer, Record};
use crate::outbox::{ACKS_AT_ONCE, AppendWatch, Settlement, Settler, UNTIL_SEEN, seen_within};
use crate::refusals::Refusals;
use crate::worker::Retry;

/// Bytes of an answer that says no more than usual, as it travels.
const USUAL_ACK: usize = 262;

/// What one transaction settles of the ack topic: many messages, since a consumer answers each partition of a batch by
/// one of its own, but usually about as many answers as one statement takes.
const BATCH: BatchLimits = BatchLimits {
    bytes: ACKS_AT_ONCE * USUAL_ACK,
    ..BatchLimits::new(64, Duration::from_millis(1)).hurried()
};

/// What answers are taken with.
struct Settling {
    consumer: Consumer,
    refusals: Refusals,
    /// A listener may append events of its own.
    appends: AppendWatch,
}

impl Engine {
    pub(super) async fn settle_loop(self, consumer: Consumer, stop: CancellationToken) {
        let settler = self.settler();
        let refusals = self.refusals(&self.settings.kafka.outbound_ack_topic);
        let settling = Settling { consumer, refusals, appends: self.outbox.watch_appends() };
        let consumer = &settling.consumer;
        loop {
            let mut records = tokio::select! {
                () = stop.cancelled() => return,
                records = consumer.next_batch(BATCH) => records,
            };
            settler.positions.look(&self.db, &self.env, consumer).await;
            if records.is_empty() {
                continue;
            }
            let unseen = self.settle(&settling, &settler, &mut records, &stop).await;
            let Some(unseen) = unseen else { return };
            if !unseen.is_empty() {
                consumer.commit(&before(&records, &unseen), CommitMode::Async);
                let more = self.settle_unseen(&settling, &settler, unseen, &stop).await;
                let Some(more) = more else { return };
                records.extend(more);
            }
            consumer.commit(&records, CommitMode::Async);
        }
    }

    /// Gives answers again whose events are not seen yet, until they are, or ten seconds have passed; returns the messages
    /// that came meanwhile and were settled with them.
    async fn settle_unseen(
        &self,
        settling: &Settling,
        settler: &Settler,
        mut unseen: Vec<Record>,
        stop: &CancellationToken,
    ) -> Option<Vec<Record>> {
        let (mut more, until) = (Vec::new(), Instant::now() + seen_within(&unseen, self.env.now()));
        while !unseen.is_empty() {
            stop.run_until_cancelled(sleep(UNTIL_SEEN)).await?;
            let is_last = Instant::now() >= until;
            let settler = if is_last { settler.without_waiting() } else { settler.clone() };
            let (given, mut records) = (unseen.len(), unseen);
            unseen = self.settle(settling, &settler, &mut records, stop).await?;
            more.extend(records.drain(given..));
        }
        Some(more)
    }

    /// Settles what `records` say, and tells whom it concerns; returns the answers whose events are not seen yet.
    async fn settle(
        &self,
        Settling { consumer, refusals, appends }: &Settling,
        settler: &Settler,
        records: &mut Vec<Record>,
        stop: &CancellationToken,
    ) -> Option<Vec<Record>> {
        let (began, generation) = (self.env.now(), self.in_flight.generation());
        let settlement = self.settled(settler, consumer, records, stop).await?;
        self.trace_settling(began, &settlement);
        self.after_settling(&settlement, generation);
        // There may be room in flight for what waited for it.
        self.outbox.wake_after(appends);
        refusals.tell(&settlement.signatures).await;
        Some(settlement.unseen)
    }

    async fn settled(
        &self,
        settler: &Settler,
        consumer: &Consumer,
        records: &mut Vec<Record>,
        stop: &CancellationToken,
    ) -> Option<Settlement> {
        let mut retry = Retry::new("settling events", &self.env, stop);
        loop {
            let repeats = retry.has_failed_often();
            match settler.settle(&self.db, records.clone(), repeats).await {
                Ok(settlement) => return Some(retry.succeeded(settlement)),
                Err(error) => {
                    retry.pause(&error).await?;
                    if repeats {
                        // Others that pass are the proof against those that do not.
                        consumer.more(records, BATCH).await;
                        settler.positions.look(&self.db, &self.env, consumer).await;
                    } else {
                        consumer.keep_alive().await;
                    }
                }
            }
        }
    }

    /// Writes down the last step of each trace that is recorded.
    fn trace_settling(&self, began: Timestamp, settlement: &Settlement) {
        for traced in &settlement.advanced.traced {
            let about = || Delivery {
                id: traced.id,
                key: traced.key.clone(),
                attempt: traced.attempt,
                topic: self.settings.kafka.outbound_ack_topic.clone(),
                partition: None,
            };
            let mut traceparent = Some(traced.traceparent.clone());
            if let Some(span) = self.spans.begin(Step::Settle, &mut traceparent, about) {
                let span = span.since(began).with("stockloop.outcome", traced.verdict.name());
                self.spans.end(span.with("stockloop.status", traced.status.name()), None);
            }
        }
    }

    fn after_settling(&self, settlement: &Settlement, generation: u64) {
        let advanced = &settlement.advanced;
        self.in_flight.settled(generation, &advanced.released);
        if !advanced.released.is_empty() {
            // The holders of the shards have room for more.
            self.outbox.neighbours().tell();
        }
        let now = self.env.now();
        for event in &advanced.settled {
            self.metrics.commit_to_ack(now.since(event.created));
            if let Some(processed) = event.processed {
                self.metrics.commit_to_applied(processed.since(event.created));
            }
        }
        let success = advanced.settled.iter().filter(|event| event.success).count();
        self.metrics.settled("success", count(success));
        self.metrics.settled("rejected", count(advanced.settled.len() - success));
        self.metrics.settled("failed", count(advanced.again + advanced.exhausted));
        self.metrics.acks_ignored(IgnoredAck::UnknownEvent, count(settlement.unknown));
        self.metrics.acks_ignored(IgnoredAck::ForeignConsumer, count(settlement.foreign));
        for (outcome, messages) in settlement.signatures.counts() {
            self.metrics.signatures(SignedMessage::Ack, outcome, count(messages));
        }
        if settlement.unknown + settlement.foreign + settlement.unreadable > 0 {
            tracing::warn!(
                unknown = settlement.unknown,
                foreign = settlement.foreign,
                unreadable = settlement.unreadable,
                "some acks were not answers to events of this service"
            );
        }
        if advanced.exhausted > 0 {
            self.alerts.wake();
        }
        advanced.next_due.into_iter().for_each(|due| self.outbox.wake_at(due));
    }
}

/// Those of `records` that no unseen one lies before: they need not come again, whatever becomes of the others.
fn before(records: &[Record], unseen: &[Record]) -> Vec<Record> {
    let is_free = |record: &&Record| {
        let held =
            |other: &Record| other.partition == record.partition && other.offset <= record.offset;
        !unseen.iter().any(held)
    };
    records.iter().filter(is_free).cloned().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::kafka::{Ack, AckBatch, Verdict};

    #[test]
    fn a_full_batch_of_usual_answers_is_one_statement() {
        let (id, at) = (
            "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            "2026-01-05T12:00:00.123456Z".parse().unwrap(),
        );
        let ack = Ack {
            detail: Some("applied".to_owned()),
            version: Some(1_234),
            partition: Some(3),
            offset: Some(1_234_567),
            ..Ack::new(id, 1, Verdict::Success, "order-service", at)
        };
        let acks = vec![ack; ACKS_AT_ONCE];
        let bytes = serde_json::to_vec(&AckBatch { acks }).unwrap().len();
        assert!(bytes.abs_diff(BATCH.bytes) < BATCH.bytes / 8, "{bytes}");
    }
}
