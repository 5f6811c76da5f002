//! Sends of a relay from the moment that they are handed over until they are noted.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::relay::{RelayOutcome, RelayParts};
use super::send::PartitionSend;
use super::taking::Batch;
use crate::kafka::SendError;

/// Sends of one partition under way: while the broker answers one, the next is read and waits for its turn.
pub(super) const SENDS: usize = 2;

/// A send that others may wait for: it tells why the broker did not take all of it, if it did not.
type Sending = JoinHandle<Option<SendError>>;

/// Sends that are not noted yet.
pub(super) struct UnderWay {
    /// The shards of their events: what comes next in these waits.
    pub(super) shards: BTreeSet<i16>,
    /// By partition, how many the broker has neither confirmed nor refused.
    pub(super) sends: BTreeMap<i32, usize>,
    /// By partition, the last of them.
    last: BTreeMap<i32, Sending>,
    /// Those that the broker has answered.
    pub(super) answered: Vec<PartitionSend>,
    /// What was noted and not told: the step failed otherwise.
    pub(super) untold: RelayOutcome,
    /// Where the broker's answers come in.
    pub(super) done: mpsc::UnboundedReceiver<PartitionSend>,
    tell: mpsc::UnboundedSender<PartitionSend>,
}

impl Default for UnderWay {
    fn default() -> Self {
        let (tell, done) = mpsc::unbounded_channel();
        Self {
            shards: BTreeSet::new(),
            sends: BTreeMap::new(),
            last: BTreeMap::new(),
            answered: Vec::new(),
            untold: RelayOutcome::default(),
            done,
            tell,
        }
    }
}

impl UnderWay {
    /// Sends `batch`, behind what is on its way to the same partition.
    pub(super) fn send(&mut self, parts: &RelayParts, partition: i32, batch: Batch) {
        self.shards.extend(batch.0.iter().map(|row| row.shard));
        *self.sends.entry(partition).or_default() += 1;
        let (parts, tell) = (parts.clone(), self.tell.clone());
        let previous = self.last.remove(&partition);
        let sending = tokio::spawn(async move {
            let sent = send_behind(previous, &parts, partition, batch).await;
            let trouble = sent.trouble().cloned();
            // Nobody hears it any more when the relay has ended.
            _ = tell.send(sent);
            parts.woken.notify_one();
            trouble
        });
        self.last.insert(partition, sending);
    }

    /// The broker has answered.
    pub(super) fn answer(&mut self, send: PartitionSend) {
        if let Some(sends) = self.sends.get_mut(&send.partition) {
            *sends -= 1;
        }
        self.sends.retain(|_, sends| *sends > 0);
        // Behind what is over, nothing waits, and no trouble of it is met.
        self.last.retain(|partition, _| self.sends.contains_key(partition));
        self.answered.push(send);
    }

    /// All of `shards` is noted.
    pub(super) fn end(&mut self, shards: &BTreeSet<i16>) {
        self.shards.retain(|shard| !shards.contains(shard));
    }
}

/// One after the other, so that what is noted later has the greater offsets; behind trouble nothing is sent.
async fn send_behind(
    previous: Option<Sending>,
    parts: &RelayParts,
    partition: i32,
    (rows, origin): Batch,
) -> PartitionSend {
    let trouble = match previous {
        Some(previous) => previous.await.ok().flatten(),
        None => None,
    };
    match trouble {
        Some(trouble) => PartitionSend::not_begun(partition, rows, origin, &trouble),
        None => parts.send(partition, rows, origin).await,
    }
}
