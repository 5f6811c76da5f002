//! The loop around [`Inbox`]: take a batch, apply it, answer, and only then move on.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use tokio_util::sync::CancellationToken;

use super::apply::{Applied, Inbox};
use crate::db::Fault;
use crate::jobs::Retry;
use crate::kafka::{Ack, AckBatch, Consumer, Message, Producer, Record};

/// Receives events and answers them.
pub struct InboxConsumer {
    /// What applies them.
    pub inbox: Inbox,
    /// Where they come from.
    pub consumer: Consumer,
    /// What sends the answers.
    pub producer: Producer,
    /// Where the answers go.
    pub ack_topic: String,
    /// Messages of one transaction at the most.
    pub batch: usize,
    /// How long a batch that is not full waits.
    pub linger: Duration,
}

/// Acks of one message at the most, so that it stays well below a broker's usual limit of 1 MB.
const ACKS_PER_MESSAGE: usize = 250;

/// Bytes of a message's answers at the most, as far as their number can help: results may be long.
const BYTES_PER_MESSAGE: usize = 500_000;

/// What an answer takes besides its texts, in bytes: more than it ever does.
const BYTES_PER_ACK: usize = 512;

/// How often a fault of unknown kind is taken for the world's.
pub const MAX_RIDDLES: u32 = 5;

impl InboxConsumer {
    /// Takes, applies and answers until `stop`; what was taken by then is finished first.
    pub async fn run(&self, stop: &CancellationToken, seen: impl Fn(&Applied) + Send) {
        loop {
            let records = tokio::select! {
                () = stop.cancelled() => return,
                records = self.consumer.next_batch(self.batch, self.linger) => records,
            };
            match self.take(&records, stop).await {
                Some(applied) => seen(&applied),
                None => return,
            }
        }
    }

    /// One batch to its end; `None` when `stop` came before that: the batch then comes again.
    async fn take(&self, records: &[Record], stop: &CancellationToken) -> Option<Applied> {
        let applied = self.apply(records, stop).await?;
        self.answer(self.messages(&applied), stop).await?;
        self.consumer.commit(records, CommitMode::Async);
        Some(applied)
    }

    async fn apply(&self, records: &[Record], stop: &CancellationToken) -> Option<Applied> {
        let mut retry = Retry::new("applying events", self.inbox.env(), stop);
        let mut riddles = 0;
        loop {
            // What fails again and again for an unknown reason is at last blamed on single events.
            match self.inbox.apply(records.to_vec(), riddles >= MAX_RIDDLES).await {
                Ok(applied) => return Some(retry.succeeded(applied)),
                Err(error) => {
                    riddles += u32::from(error.fault() == Fault::Unknown);
                    retry.pause(&error).await?;
                }
            }
        }
    }

    async fn answer(&self, mut messages: Vec<Message>, stop: &CancellationToken) -> Option<()> {
        let mut retry = Retry::new("answering events", self.inbox.env(), stop);
        loop {
            let results = self.producer.send_all(&messages).await;
            let mut sent = results.iter().map(Result::is_ok);
            messages.retain(|_| !sent.next().unwrap_or(false));
            match results.into_iter().find_map(Result::err) {
                None => {
                    retry.succeeded(());
                    return Some(());
                }
                Some(error) => retry.pause(&error).await?,
            }
        }
    }

    fn messages(&self, applied: &Applied) -> Vec<Message> {
        let mut by_partition: BTreeMap<i32, Vec<Ack>> = BTreeMap::new();
        for (partition, ack) in &applied.acks {
            by_partition.entry(*partition).or_default().push(ack.clone());
        }
        let mut messages = Vec::new();
        for (partition, acks) in by_partition {
            for acks in portions(acks) {
                messages.extend(self.message(partition, acks));
            }
        }
        messages
    }

    fn message(&self, partition: i32, acks: Vec<Ack>) -> Option<Message> {
        let env = self.inbox.env();
        let (id, now, consumer) = (env.event_id(), env.now(), self.inbox.consumer());
        let message = AckBatch { acks }.into_message(id, now, consumer, &self.ack_topic, partition);
        message.inspect_err(|error| tracing::error!(%error, "acks can't be written")).ok()
    }
}

/// Cuts answers into what one message each can hold.
fn portions(acks: Vec<Ack>) -> Vec<Vec<Ack>> {
    let mut portions = Vec::new();
    let (mut portion, mut bytes) = (Vec::new(), 0);
    for ack in acks {
        let size = BYTES_PER_ACK
            + ack.error.as_ref().map_or(0, String::len)
            + ack.result.as_ref().map_or(0, |result| result.get().len());
        if portion.len() == ACKS_PER_MESSAGE || bytes + size > BYTES_PER_MESSAGE {
            portions.push(std::mem::take(&mut portion));
            bytes = 0;
        }
        bytes += size;
        portion.push(ack);
    }
    portions.push(portion);
    portions.retain(|portion| !portion.is_empty());
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::env::Env;
    use crate::kafka::Verdict;

    fn ack(result: usize) -> Ack {
        let result = format!("\"{}\"", "x".repeat(result));
        Ack {
            event_id: Env::system().event_id(),
            attempt: 1,
            outcome: Verdict::Success,
            detail: None,
            error: None,
            retryable: false,
            version: None,
            result: serde_json::value::RawValue::from_string(result).ok(),
            consumer: "test".to_owned(),
            processed_at: Timestamp::default(),
        }
    }

    #[test]
    fn long_results_make_more_messages_and_none_is_lost() {
        let sizes = |acks| portions(acks).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), [0_usize; 0]);
        assert_eq!(sizes((0..600).map(|_| ack(10)).collect()), [250, 250, 100]);
        assert_eq!(sizes((0..5).map(|_| ack(200_000)).collect()), [2, 2, 1]);
        assert_eq!(sizes(vec![ack(10), ack(900_000), ack(10)]), [1, 1, 1]);
    }
}
