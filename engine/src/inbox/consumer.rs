//! The loop around [`Inbox`]: take a batch, apply it, answer, and only then move on.

use std::collections::BTreeMap;

use rdkafka::consumer::CommitMode;
use tokio_util::sync::CancellationToken;

use super::ack_routes::AckRoutes;
use super::apply::{Applied, Inbox};
use crate::alerts::{Condition, NewAlert};
use crate::kafka::{
    Ack, AckBatch, BatchLimits, Consumer, Message, Producer, Record, SendError, cut_error,
};
use crate::worker::Retry;

/// Receives events and answers them.
pub struct InboxConsumer {
    /// What applies them.
    pub inbox: Inbox,
    /// Where they come from.
    pub consumer: Consumer,
    /// What sends the answers.
    pub producer: Producer,
    /// Where the answers go.
    pub routes: AckRoutes,
    /// What one transaction takes.
    pub batch: BatchLimits,
    /// That nothing can be applied or answered, for a reason that is no event's.
    pub hindered: Condition,
}

/// Bytes of acks in one message at the most, counted generously.
pub(crate) const ACK_MESSAGE_BYTES: usize = 512 * 1024;

impl InboxConsumer {
    /// Takes, applies and answers until `stop`; what was taken by then is finished first.
    pub async fn run(&self, stop: &CancellationToken, seen: impl Fn(&Applied) + Send) {
        loop {
            let records = tokio::select! {
                () = stop.cancelled() => return,
                records = self.consumer.next_batch(self.batch) => records,
            };
            self.look().await;
            if records.is_empty() {
                continue;
            }
            match self.take(records, stop).await {
                Some(applied) => seen(&applied),
                None => return,
            }
        }
    }

    /// Looks at partitions that were assigned since: is the database as far as what was answered of them?
    async fn look(&self) {
        let Inbox { positions, db, env, .. } = &self.inbox;
        positions.look(db, env, &self.consumer).await;
    }

    /// One batch to its end; `None` when `stop` came before that: the batch then comes again.
    async fn take(&self, mut records: Vec<Record>, stop: &CancellationToken) -> Option<Applied> {
        let applied = self.apply(&mut records, stop).await?;
        self.answer(&records, self.parts(&applied), stop).await?;
        self.consumer.commit(&records, CommitMode::Async);
        self.hindered.ended("events are applied and answered again").await;
        Some(applied)
    }

    async fn apply(&self, records: &mut Vec<Record>, stop: &CancellationToken) -> Option<Applied> {
        let mut retry = Retry::new("applying events", self.inbox.env(), stop);
        loop {
            // What fails again and again may at last be blamed on single events.
            let repeats = retry.has_failed_often();
            match self.inbox.apply(records.clone(), repeats).await {
                Ok(applied) => return Some(retry.succeeded(applied)),
                Err(error) => {
                    self.tell(records, &error.to_string()).await;
                    retry.pause(&error).await?;
                    if repeats {
                        // Others that pass are the proof against those that do not.
                        self.consumer.more(records, self.batch).await;
                        self.look().await;
                    } else {
                        self.consumer.keep_alive().await;
                    }
                }
            }
        }
    }

    async fn tell(&self, records: &[Record], cause: &str) {
        let topic = records.first().map_or("", |record| record.topic.as_str());
        let alert = NewAlert::not_applied(self.inbox.consumer(), topic, &cut_error(cause));
        self.hindered.met(|_, _| Ok(true), alert).await;
    }

    /// Sends `parts`, the answers to `records`, each until the broker has it: what one partition does not take goes to
    /// another one.
    async fn answer(
        &self,
        records: &[Record],
        mut parts: Vec<AckPart>,
        stop: &CancellationToken,
    ) -> Option<()> {
        let mut retry = Retry::new("answering events", self.inbox.env(), stop);
        let mut before: Option<String> = None;
        while !parts.is_empty() {
            // When stopping, what is known of leaders must do: the batch is finished all the same.
            let _ = stop.run_until_cancelled(self.routes.look()).await;
            let (again, trouble) = self.send(parts).await;
            parts = again;
            let Some(trouble) = trouble else { continue };
            self.tell_unanswered(records, &trouble, before.as_deref()).await;
            retry.pause(&trouble).await?;
            // It may take long, and the group must not miss this member meanwhile.
            self.consumer.keep_alive().await;
            before = Some(trouble);
        }
        retry.succeeded(());
        Some(())
    }

    /// Sends each of `parts` once; returns what is to be sent again, and why if the broker is to blame.
    async fn send(&self, parts: Vec<AckPart>) -> (Vec<AckPart>, Option<String>) {
        let (written, messages): (Vec<AckPart>, Vec<Message>) =
            parts.into_iter().filter_map(|part| self.message(part)).unzip();
        let results = self.producer.send_all(&messages).await;
        let (mut again, mut trouble) = (Vec::new(), None);
        for ((part, message), result) in written.into_iter().zip(&messages).zip(results) {
            match result {
                Ok(_) => self.routes.took(message.partition),
                Err(SendError::Message(error)) => again.extend(part.smaller(&error)),
                Err(error) => {
                    self.routes.refused(message.partition, self.inbox.env().chance());
                    again.push(part);
                    trouble = Some(error.to_string());
                }
            }
        }
        (again, trouble)
    }

    /// Tells that answers don't arrive, for the reason `trouble`; the log has it once more when it changes.
    async fn tell_unanswered(&self, records: &[Record], trouble: &str, before: Option<&str>) {
        let topic = self.routes.topic();
        if before.is_some_and(|before| before != trouble) {
            tracing::warn!(
                topic,
                error = trouble,
                "answers still can't be sent, for another reason"
            );
        }
        self.tell(records, &format!("answers can't be sent to the topic {topic}: {trouble}")).await;
    }

    /// The answers by the partition that their events came from, in messages of limited size.
    fn parts(&self, applied: &Applied) -> Vec<AckPart> {
        let mut by_partition: BTreeMap<i32, Vec<Ack>> = BTreeMap::new();
        for (partition, ack) in &applied.acks {
            by_partition.entry(*partition).or_default().push(ack.clone());
        }
        let parts = |(partition, acks)| {
            let part = move |acks| AckPart { partition, acks: AckBatch { acks } };
            in_parts(acks).into_iter().map(part)
        };
        by_partition.into_iter().flat_map(parts).collect()
    }

    fn message(&self, part: AckPart) -> Option<(AckPart, Message)> {
        let env = self.inbox.env();
        let (id, now, consumer) = (env.event_id(), env.now(), self.inbox.consumer());
        let message = part.acks.to_message(id, now, consumer, self.routes.topic(), part.partition);
        let message =
            message.map(|message| Message { partition: self.routes.of(part.partition), ..message });
        let message = message.inspect_err(|error| tracing::error!(%error, "acks can't be written"));
        Some((part, message.ok()?))
    }
}

/// Answers that travel in one message.
struct AckPart {
    /// The partition that their events came from.
    partition: i32,
    acks: AckBatch,
}

impl AckPart {
    /// What to send instead of a part that the broker takes in no way: its halves, and at last a bare verdict.
    fn smaller(self, error: &str) -> Vec<Self> {
        let Self { partition, acks: AckBatch { mut acks } } = self;
        let part = |acks| Self { partition, acks: AckBatch { acks } };
        if acks.len() > 1 {
            let second = acks.split_off(acks.len() / 2);
            return vec![part(acks), part(second)];
        }
        let bare = acks.into_iter().filter_map(|ack| {
            // The verdict has to arrive; what a handler adds to it must not prevent that.
            let event = ack.event_id;
            let bare = ack.bare();
            match bare {
                Some(_) => tracing::warn!(%event, error, "an ack is too large and is sent without its details"),
                // Its sender hears nothing and tries again: better than a partition that stands still.
                None => tracing::error!(%event, error, "an ack can't be sent and is left out"),
            }
            bare
        });
        bare.map(|ack| part(vec![ack])).collect()
    }
}

/// Cuts acks into parts that stay well below a broker's usual limit of 1 MB.
fn in_parts(acks: Vec<Ack>) -> Vec<Vec<Ack>> {
    let mut parts: Vec<Vec<Ack>> = Vec::new();
    let mut room = 0;
    for mut ack in acks {
        if ack.weight() > ACK_MESSAGE_BYTES {
            // The verdict has to arrive; what a handler adds to it must not prevent that.
            tracing::warn!(event = %ack.event_id, "an ack's result is too large and is left out");
            ack.result = None;
        }
        let weight = ack.weight();
        match parts.last_mut() {
            Some(part) if weight <= room => part.push(ack),
            _ => {
                room = ACK_MESSAGE_BYTES;
                parts.push(vec![ack]);
            }
        }
        room = room.saturating_sub(weight);
    }
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::kafka::Verdict;
    use common::env::Env;

    fn ack(result_bytes: usize) -> Ack {
        let env = Env::system();
        let result = serde_json::value::to_raw_value(&"x".repeat(result_bytes)).unwrap();
        Ack {
            event_id: env.event_id(),
            attempt: 1,
            outcome: Verdict::Success,
            detail: None,
            error: None,
            retryable: false,
            version: None,
            result: Some(result),
            consumer: "c".to_owned(),
            processed_at: env.now(),
            traceparent: None,
            partition: None,
            offset: None,
        }
    }

    #[test]
    fn parts_stay_below_the_limit_and_lose_no_verdict() {
        let acks: Vec<Ack> = [10, 300_000, 300_000, 2_000_000, 10].map(ack).into();
        let ids: Vec<_> = acks.iter().map(|ack| ack.event_id).collect();
        let parts = in_parts(acks);
        for part in &parts {
            let bytes = serde_json::to_vec(&AckBatch { acks: part.clone() }).unwrap().len();
            assert!(bytes <= ACK_MESSAGE_BYTES + 1_000, "{bytes}");
        }
        let sent: Vec<_> = parts.iter().flatten().map(|ack| ack.event_id).collect();
        assert_eq!(sent, ids);
        assert!(parts.iter().flatten().filter(|ack| ack.result.is_none()).count() == 1);
    }
}
