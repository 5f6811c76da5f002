//! What comes while the caller is busy with a batch: it is set aside, and begins the next one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{Consumer as _, StreamConsumer};
use tokio::time::{Instant, timeout_at};

use super::record::record;
use super::{Consumer, Record};
use crate::kafka::membership::Membership;

/// How long [`Consumer::keep_alive`] listens.
const LISTEN: Duration = Duration::from_millis(100);

/// Messages that it may set aside: usually one of each partition.
const ASIDE: usize = 64;

/// What came while nobody asked for messages.
#[derive(Default)]
pub(super) struct Aside {
    pub(super) records: VecDeque<Record>,
    /// Where it came from; these partitions give no more until it is taken.
    paused: BTreeSet<i32>,
}

impl Aside {
    /// The paused partitions, once no message is left.
    fn take_paused(&mut self) -> BTreeSet<i32> {
        if self.records.is_empty() { std::mem::take(&mut self.paused) } else { BTreeSet::new() }
    }
}

impl Consumer {
    /// Says to the group that the caller, who is busy with a batch for long, lives; this also lets its client tell how it
    /// fares. Takes a tenth of a second. A message that comes meanwhile begins the next batch.
    pub async fn keep_alive(&self) {
        let inner = self.inner();
        let deadline = Instant::now() + LISTEN;
        // With too many set aside it leaves its group at last, and gets them again.
        while Instant::now() < deadline && self.aside().records.len() < ASIDE {
            match timeout_at(deadline, inner.recv()).await {
                Ok(Ok(message)) => {
                    self.state.received();
                    self.set_aside(&inner, record(&message, &inner.context().held));
                }
                Ok(Err(error)) => tracing::debug!(%error, "nothing could be received"),
                Err(_quiet) => {}
            }
        }
        self.renew_if_due(inner);
    }

    /// Keeps `record`, and has its partition give no more: what its client holds of that is fetched again later.
    fn set_aside(&self, inner: &StreamConsumer<Membership>, record: Record) {
        let partition = record.partition;
        {
            let mut aside = self.aside();
            aside.records.push_back(record);
            aside.paused.insert(partition);
        }
        if let Err(error) = inner.pause(&self.partitions([partition])) {
            tracing::debug!(%error, partition, "a partition can't be paused");
        }
    }

    /// The first message that was set aside; after the last one, their partitions go on.
    pub(super) fn take_aside(&self) -> Option<Record> {
        let (record, paused) = {
            let mut aside = self.aside();
            (aside.records.pop_front()?, aside.take_paused())
        };
        self.resume(paused);
        Some(record)
    }

    /// Lets partitions give messages again; also those that another member has by now: they may come back.
    fn resume(&self, paused: BTreeSet<i32>) {
        if !paused.is_empty()
            && let Err(error) = self.inner().resume(&self.partitions(paused))
        {
            tracing::warn!(%error, "partitions can't be resumed");
        }
    }

    /// Drops what was set aside of `partition`.
    pub(crate) fn drop_aside(&self, partition: i32) {
        let paused = {
            let mut aside = self.aside();
            aside.records.retain(|record| record.partition != partition);
            aside.take_paused()
        };
        self.resume(paused);
    }

    pub(super) fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
